"""Workers that share a GPU: how many it has room for, and what happens when it has not."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

# Of the memory that is free; what drivers and libraries take in a process besides its tensors.
USED, CONTEXT = 0.9, 1 << 30


def fitting(held: int, free: int) -> int:
    """How many workers a GPU has room for, by one that is there.

    Args:
        held: bytes of its tensors, at most.
        free: bytes that nobody has while it holds them.
    """
    return 1 + int(USED * free / (held + CONTEXT))


def is_out_of_memory(event: Mapping[str, Any]) -> bool:
    """Whether a trial failed since its GPU was full, or its process was killed for memory."""
    error = str(event.get("error", "")).lower()
    return any(words in error for words in ("out of memory", "alloc_failed"))


class Room:
    """Lets workers of each GPU begin, and counts those that are there.

    Args:
        is_measured: whether the first worker of a GPU runs a trial before others join it.
    """

    def __init__(self, is_measured: bool):
        self._is_measured = is_measured
        self._limits: dict[str | None, int] = {}
        self._present: Counter[str | None] = Counter()
        self._changed = threading.Condition()
        self._is_closed = False

    def enter(self, gpu: str | None, place: int) -> bool:
        """Wait until it is known whether a worker may begin.

        Args:
            gpu: its GPU, None for the CPU.
            place: 0 for the first worker of the GPU, and so on.
        """
        with self._changed:
            if self._is_measured and place > 0:
                self._changed.wait_for(lambda: self._is_closed or gpu in self._limits)
                if self._is_closed or place >= self._limits[gpu]:
                    return False
            self._present[gpu] += 1
            return True

    def leave(self, gpu: str | None, unless_last: bool = False) -> bool:
        """Count a worker that ends.

        Args:
            gpu: its GPU.
            unless_last: whether it may not if it is the last one there.

        Returns:
            Whether it may.
        """
        with self._changed:
            if unless_last and self._present[gpu] == 1:
                return False
            self._present[gpu] -= 1
            return True

    def is_shared(self, gpu: str | None) -> bool:
        """Whether several workers are on a GPU."""
        with self._changed:
            return gpu is not None and self._present[gpu] > 1

    def measured(self, gpu: str | None, record: Mapping[str, Any]) -> None:
        """Learn how many workers a GPU has room for from the result of a trial on it."""
        free = record.get("gpu_free_bytes")
        if free is None:
            return
        with self._changed:
            self._limits.setdefault(gpu, fitting(record["peak_memory_bytes"], free))
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
