"""Files in pieces of whole rows, so that memory does not grow with the file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data.sources import BOM, Source

BLOCK_BYTES = 1 << 19
LINES_AT_ONCE = 4096
# Nobody's review is that long: a quote was opened and never closed.
LONGEST_RECORD = 1 << 24

OnBytes = Callable[[Path, bytes], None]


@dataclass(frozen=True)
class Block:
    """Whole rows of a source.

    Attributes:
        first_line: line number of the first row, from 1.
        first_row: number of the first row in the file, from 0.
        parts: the bytes; for line-aligned files those of each file.
    """

    source: Source
    first_line: int
    first_row: int
    parts: tuple[bytes, ...]


def useful_workers(workers: int, *sources: Source) -> int:
    """As many workers as there are blocks: a small file is read before a process has started."""
    blocks = sum(source.num_bytes // BLOCK_BYTES + 1 for source in sources)
    return 1 if blocks <= len(sources) else min(workers, blocks)


def ignore(path: Path, data: bytes) -> None:
    """Do nothing with the bytes of a file."""


def read_blocks(source: Source, on_bytes: OnBytes = ignore) -> Iterator[Block]:
    """The rows of a source, block by block.

    Args:
        source: what to read.
        on_bytes: is given every byte of every file, in order.

    Raises:
        ValueError: line-aligned files differ in length, or a quoted field does not end.
    """
    if source.format == "lines":
        yield from _read_aligned(source, on_bytes)
        return
    is_csv = source.format == "csv"
    line, row, rest = source.first_line, 0, b""
    with source.path.open("rb") as file:
        on_bytes(source.path, file.read(source.offset))
        while True:
            data = file.read(BLOCK_BYTES)
            on_bytes(source.path, data)
            rest += data
            if data:
                end = _end_of_records(rest) if is_csv else rest.rfind(b"\n") + 1
                if not end and len(rest) > LONGEST_RECORD:
                    if is_csv:
                        check_quotes(source.path, line, rest)
                    raise ValueError(
                        f"{source.path}:{line}: a row of over {LONGEST_RECORD >> 20} MiB"
                        + (", expected the closing quote of a field" if is_csv else "")
                    )
            else:
                end = len(rest)
            if end:
                block = Block(source, line, row, (rest[:end],))
                yield block
                line += rest.count(b"\n", 0, end)
                row += _count_records(block.parts[0]) if is_csv else rest.count(b"\n", 0, end)
                rest = rest[end:]
            if not data:
                return


def _end_of_records(data: bytes) -> int:
    """Where the last whole CSV record of ``data`` ends: at a newline outside quotes."""
    end = data.rfind(b"\n")
    quotes = data.count(b'"', 0, end) if end >= 0 else 0
    while end >= 0 and quotes % 2:
        before = data.rfind(b"\n", 0, end)
        quotes -= data.count(b'"', max(before, 0), end)
        end = before
    return end + 1


def check_quotes(path: Path, first_line: int, data: bytes) -> None:
    """Refuse quotes that neither open, close nor are doubled inside a field.

    A CSV reader takes some of them as text, and then sees other rows than the quotes delimit.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    line = first_line
    pieces = data.split(b'"')
    for place, piece in enumerate(pieces):
        if place % 2 == 0:  # between a closing and an opening quote; empty where they are doubled
            behind = place > 0 and piece[:1] not in (b"", b",", b"\r", b"\n")
            before = place + 1 < len(pieces) and piece[-1:] not in (b"", b",", b"\n")
            if behind or before:
                line += 0 if behind else piece.count(b"\n")
                raise ValueError(
                    f"{path}:{line}: a quote inside a field, expected quoted fields with inner "
                    "quotes doubled"
                )
        line += piece.count(b"\n")


def _count_records(data: bytes) -> int:
    return sum(part.count(b"\n") for part in data.split(b'"')[::2])


def _read_aligned(source: Source, on_bytes: OnBytes) -> Iterator[Block]:
    row = 0
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in source.paths]
        while True:
            lines = [list(itertools.islice(file, LINES_AT_ONCE)) for file in files]
            parts = [b"".join(part) for part in lines]
            for path, part in zip(source.paths, parts, strict=True):
                on_bytes(path, part)
            counts = [len(part) for part in lines]
            if len(set(counts)) > 1:
                short, long = counts.index(min(counts)), counts.index(max(counts))
                raise ValueError(
                    f"{source.paths[short]}:{row + counts[short] + 1}: no such line, expected one "
                    f"for each line of {source.paths[long].name}, which has more"
                )
            if not counts[0]:
                return
            if row == 0:
                parts = [part.removeprefix(BOM) for part in parts]
            yield Block(source, row + 1, row, tuple(parts))
            row += counts[0]
