"""A map over many jobs on all cores, in order, with few jobs in flight."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from scl_fairseq.files import signals_held

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 2  # jobs in flight for each worker: enough to keep it busy, and memory small


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
        jobs: taken only as fast as results are; of about the same size, they are dealt in turn.
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
    with _running(workers, function, make_state, arguments) as connections:
        jobs = iter(jobs)
        turns = itertools.cycle(connections)
        pending = list(_deal(jobs, itertools.islice(turns, AHEAD * workers)))
        # Workers answer in the order in which jobs were dealt; each answer makes room for a job.
        while pending:
            connection = pending.pop(0)
            yield _answer(connection)
            pending += _deal(jobs, [connection])


def _deal(jobs: Iterator[Any], to: Iterable[Connection]) -> Iterator[Connection]:
    for connection in to:
        for job in itertools.islice(jobs, 1):
            with _a_worker_may_end():
                connection.send(job)
            yield connection


def _answer(connection: Connection) -> Any:
    with _a_worker_may_end():
        result, error = connection.recv()
    if error is not None:
        raise error
    return result


@contextlib.contextmanager
def _a_worker_may_end() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError):
        raise OSError("a worker process ended unexpectedly; was there enough memory?") from None


@contextlib.contextmanager
def _running(
    workers: int, function: Callable, make_state: Callable[..., Any], arguments: tuple
) -> Iterator[list[Connection]]:
    """Processes that run as long as the block; none is left when it ends."""
    # Forked processes share what is loaded. Elsewhere than on Linux forking is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    processes, connections = [], []
    try:
        # A signal between a fork and what the new process makes of signals could get lost.
        with signals_held():
            for _ in range(workers):
                ours, theirs = context.Pipe()
                work = (os.getpid(), theirs, function, make_state, arguments)
                process = context.Process(target=_work, args=work, daemon=True)
                process.start()
                theirs.close()  # else its end would not be noticed
                processes.append(process)
                connections.append(ours)
        yield connections
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        for connection in connections:
            connection.close()


def _work(
    parent: int,
    connection: Connection,
    function: Callable[[Any, Any], Any],
    make_state: Callable[..., Any],
    arguments: tuple,
) -> None:
    # Ctrl-C reaches every process of a terminal; the parent alone ends the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    # The processes are the parallelism.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # Taken in at once: while both ends of a full pipe wait to send, nothing moves.
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_take_in, args=(connection, jobs), daemon=True).start()
    state = make_state(*arguments)
    while True:
        connection.send(_outcome(function, state, jobs.get()))


def _outcome(function: Callable[[Any, Any], Any], state: Any, job: Any) -> tuple[Any, Any]:
    try:
        return function(state, job), None
    except (ValueError, OSError) as error:
        return None, error
    except Exception:  # a fault of the program: the traceback of this process tells more
        return None, RuntimeError(traceback.format_exc())


def _take_in(connection: Connection, jobs: queue.SimpleQueue) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            jobs.put(connection.recv())


def _end_with(parent: int) -> None:
    """End this process when its parent was killed, which could tell nobody."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
