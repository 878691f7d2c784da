"""One copy of the pre-trained weights in memory for all the workers of a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Hashable, Iterator
from typing import Any

VARIABLE = "SCL_FAIRSEQ_SHARED_WEIGHTS"


def make_file() -> Any | None:
    """An empty file in memory, which is gone with the last process that has it open.

    Returns:
        A file object, to be inherited by the workers under the same number; None where the system
        has no such files.
    """
    if not hasattr(os, "memfd_create"):
        return None
    with contextlib.suppress(OSError):
        return os.fdopen(os.memfd_create("scl-fairseq-weights"), "rb", buffering=0)
    return None


class SharedWeights:
    """A checkpoint that the first worker reads and puts into memory, where all map it.

    Args:
        number: of the file that this process has inherited.
    """

    def __init__(self, number: int):
        self._path = f"/proc/self/fd/{number}"

    @staticmethod
    def inherited() -> SharedWeights | None:
        """That of the sweep that has started this process, if it shares one."""
        number = os.environ.get(VARIABLE)
        return SharedWeights(int(number)) if number else None

    def state_of(self, key: Hashable, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The state of a checkpoint; its tensors are not to be changed.

        Args:
            key: which checkpoint. The first one that any worker asks for is shared; another is
                read by each worker.
            read: reads it from its own file.
        """
        with self._alone():
            found = self._mapped()
            if found is None:
                state = read()
                if not self._write({"key": key, "state": state}):
                    return state
                found = self._mapped() or {"key": key, "state": state}
        return found["state"] if found["key"] == key else read()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        # Opened anew: processes that share an open file would share its lock.
        with open(self._path, "rb") as own:
            fcntl.flock(own, fcntl.LOCK_EX)
            yield

    def _mapped(self) -> dict[str, Any] | None:
        import torch

        try:
            # Written by a process of this sweep, from what fairseq has read with care.
            return torch.load(self._path, map_location="cpu", weights_only=False, mmap=True)
        except (OSError, RuntimeError, EOFError):  # empty, or its writer was killed
            return None

    def _write(self, content: dict[str, Any]) -> bool:
        import torch

        try:
            torch.save(content, self._path)
        except (OSError, RuntimeError):  # no memory for it
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)
            return False
        return True
