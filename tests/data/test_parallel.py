"""The map over processes: order, few jobs ahead, errors, and nobody left behind."""

import multiprocessing
import os
import signal
import time
from contextlib import closing

import pytest

from scl_fairseq.data.parallel import AHEAD, ordered_map


def state(offset):
    return offset


def compute(offset, job):
    if job == "bad":
        raise ValueError("train.tsv:7: bad")
    if job == "fault":
        raise KeyError("a fault of the program")
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02 * (job % 3))  # the later may be ready before the earlier
    return offset + job, b"x" * 300_000  # more than a pipe holds


def results(jobs, workers):
    with closing(ordered_map(compute, jobs, state, (100,), workers)) as found:
        return [number for number, _ in found]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert results(iter(range(23)), workers) == [100 + job for job in range(23)]
    assert results([], workers) == []
    assert not multiprocessing.active_children()


def test_jobs_are_taken_only_as_fast_as_results():
    taken = []

    def jobs():
        for job in range(50):
            taken.append(job)
            yield job

    with closing(ordered_map(compute, jobs(), state, (0,), 2)) as found:
        for done, _ in enumerate(found):
            assert len(taken) <= done + 2 * AHEAD
            if done == 5:
                break
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_ends_the_map_as_it_was_raised(workers):
    with pytest.raises(ValueError, match=r"^train\.tsv:7: bad$"):
        results([1, 2, "bad", 4, 5, 6, 7, 8, 9], workers)
    assert not multiprocessing.active_children()


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError, match=r"in compute(.|\n)*a fault of the program"):
        results([1, "fault"], 2)


def test_a_worker_that_was_killed_is_noticed():
    with pytest.raises(OSError, match="a worker process ended unexpectedly"):
        results([1, 2, "killed", *range(20)], 2)
    assert not multiprocessing.active_children()
