"""Files in pieces of whole rows, so that memory does not grow with the file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from scl_fairseq.data.csv_records import LONGEST_RECORD, check_quotes, whole_records
from scl_fairseq.data.headers import BOM
from scl_fairseq.data.sources import Source
from scl_fairseq.data.streams import OnBytes, ignore, open_bytes
from scl_fairseq.data.table_files import ALIGNED, CSV

BLOCK_BYTES = 1 << 19
LINES_AT_ONCE = 4096


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


def read_blocks(source: Source, on_bytes: OnBytes = ignore) -> Iterator[Block]:
    """The rows of a source, block by block.

    Args:
        source: what to read.
        on_bytes: is given every byte of every file, in order.

    Raises:
        ValueError: line-aligned files differ in length, or a quoted field does not end.
    """
    if source.format == ALIGNED:
        yield from _read_aligned(source, on_bytes)
        return
    is_csv, delimiter = source.format == CSV, source.dialect.delimiter.encode()
    line, row, rest = source.first_line, 0, b""
    with open_bytes(source.path, on_bytes, source.dialect.escaped) as file:
        file.read(source.offset)
        while True:
            data = file.read(BLOCK_BYTES)
            rest += data
            if not data:
                end = count = len(rest)
            elif is_csv:
                end, count = whole_records(rest, delimiter)
            else:
                end = rest.rfind(b"\n") + 1
                count = rest.count(b"\n", 0, end)
            if data and not end and len(rest) > LONGEST_RECORD:
                _refuse_long(source, line, rest)
            if end:
                yield Block(source, line, row, (rest[:end],))
                line += rest.count(b"\n", 0, end)
                row += count
                rest = rest[end:]
            if not data:
                return


def _refuse_long(source: Source, line: int, rest: bytes) -> None:
    if source.format == CSV and not source.is_own:
        check_quotes(source.path, line, rest)
    hint = ", expected the closing quote of a field" if source.format == CSV else ""
    raise ValueError(f"{source.path}:{line}: a row of over {LONGEST_RECORD >> 20} MiB{hint}")


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
