"""Results that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    r"""Write a file at once, UTF-8 with ``\n`` line ends; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_folder(
    folder: Path, is_ours: Callable[[Path], bool] = lambda folder: True
) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends without error.

    An interrupted block leaves ``folder``, and the folders above it, as they were.

    Args:
        folder: the result's place.
        is_ours: whether a folder that is there may be replaced.

    Raises:
        ValueError: the folder that is there holds something else.
    """
    if folder.exists() and not (folder.is_dir() and is_ours(folder)):
        raise ValueError(f"{folder} holds something else; name a new or an empty folder")
    # What is renamed is the folder itself, not a link to it or a name such as "." for it.
    folder = folder.resolve()
    made, temporary = _make_parents(folder.parent), None
    try:
        temporary = Path(
            tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".new", dir=folder.parent)
        )
        temporary.chmod(0o755)  # mkdtemp's 0700 would keep colleagues out of a shared folder
        yield temporary
        _take_place(temporary, folder)
        made = []
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # somebody else put something there meanwhile
                parent.rmdir()


def _take_place(temporary: Path, folder: Path) -> None:
    """Rename ``temporary`` to ``folder``, and remove what was there before."""
    old = temporary.with_suffix(".old")
    # A folder that is not empty cannot be renamed over: it steps aside, and back on failure.
    if folder.exists():
        folder.rename(old)
    try:
        temporary.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _make_parents(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns the new ones, the deepest first."""
    made = []
    while not folder.exists():
        made.append(folder)
        folder = folder.parent
    for parent in reversed(made):
        parent.mkdir(exist_ok=True)
    return made
