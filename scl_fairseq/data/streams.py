"""Bytes of files, packed or not, told to whoever counts or hashes them."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

OnBytes = Callable[[Path, bytes], None]

PACKED = ".gz"
_GZIP_MAGIC = b"\x1f\x8b"


def ignore(path: Path, data: bytes) -> None:
    """Do nothing with the bytes of a file."""


class _Told(io.RawIOBase):
    """A file whose bytes are told as they are read."""

    def __init__(self, path: Path, file: BinaryIO, on_bytes: OnBytes):
        self._path, self._file, self._on_bytes = path, file, on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._on_bytes(self._path, data)
        return len(data)


class _Unpacked(io.RawIOBase):
    """What a gzip file holds."""

    def __init__(self, path: Path, file: BinaryIO):
        self._path, self._file = path, gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            data = self._file.read1(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{self._path}: no whole gzip file ({error})") from None
        buffer[: len(data)] = data
        return len(data)


class _Doubled(io.RawIOBase):
    r"""A file in which inner quotes are ``\"``, as R writes them, with ``""`` instead."""

    def __init__(self, file: BinaryIO):
        self._file, self._ready = file, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if not self._ready:
            data = self._file.read(io.DEFAULT_BUFFER_SIZE)
            while data.endswith(b"\\") and (more := self._file.read(1)):
                data += more
            self._ready = data.replace(b'\\"', b'""')
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def is_packed(path: Path) -> bool:
    """Whether the name of a file says that it is gzip."""
    return path.suffix.casefold() == PACKED


def check_name(path: Path, head: bytes) -> None:
    """Refuse a gzip file whose name does not say so.

    Raises:
        ValueError: its first bytes are those of a gzip file.
    """
    if head.startswith(_GZIP_MAGIC):
        raise ValueError(f"{path}: a gzip file, expected a name that ends in {PACKED}")


@contextmanager
def open_bytes(
    path: Path, on_bytes: OnBytes = ignore, escaped: bool = False
) -> Iterator[io.BufferedReader]:
    r"""Open a file for reading; one that ends in ``.gz`` is unpacked.

    Args:
        path: of the file.
        on_bytes: is given every byte that lies on the disk, in order.
        escaped: its inner quotes are ``\"``: they come as ``""``, which takes as many bytes.

    Raises:
        ValueError: it is no whole gzip file; raised where it is read.
    """
    with path.open("rb", buffering=0) as raw:  # a pipe gives what it has
        file = _Told(path, raw, on_bytes)
        if is_packed(path):
            file = _Unpacked(path, io.BufferedReader(file))
        if escaped:
            file = _Doubled(io.BufferedReader(file))
        yield io.BufferedReader(file)
