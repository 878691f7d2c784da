"""Workers that are copies of one process, without a sweep around them."""

import os
import signal
import tempfile

import pytest

from scl_fairseq.experiments.worker_pool import Slot
from scl_fairseq.experiments.worker_server import WorkerServer


@pytest.fixture(scope="module")
def server():
    with Slot(threads=1).server() as found:
        yield found


@pytest.fixture
def complaints():
    with tempfile.TemporaryFile() as file:
        yield file


def test_a_copy_ends_with_its_tasks(server, complaints):
    copy = server.start(complaints)
    assert copy.poll() is None
    assert os.getpgid(copy.pid) == copy.pid != os.getpgid(0)
    copy.stdin.close()
    assert copy.wait() == copy.poll() == 0
    assert copy.stdout.read() == ""


def test_a_copy_says_what_it_dies_of(server, complaints):
    copy = server.start(complaints)
    print("no task", file=copy.stdin, flush=True)
    assert copy.stdout.read() == ""
    assert copy.wait() == 1
    complaints.seek(0)
    assert complaints.read().decode().splitlines()[-1].startswith("JSONDecodeError")


def test_copies_are_killed_one_by_one(server, complaints):
    first, second = server.start(complaints), server.start(complaints)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert first.stdout.read() == ""
    assert second.poll() is None
    os.killpg(second.pid, signal.SIGTERM)
    assert second.wait() == -signal.SIGTERM


def test_a_server_that_was_killed_is_replaced(complaints):
    with WorkerServer(Slot(threads=1).environment()) as server:
        server.begin()
        before = server._process.pid
        os.kill(before, signal.SIGKILL)
        with pytest.raises(OSError, match="copies of has ended"):
            server.start(complaints)
        copy = server.start(complaints)
        assert server._process.pid != before
        os.killpg(copy.pid, signal.SIGKILL)
        assert copy.wait() == -signal.SIGKILL


def test_threads_and_gpus_are_not_copied():
    assert Slot(threads=1).server() is not None
    assert Slot(threads=2).server() is None
    assert Slot(threads=1, gpu="0").server() is None
