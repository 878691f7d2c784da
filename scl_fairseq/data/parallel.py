"""A map over many jobs on all cores, in order, with few jobs in flight."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 2  # jobs in flight for each worker: enough to keep it busy, and memory small
_state: Any = None


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[Any, Job], Result],
    jobs: Iterable[Job],
    make_state: Callable[..., Any],
    arguments: tuple = (),
    workers: int = 1,
) -> Iterator[Result]:
    """Yield ``function(make_state(*arguments), job)`` for each job, in the order of the jobs.

    Args:
        function: a module's function.
        jobs: taken only as fast as results are.
        make_state: called once a process; a cached function is called before processes fork.
        arguments: of ``make_state``; they can be pickled.
        workers: processes; 1 runs everything in this one.

    Raises:
        OSError: a process ended by itself, e.g. for want of memory.
    """
    state = make_state(*arguments)
    if workers == 1:
        yield from (function(state, job) for job in jobs)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # Forked processes share what is loaded. Elsewhere than on Linux forking is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(
        workers, context, initializer=_start, initargs=(os.getpid(), make_state, arguments)
    )
    try:
        pending: deque = deque()
        for job in jobs:
            pending.append(pool.submit(_run, function, job))
            if len(pending) >= AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise OSError("a worker process ended unexpectedly; was there enough memory?") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(parent: int, make_state: Callable[..., Any], arguments: tuple) -> None:
    global _state
    # Ctrl-C reaches every process of a terminal; the parent alone ends the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The processes are the parallelism.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _state = make_state(*arguments)


def _end_with(parent: int) -> None:
    """End this process when its parent was killed, which could tell nobody."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run(function: Callable[[Any, Job], Result], job: Job) -> Result:
    return function(_state, job)
