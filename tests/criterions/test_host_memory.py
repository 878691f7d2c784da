"""What becomes of freed memory, each in a process of its own: it is a setting of the process."""

import platform
import subprocess
import sys

import pytest

from tests import runs

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's memory")

# As many pages as an update with temporaries of 10 MB meets anew, after the first.
FAULTS = """
import resource, sys
import torch
from scl_fairseq.criterions import host_memory
from benchmarks import roberta
from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig, SentencePredictionSCLCriterion,
)
def small(args, original=roberta.roberta_base_architecture):
    args.encoder_layers, args.encoder_embed_dim, args.encoder_ffn_embed_dim = 1, 32, 64
    args.encoder_attention_heads = 4
    original(args)
roberta.roberta_base_architecture, roberta.VOCABULARY = small, 100
task = roberta.make_task()
model = roberta.make_model(task)
config = SentencePredictionSCLConfig(scl_packed=sys.argv[1] == "packed")
criterion = SentencePredictionSCLCriterion(config, task)
criterion(model, roberta.make_sample(roberta.make_words(4, 8), torch.arange(4) % 2))
def temporaries():
    return [torch.ones(2_500_000) for _ in range(3)]
temporaries()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
temporaries()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kind):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, kind],
        cwd=runs.ROOT,
        env=runs.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_a_packed_training_keeps_freed_memory():
    """Three times 10 MB are 7,324 pages of 4 kB."""
    assert faults("stock") > 1000
    assert faults("packed") < 100
