"""One copy of a checkpoint in memory for several processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from scl_fairseq.experiments import shared_weights
from tests import runs

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no files in memory here")

# Asks for checkpoints by their names; says what it found, and where its numbers lie.
READER = """
import json, sys, time
import torch
from scl_fairseq.experiments.shared_weights import SharedWeights

shared, read = SharedWeights.inherited(), []


def state(name):
    def from_its_file():
        read.append(name)
        time.sleep(float(sys.argv[2]))
        numbers = torch.arange(250_000.0) + len(name)
        return {"model": {"weight": numbers, "tied": numbers}, "cfg": {"name": name}}

    return shared.state_of(name, from_its_file)


found = [state(name) for name in sys.argv[1].split(",")]
model = found[0]["model"]
in_file = [range(*(int(end, 16) for end in line.split()[0].split("-")))
           for line in open("/proc/self/maps") if "scl-fairseq-weights" in line]
print(json.dumps({
    "read": read,
    "names": [state["cfg"]["name"] for state in found],
    "sums": [state["model"]["weight"].double().sum().item() for state in found],
    "is_shared": any(model["weight"].data_ptr() in one for one in in_file),
    "is_tied": model["weight"].data_ptr() == model["tied"].data_ptr(),
}))
"""
EXPECTED = 250_000 * 249_999 / 2


@pytest.fixture
def file():
    with shared_weights.make_file() as made:
        yield made


def reader(file, names, seconds=0):
    return subprocess.Popen(
        [sys.executable, "-c", READER, names, str(seconds)],
        stdout=subprocess.PIPE,
        env={**runs.ENVIRONMENT, shared_weights.VARIABLE: str(file.fileno())},
        cwd=runs.ROOT,
        pass_fds=[file.fileno()],
        text=True,
    )


def said(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(out)


def test_the_first_reads_and_all_map(file):
    processes = [reader(file, "large", seconds=1) for _ in range(3)]
    found = list(map(said, processes))
    assert sorted(one["read"] for one in found) == [[], [], ["large"]]
    for one in found:
        assert one["is_shared"]
        assert one["is_tied"]
        assert one["sums"] == [EXPECTED + 5 * 250_000]


def test_another_checkpoint_is_read_by_itself(file):
    first = said(reader(file, "large,base"))
    assert first["read"] == ["large", "base"]
    second = said(reader(file, "base,large"))
    assert second["read"] == ["base"]
    assert not second["is_shared"]
    assert second["names"] == ["base", "large"]
    assert second["sums"] == [EXPECTED + 4 * 250_000, EXPECTED + 5 * 250_000]


def test_what_a_killed_worker_has_begun_is_done_again(file):
    killed = reader(file, "large", seconds=60)
    deadline = time.monotonic() + 300
    waiting = reader(file, "large")  # for the one that reads
    time.sleep(3)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert time.monotonic() < deadline
    found = said(waiting)
    assert found["is_shared"]
    path = f"/proc/self/fd/{file.fileno()}"
    os.truncate(path, os.stat(path).st_size // 2)  # killed while it wrote
    found = said(reader(file, "large"))
    assert (found["read"], found["is_shared"]) == (["large"], True)


def test_without_memory_for_it_each_reads(file, monkeypatch):
    import torch

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    shared = shared_weights.SharedWeights(file.fileno())
    for _ in range(2):
        assert shared.state_of("large", lambda: {"model": {}}) == {"model": {}}
    assert os.fstat(file.fileno()).st_size == 0


def test_a_process_of_its_own_shares_nothing(monkeypatch):
    monkeypatch.delenv(shared_weights.VARIABLE, raising=False)
    assert shared_weights.SharedWeights.inherited() is None
    monkeypatch.setenv(shared_weights.VARIABLE, "")
    assert shared_weights.SharedWeights.inherited() is None
