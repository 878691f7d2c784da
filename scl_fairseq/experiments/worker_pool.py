"""Warm worker processes that run trials side by side, and outlive one another's crashes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scl_fairseq import utf8
from scl_fairseq.experiments import worker
from scl_fairseq.experiments.own_package import python_code
from scl_fairseq.experiments.worker_server import Copy, WorkerServer

WORKER = "from scl_fairseq.experiments.worker import main; sys.exit(main())"


@dataclass(frozen=True)
class Slot:
    """Where a worker runs.

    Attributes:
        threads: of a worker on a CPU.
        gpu: index or name of its GPU, as in ``CUDA_VISIBLE_DEVICES``; None for the CPU.
    """

    threads: int
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        """Variables of the worker's process."""
        return {
            **utf8.environment(),
            "CUDA_VISIBLE_DEVICES": self.gpu or "",
            "OMP_NUM_THREADS": str(self.threads),
            "TOKENIZERS_PARALLELISM": "false",
        }

    def server(self) -> WorkerServer | None:
        """What its workers, and those of slots like it, can be copies of."""
        is_copied = self.gpu is None and self.threads == 1 and hasattr(os, "fork")
        return WorkerServer(self.environment()) if is_copied else None


def visible_gpus(count: int) -> list[str]:
    """Names of the first GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def make_slots(
    gpus: Sequence[str], cores: int, workers: int | None = None, threads: int | None = None
) -> list[Slot]:
    """Slots on GPUs, by default one on each, or where there is none, one with all cores."""
    if gpus:
        return [Slot(threads or 1, gpus[i % len(gpus)]) for i in range(workers or len(gpus))]
    return [Slot(threads or max(1, cores // (workers or 1)))] * (workers or 1)


def run_tasks(
    tasks: Sequence[Mapping[str, Any]],
    slots: Sequence[Slot],
    on_event: Callable[[Mapping[str, Any]], None],
    server: WorkerServer | None = None,
) -> None:
    """Run every task, each once, as soon as a slot is free.

    Args:
        tasks: for ``worker``; each has its own ``trial``.
        slots: one process in each, all alike. A process that dies is replaced for the next task.
        on_event: is told, in this thread, of every event of the workers. A task ends with ``done``
            or ``failed``.
        server: of the slots, where it has begun before; it is ended at the end.

    Raises:
        Whatever ``on_event`` raises, and KeyboardInterrupt; no worker is left behind then.
    """
    waiting, lock = deque(tasks), threading.Lock()
    events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        server = server or slots[0].server()
        if server is not None:
            stack.enter_context(server)
        workers = [stack.enter_context(_Worker(slot, server)) for slot in slots[: len(tasks)]]

        def serve(own: _Worker) -> None:
            while True:
                with lock:
                    if not waiting:
                        return
                    task = waiting.popleft()
                for event in own.run(task):
                    events.put(event)

        for own in workers:
            threading.Thread(target=serve, args=(own,), daemon=True).start()
        left = len(tasks)
        while left:
            event = events.get()
            left -= event["event"] in (worker.DONE, worker.FAILED)
            on_event(event)


class _Worker:
    """A slot's process, started when there is something to do."""

    def __init__(self, slot: Slot, server: WorkerServer | None):
        self._slot, self._server = slot, server
        self._process: subprocess.Popen | Copy | None = None
        self._is_closed = False
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *exc_info) -> None:
        self._is_closed = True
        self._end()
        self._complaints.close()

    def run(self, task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Events of one task, to its end."""
        try:
            yield from self._run(task)
        except Exception as error:  # a thread that ends in silence would leave the sweep waiting
            self._end()
            yield _failed(task, f"{type(error).__name__}: {error}")

    def _run(self, task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task, allow_nan=False) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == worker.FAILED:
                # Whatever it has left behind in memory must not meet the next trial.
                self._end()
            yield event
            if event["event"] in (worker.DONE, worker.FAILED):
                return
        self._process = None
        yield _failed(task, self._death(process.wait()))

    def _start(self) -> None:
        if self._is_closed:
            raise OSError("the sweep has ended")
        if self._server is not None:
            self._process = self._server.start(self._complaints)
            return
        self._process = subprocess.Popen(
            [sys.executable, "-c", python_code(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            encoding="utf-8",
            env=self._slot.environment(),
            start_new_session=True,  # Ctrl-C is for the sweep, which ends its workers
        )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _death(self, code: int) -> str:
        if code < 0:
            hint = " (out of memory?)" if -code == signal.SIGKILL else ""
            return f"its process was ended by {signal.Signals(-code).name}{hint}"
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").splitlines()
        return f"its process ended with exit code {code}: {lines[-1] if lines else 'no message'}"


def _failed(task: Mapping[str, Any], error: str) -> dict[str, Any]:
    return {"event": worker.FAILED, "trial": task["trial"], "error": error}
