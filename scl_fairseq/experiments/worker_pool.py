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
from dataclasses import dataclass, field, replace
from typing import Any

from scl_fairseq import utf8
from scl_fairseq.experiments import shared_weights, worker
from scl_fairseq.experiments.gpu_room import Room, is_out_of_memory
from scl_fairseq.experiments.own_package import python_code
from scl_fairseq.experiments.worker_server import Copy, WorkerServer

AUTO = "auto"
WORKER = "from scl_fairseq.experiments.worker import main; sys.exit(main())"


@dataclass(frozen=True)
class Slot:
    """Where a worker runs.

    Attributes:
        threads: of a worker on a CPU.
        gpu: index or name of its GPU, as in ``CUDA_VISIBLE_DEVICES``; None for the CPU.
        place: 0 for the first worker of its GPU, and so on.
        is_measured: whether it waits for what the first worker's first trial says of the GPU.
        weights: a file of ``shared_weights`` that all workers have, or None.
    """

    threads: int
    gpu: str | None = None
    place: int = field(default=0, compare=False)
    is_measured: bool = field(default=False, compare=False)
    weights: Any = field(default=None, compare=False, repr=False)

    @property
    def inherited(self) -> tuple[int, ...]:
        """Numbers of the files that the worker's process inherits."""
        return () if self.weights is None else (self.weights.fileno(),)

    def environment(self) -> dict[str, str]:
        """Variables of the worker's process."""
        return {
            shared_weights.VARIABLE: "".join(map(str, self.inherited)),
            **utf8.environment(),
            "CUDA_VISIBLE_DEVICES": self.gpu or "",
            "OMP_NUM_THREADS": str(self.threads),
            "TOKENIZERS_PARALLELISM": "false",
        }

    def server(self) -> WorkerServer | None:
        """What its workers, and those of slots like it, can be copies of."""
        is_copied = self.gpu is None and self.threads == 1 and hasattr(os, "fork")
        return WorkerServer(self.environment(), self.inherited) if is_copied else None


def visible_gpus(count: int) -> list[str]:
    """Names of the first GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def make_slots(
    gpus: Sequence[str],
    cores: int,
    workers: int | None = None,
    threads: int | None = None,
    per_gpu: int | str | None = None,
) -> list[Slot]:
    """Slots on GPUs, by default one on each, or where there is none, one with all cores.

    Args:
        gpus: names of those to use.
        cores: that there are.
        workers: slots in all.
        threads: of each.
        per_gpu: slots on each GPU; ``auto``: up to one for each core, as memory allows.
    """
    if not gpus:
        count = workers or 1
        return _sharing([Slot(threads or max(1, cores // count))] * count)
    if per_gpu is not None:
        number = max(1, cores // len(gpus)) if per_gpu == AUTO else int(per_gpu)
        workers = number * len(gpus)
    found = range(workers or len(gpus))
    return _sharing(
        [
            Slot(threads or 1, gpus[i % len(gpus)], i // len(gpus), is_measured=per_gpu == AUTO)
            for i in found
        ]
    )


def _sharing(slots: list[Slot]) -> list[Slot]:
    """The same with one copy of the weights for all, where there are several."""
    weights = shared_weights.make_file() if len(slots) > 1 else None
    return [replace(slot, weights=weights) for slot in slots]


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
            On a GPU that has no memory left for a task, one slot of several is given up, and the
            task runs again.
        on_event: is told, in this thread, of every event of the workers. A task ends with ``done``
            or ``failed``.
        server: of the slots, where it has begun before; it is ended at the end.

    Raises:
        Whatever ``on_event`` raises, and KeyboardInterrupt; no worker is left behind then.
    """
    waiting, lock = deque(tasks), threading.Lock()
    events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        room = Room(slots[0].is_measured)
        stack.callback(room.close)
        server = server or slots[0].server()
        if server is not None:
            stack.enter_context(server)
        workers = [stack.enter_context(_Worker(slot, server)) for slot in slots[: len(tasks)]]

        def next_task(gpu: str | None) -> Mapping[str, Any] | None:
            with lock:
                if waiting:
                    return waiting.popleft()
                room.leave(gpu)
                return None

        def give_back(task: Mapping[str, Any], gpu: str | None) -> bool:
            with lock:  # whoever finds nothing waiting leaves under it
                waiting.append(task)
                return room.leave(gpu, unless_last=True)

        def serve(own: _Worker) -> None:
            gpu = own.slot.gpu
            if not room.enter(gpu, own.slot.place):
                return
            while task := next_task(gpu):
                is_shared = room.is_shared(gpu)
                for event in own.run(task):
                    room.measured(gpu, event.get("record", {}))
                    if not (is_shared and is_out_of_memory(event)):
                        events.put(event)
                    elif give_back(task, gpu):
                        return

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
        self.slot, self._server = slot, server
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
            env=self.slot.environment(),
            pass_fds=self.slot.inherited,
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
