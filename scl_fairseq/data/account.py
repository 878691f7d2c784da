"""Checksums and progress of files while they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from scl_fairseq.data.sources import Source

OnProgress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Show no progress."""


class Account:
    """Is told of every byte that is read, as ``read_blocks``'s ``on_bytes``.

    Args:
        sources: the files.
        on_progress: is told bytes done, and how many there are in all.
        passes: how often each file is read.
    """

    def __init__(self, sources: Iterable[Source], on_progress: OnProgress, passes: int = 1):
        paths = [path for source in sources for path in source.paths]
        self._hashes = {path: hashlib.sha256() for path in paths}
        self._unread = {path: path.stat().st_size for path in paths}
        self._total = passes * sum(self._unread.values())
        self._on_progress = on_progress
        self._done = 0

    def __call__(self, path: Path, data: bytes) -> None:
        """Take note of the next bytes of a file; the first reading is the one that is hashed."""
        if self._unread[path] > 0:
            self._hashes[path].update(data)
            self._unread[path] -= len(data)
        self._done += len(data)
        self._on_progress(self._done, self._total)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file that was read to its end, by its name."""
        return {path.name: digest.hexdigest() for path, digest in self._hashes.items()}
