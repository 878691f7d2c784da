"""Sentences from a stream, block by block: one a line, or two with a tab between them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

BLOCK_LINES = 4096
BOM = b"\xef\xbb\xbf"


def read_blocks(
    file: BinaryIO,
    name: str,
    num_inputs: int | None = None,
    size: int = BLOCK_LINES,
) -> Iterator[tuple[list[tuple[str, ...]], int]]:
    r"""The lines of a stream, and how many bytes each block took.

    Only ``\n`` ends a line; an empty one is an empty sentence.

    Args:
        file: a binary stream.
        name: what messages call it.
        num_inputs: sentences that a line must have; None: as many as the first one.
        size: lines of a block, the last one apart.

    Raises:
        ValueError: ``name:line: what is wrong, what was expected``.
    """
    expected = f"{num_inputs}, as in training" if num_inputs else ""
    number = 0
    while lines := list(islice(file, size)):
        count = sum(map(len, lines))
        if number == 0:
            lines[0] = lines[0].removeprefix(BOM)
        block = []
        for line in lines:
            number += 1
            fields = tuple(_decoded(line, f"{name}:{number}").split("\t"))
            if len(fields) > 2:
                raise ValueError(
                    f"{name}:{number}: {len(fields)} fields, expected one sentence, or two with a "
                    "tab between them"
                )
            if num_inputs is None:
                num_inputs, expected = len(fields), f"{len(fields)}, as in line {number}"
            if len(fields) != num_inputs:
                sentences = "1 sentence" if len(fields) == 1 else "2 sentences"
                raise ValueError(f"{name}:{number}: {sentences}, expected {expected}")
            block.append(fields)
        yield block, count


def _decoded(line: bytes, place: str) -> str:
    if b"\0" in line:
        raise ValueError(f"{place}: a NUL byte, expected UTF-8 text")
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        found = error.object[error.start]
        raise ValueError(f"{place}: not UTF-8 (byte 0x{found:02x}), expected UTF-8") from None
