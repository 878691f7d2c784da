"""Results that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

# A process that cannot be seen may run in another container of the same name.
LEFT_ALONE_SECONDS = 3600


def write_text(path: Path, text: str) -> None:
    r"""Write a file at once, UTF-8 with ``\n`` line ends; its folder is made if missing."""
    write_bytes(path, as_utf8(text))


def as_utf8(text: str) -> bytes:
    """UTF-8; the bytes of file names that are none are escaped, as JSON does it."""
    return text.encode("utf-8", errors="backslashreplace")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file at once; its folder is made if missing."""
    with replaced_file(path) as file:
        file.write(content)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ValueError: it holds something else; the message names the file.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when the block ends without error.

    Its folder is made if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """The same content under a second name, without a copy where the file system can do so."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP wait until the block has ended."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def replaced_folder(
    folder: Path, is_ours: Callable[[Path], bool] = lambda folder: True
) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends without error.

    An interrupted block leaves ``folder``, and the folders above it, as they were.

    Args:
        folder: the result's place.
        is_ours: whether a folder that is there, and is not empty, may be replaced.

    Raises:
        ValueError: the folder that is there holds something else, or cannot be replaced.
    """
    place = folder.resolve()  # not a link to it, or a name such as "."
    _check_place(folder, place, is_ours)
    made: list[Path] = []
    temporary = None
    try:
        _make_parents(place.parent, made)
        with contextlib.suppress(OSError):  # another run may be at it
            _sweep(place)
        prefix = f"{_prefix(place)}{os.getpid()}."
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".new", dir=place.parent))
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp's 0700 would keep colleagues out
        yield temporary
        _check_place(folder, place, is_ours)  # somebody may have put something there meanwhile
        old = temporary.with_suffix(".old")
        with signals_held():
            _swap(temporary, place, old)
            made = []
            shutil.rmtree(old, ignore_errors=True)
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        for parent in reversed(made):
            with contextlib.suppress(OSError):  # somebody put something there meanwhile
                parent.rmdir()


def _check_place(folder: Path, place: Path, is_ours: Callable[[Path], bool]) -> None:
    if not place.exists():
        return
    if place.is_dir() and not any(place.iterdir()):
        pass
    elif not place.is_dir():
        raise ValueError(f"{folder} is a file; name a new or an empty folder")
    elif not is_ours(place):
        raise ValueError(f"{folder} holds something else; name a new or an empty folder")
    if os.path.ismount(place):
        raise ValueError(f"{folder} is a mount point and cannot be replaced; name a folder in it")
    if place in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(f"{folder} holds the current folder and cannot be replaced")


def _prefix(place: Path) -> str:
    host = re.sub(r"\W", "_", socket.gethostname())
    return f".{place.name[:100]}.{host}."


def _sweep(place: Path) -> None:
    """Remove what killed runs of this machine have left beside ``place``."""
    left = re.compile(re.escape(_prefix(place)) + r"(\d+)\.\w+\.(new|old)")
    for path in place.parent.iterdir():
        match = left.fullmatch(path.name)
        if not match or _is_running(int(match[1])):
            continue
        if match[2] == "old" and not place.exists():  # killed between the two renames
            path.rename(place)
        elif time.time() - path.stat().st_mtime > LEFT_ALONE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _swap(temporary: Path, place: Path, old: Path) -> None:
    # A folder that is not empty cannot be renamed over: it steps aside, and back on failure.
    try:
        if place.exists():
            place.rename(old)
        temporary.rename(place)
    except BaseException:
        if old.exists() and not place.exists():
            old.rename(place)
        raise


def _make_parents(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it; ``made`` receives the new ones, the highest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
        made.append(parent)
