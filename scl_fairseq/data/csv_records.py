"""Records of CSV: where they end, and their fields."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

# Nobody's review is that long: a quote was opened and never closed.
LONGEST_RECORD = 1 << 24

# A field in quotes, whose own quotes are doubled. Not the beginning of one that is cut behind the
# first of two quotes.
WRAPPED = rb'"[^"]*(?:""[^"]*)*"(?!")'
# A lone CR is part of a field, of which csv would make the end of a row. No UTF-8 text holds this.
_LONE_RETURN, _STAND_IN = re.compile(r"\r(?!\n)"), "\udc0d"
_WRAPPED = re.compile(WRAPPED)


def whole_records(data: bytes, delimiter: bytes) -> tuple[int, int]:
    """Where the last whole record of ``data`` ends, and how many there are.

    Args:
        data: begins with a record.
        delimiter: a quote opens a field only behind it, or behind a newline.
    """
    end = count = at = 0
    while True:
        quote = data.find(b'"', at)
        newline = data.rfind(b"\n", at, None if quote < 0 else quote)
        if newline >= 0:
            end = newline + 1
            count += data.count(b"\n", at, end)
        if quote < 0:
            return end, count
        at = quote + 1
        if quote and data[quote - 1 : quote] not in (delimiter, b"\n"):
            continue  # text
        field = _WRAPPED.match(data, quote)
        if not field:
            return end, count
        at = field.end()


def check_quotes(path: Path, first_line: int, data: bytes) -> None:
    """Refuse quotes that neither open, close nor are doubled inside a field.

    The official reviews have none; a file with some is another, or was damaged.

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


def read_records(
    path: Path, first_line: int, text: str, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """The records of a text: the line on which each begins, and its fields.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    csv.field_size_limit(LONGEST_RECORD)
    has_returns = bool(_LONE_RETURN.search(text))
    if has_returns:
        text = _LONE_RETURN.sub(_STAND_IN, text)
    # Only newlines are counted as lines: a StringIO would end one at a lone CR too.
    lines = (line + "\n" for line in text.removesuffix("\n").split("\n"))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = first_line
    try:
        for fields in reader:
            if has_returns:
                fields = [field.replace(_STAND_IN, "\r") for field in fields]
            yield line, fields
            line = first_line + reader.line_num
    except csv.Error as error:
        raise ValueError(
            f"{path}:{line}: malformed CSV ({error}), expected quoted fields with inner quotes "
            "doubled"
        ) from None
