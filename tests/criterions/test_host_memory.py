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
import json, sys
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
def held(what="VmHWM"):  # resource's ru_maxrss would begin with that of the starting process
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(what))
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
# Have glibc give back all that is larger than 1 MB. What it does by itself depends on the largest
# tensor that was freed so far, and on what lies after it: on the processor and its libraries.
RETURN = """
import ctypes
assert ctypes.CDLL(None).mallopt(-3, 2**20) == 1  # M_MMAP_THRESHOLD
"""
# How much memory leaves the process when temporaries of 30 MB are freed.
RETURNED = """
for _ in range(3):
    temporaries = [torch.ones(2_500_000) for _ in range(3)]
    alive = held("VmRSS")
    del temporaries
print(alive - held("VmRSS"))
"""


def measured(script, options, *sizes):
    """The number that a script prints; sizes: layers, width, sentences, tokens of each."""
    words = [sys.executable, "-c", script, json.dumps(options), *map(str, sizes)]
    done = subprocess.run(
        words, cwd=runs.ROOT, env=runs.ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_many_chunks_do_not_scatter_memory():
    # Activations outweigh weights here: computing a chunk again costs twice its memory; with
    # memory scattered, thrice.
    chunk, chunks = (
        measured(FORWARD + MEMORY, {"scl_chunk_size": 16}, 3, 256, size, 64)
        for size in (16, 12 * 16)
    )
    assert chunks < 2.5 * chunk


def test_a_packed_training_keeps_freed_memory():
    script = RETURN + FORWARD + RETURNED
    assert measured(script, {}, 1, 32, 4, 8) > 25e6
    assert measured(script, {"scl_packed": True}, 1, 32, 4, 8) < 5e6
