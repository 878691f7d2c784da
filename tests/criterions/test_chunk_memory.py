"""Memory of a large batch in chunks, of a process of its own."""

import json
import platform
import subprocess
import sys

import pytest

from tests import runs

# An encoder whose activations outweigh its weights; the first argument is the size of a batch.
UPDATE = """
import json, sys
import torch
from benchmarks import roberta
from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig, SentencePredictionSCLCriterion,
)
def small(args, original=roberta.roberta_base_architecture):
    args.encoder_layers, args.encoder_embed_dim, args.encoder_ffn_embed_dim = 3, 256, 1024
    args.encoder_attention_heads = 4
    original(args)
roberta.roberta_base_architecture, roberta.VOCABULARY = small, 1000
task = roberta.make_task()
model = roberta.make_model(task)
criterion = SentencePredictionSCLCriterion(SentencePredictionSCLConfig(scl_chunk_size=16), task)
size = int(sys.argv[1])
sample = roberta.make_sample(roberta.make_words(size, 64), torch.arange(size) % 2)
def held():  # resource's ru_maxrss would begin with that of the process that started this one
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
before = held()
loss, _, _ = criterion(model, sample)
loss.backward()
print(json.dumps(held() - before))
"""


def extra(size):
    done = subprocess.run(
        [sys.executable, "-c", UPDATE, str(size)],
        cwd=runs.ROOT,
        env=runs.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="measured with glibc's memory")
def test_many_chunks_do_not_scatter_memory():
    """In so small a model computing a chunk again costs twice its memory; scattered, thrice."""
    assert extra(12 * 16) < 2.5 * extra(16)
