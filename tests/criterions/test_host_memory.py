"""Memory of a training on a CPU, each in a process of its own: it is the process's."""

import json
import platform
import subprocess
import sys

import pytest

from tests import runs

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's memory")

# Makes a criterion and runs it on so many sentences; what follows in a script has `loss`.
FORWARD = """
import json, resource, sys
import torch
from benchmarks import roberta
from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig, SentencePredictionSCLCriterion,
)
layers, width, size, tokens = map(int, sys.argv[2:])
def small(args, original=roberta.roberta_base_architecture):
    args.encoder_layers, args.encoder_embed_dim = layers, width
    args.encoder_ffn_embed_dim, args.encoder_attention_heads = 4 * width, 4
    original(args)
def held():  # resource's ru_maxrss would begin with that of the process that started this one
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
roberta.roberta_base_architecture, roberta.VOCABULARY = small, 1000
task = roberta.make_task()
model = roberta.make_model(task)
config = SentencePredictionSCLConfig(**json.loads(sys.argv[1]))
criterion = SentencePredictionSCLCriterion(config, task)
sample = roberta.make_sample(roberta.make_words(size, tokens), torch.arange(size) % 2)
before = held()
loss, _, _ = criterion(model, sample)
"""
# How much memory an update takes.
MEMORY = "loss.backward(); print(held() - before)"
# How many pages temporaries of 30 MB meet anew, after some times: one may have found no place.
FAULTS = """
def temporaries():
    return [torch.ones(2_500_000) for _ in range(3)]
for _ in range(3):
    temporaries()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
temporaries()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def measured(script, options, *sizes):
    """The number that a script prints; sizes: layers, width, sentences, tokens of each."""
    words = [sys.executable, "-c", FORWARD + script, json.dumps(options), *map(str, sizes)]
    done = subprocess.run(
        words, cwd=runs.ROOT, env=runs.ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_many_chunks_do_not_scatter_memory():
    # Activations outweigh weights here: computing a chunk again costs twice its memory; with
    # memory scattered, thrice.
    chunk, chunks = (
        measured(MEMORY, {"scl_chunk_size": 16}, 3, 256, size, 64) for size in (16, 12 * 16)
    )
    assert chunks < 2.5 * chunk


def test_a_packed_training_keeps_freed_memory():
    """30 MB are 7,324 pages of 4 kB."""
    assert measured(FAULTS, {}, 1, 32, 4, 8) > 1000
    assert measured(FAULTS, {"scl_packed": True}, 1, 32, 4, 8) < 100
