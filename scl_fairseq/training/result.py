"""The folder that a training leaves: claimed, held, and what it says of itself.

model/
    checkpoint_best.pt  text.json  ...   what scl-predict and the others take
    data/                                binarised, as the training read it
    train.json                           what was asked, chosen and reached
    train.log                            fairseq's log
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scl_fairseq.experiments.result_files import LOCK, exclusive
from scl_fairseq.files import read_json, write_text
from scl_fairseq.text.description import REPORT

RECORD, LOG, DATA = "train.json", "train.log", "data"
CHECKPOINT = "checkpoint_best.pt"
# What is written goes by such names before it is whole (files.py).
_HALVES = re.compile(rf"\.({DATA}\..+\.(new|old)|{re.escape(RECORD)}\.\d+\.tmp)")


def read_record(out: Path) -> dict[str, Any]:
    """What an earlier call has left; nothing where there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = out / RECORD
    return read_json(path) if path.is_file() else {}


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write it, whole or not at all."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(out / RECORD, text + "\n")


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold the folder against other calls; it is made, and is gone where nothing came of it.

    Raises:
        ValueError: it holds something else, or is in use.
        OSError: it cannot be made.
    """
    check_place(out)
    made = _make(out)
    before = set(out.iterdir())
    try:
        with exclusive(out, "another scl-train"):
            try:
                yield
            finally:
                if not (out / RECORD).exists():
                    _empty(out, before)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


@contextlib.contextmanager
def forgotten_where_nothing_came(out: Path) -> Iterator[None]:
    """A training that fails before its first save has not been: others may follow in its place."""
    try:
        yield
    except (ValueError, OSError):
        if not any(out.rglob("checkpoint*.pt")):
            for name in (RECORD, LOG):
                (out / name).unlink(missing_ok=True)
        raise


def check_place(out: Path) -> None:
    """Refuse a folder of something else.

    Raises:
        ValueError: it is a file, or holds what no training has left.
    """
    if os.pathsep in str(out):
        raise ValueError(f"--out {out}: fairseq splits paths at {os.pathsep!r}; name another")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a new or an empty folder")
    if not out.exists() or (out / RECORD).is_file():
        return
    there = sorted(path.name for path in out.iterdir() if not _is_ours(path))
    if there:
        raise ValueError(
            f"--out {out} holds something else ({there[0]}); name a new or an empty folder"
        )


def _is_ours(path: Path) -> bool:
    """Whether a call that was killed before it wrote its record has left this."""
    if path.name == DATA:
        return (path / REPORT).is_file()
    return path.name == LOCK or bool(_HALVES.fullmatch(path.name))


def check_room(out: Path, needed: int) -> None:
    """Refuse to begin where the disk will be full before the end.

    Raises:
        ValueError: fewer bytes than are needed are free.
    """
    place = out
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ValueError(
            f"--out {out}: the training needs about {needed / 1e6:.0f} MB, and {free / 1e6:.0f} "
            "MB are free there; make room, or name another disk"
        )


def _make(out: Path) -> list[Path]:
    """Make the folder; returns those that were missing, the innermost first."""
    missing, folder = [], out
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    out.mkdir(parents=True, exist_ok=True)
    return missing


def _empty(out: Path, before: set[Path]) -> None:
    """Take away what a call that came to nothing has written; ``before`` was there already."""
    for path in set(out.iterdir()) - before:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
