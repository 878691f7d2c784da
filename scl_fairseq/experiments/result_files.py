"""``results.jsonl`` and ``failures.jsonl``: a line a trial, whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RESULTS, FAILURES, CONFIG = "results.jsonl", "failures.jsonl", "config.yaml"
TRIALS, LOG, LOCK = "trials", "train.log", ".lock"


class LineFile:
    """A file of JSON lines that this process alone appends to.

    What a killed process may have left of a line is cut off when the file is opened.

    Args:
        path: it need not exist.

    Raises:
        ValueError: a line is no JSON object; the message names it.
    """

    def __init__(self, path: Path):
        self._path = path
        self.records = _repaired(path) if path.exists() else []

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line; it is on disk when this returns."""
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            written = os.write(file, line)
            if written != len(line):  # a full disk
                os.ftruncate(file, os.fstat(file).st_size - written)
                raise OSError(f"{self._path}: no space for another line")
            os.fsync(file)
        finally:
            os.close(file)
        self.records.append(dict(record))


def _repaired(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    records = []
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or "trial" not in record:
            raise ValueError(f"{path}:{number}: not a trial's line")
        records.append(record)
    if whole != len(data):
        os.truncate(path, whole)
    return records


@contextlib.contextmanager
def exclusive(folder: Path, by: str = "another scl-sweep") -> Iterator[None]:
    """Hold a folder against other processes of this machine; a kill lets go of it.

    Args:
        folder: is there.
        by: who would hold it, for the message.

    Raises:
        ValueError: another process holds it.
    """
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is in use by {by}") from None
        except OSError as error:  # some network file systems have no locks
            raise ValueError(f"{folder} cannot be locked: {error}") from None
        yield
    finally:
        os.close(file)
