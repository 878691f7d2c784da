"""From the text of a file to the fields of its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scl_fairseq.data.csv_records import check_quotes, read_records
from scl_fairseq.data.table_files import ALIGNED, CSV, JSONL, TSV

if TYPE_CHECKING:
    from scl_fairseq.data.sources import Source

LONGEST_SHOWN = 200  # characters of a file in a message
_NO_OBJECT = "expected a JSON object, one a line"

Row = tuple[int, Sequence[str]]


def shown(text: str) -> str:
    """A text, as far as a message can hold it."""
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def fields_of(source: Source, first_line: int, parts: Sequence[bytes]) -> Iterator[Row]:
    """The line number and the fields of each row.

    Args:
        source: says how rows are laid out.
        first_line: number of the first line of ``parts``.
        parts: whole rows; of line-aligned files the same lines of each.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    texts = [
        decoded(path, first_line, part)
        for path, part in zip(source.paths, parts, strict=False)  # perhaps the first file alone
    ]
    if source.format == CSV and not source.is_own:
        check_quotes(source.path, first_line, parts[0])
    read = {TSV: _tsv_fields, CSV: _csv_fields, JSONL: _json_fields, ALIGNED: _aligned_fields}
    return read[source.format](source, first_line, texts)


def decoded(path: Path, first_line: int, data: bytes) -> str:
    """A part of a file as text.

    Raises:
        ValueError: it is not UTF-8, or has a NUL byte.
    """
    nul = data.find(b"\0")
    if nul >= 0:
        line = first_line + data.count(b"\n", 0, nul)
        raise ValueError(f"{path}:{line}: a NUL byte, expected UTF-8 text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise ValueError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}), expected UTF-8"
        ) from None


def read_object(path: Path, line: int, text: str) -> dict[str, Any]:
    """The JSON object of a line; numbers are kept as they are written.

    Raises:
        ValueError: it is none, or has a key twice.
    """
    place = f"{path}:{line}"

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key {twice!r} is there twice")
        return found

    try:
        found = json.loads(
            text,
            object_pairs_hook=as_dict,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        why = f"{error.msg} at column {error.colno}" if text.strip() else "blank line"
        raise ValueError(f"{place}: {why}, {_NO_OBJECT}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: {shown(str(error))}, {_NO_OBJECT}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{place}: {_kind(found)}, {_NO_OBJECT}")
    return found


class _Number(str):
    """A number of JSON, in its own digits."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _lines(text: str) -> list[str]:
    """Only newlines end a line: a lone CR or a Unicode separator is part of a sentence."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _tsv_fields(source: Source, first_line: int, texts: list[str]) -> Iterator[Row]:
    for line, text in enumerate(_lines(texts[0]), start=first_line):
        yield line, text.split(source.dialect.delimiter)


def _csv_fields(source: Source, first_line: int, texts: list[str]) -> Iterator[Row]:
    return read_records(source.path, first_line, texts[0], source.dialect.delimiter)


def _aligned_fields(source: Source, first_line: int, texts: list[str]) -> Iterator[Row]:
    return enumerate(zip(*map(_lines, texts), strict=True), start=first_line)


def _json_fields(source: Source, first_line: int, texts: list[str]) -> Iterator[Row]:
    for line, text in enumerate(_lines(texts[0]), start=first_line):
        found = read_object(source.path, line, text)
        fields = []
        for place, name in enumerate(source.columns):
            value = found.get(name)
            if place in (source.label_at, source.unlabelled_at):
                fields.append(_label_of(source, line, name, value))
            else:
                fields.append(_text_of(source, line, name, value, name in found))
        yield line, fields


def _text_of(source: Source, line: int, name: str, value: Any, is_there: bool) -> str:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"{source.path}:{line}: a NUL byte in {name!r}, expected text")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(
                    f"{source.path}:{line}: half of a surrogate pair in {name!r}, expected text"
                ) from None
        return value
    found = _kind(value) if is_there else "nothing"
    raise ValueError(f"{source.path}:{line}: {found} as {name!r}, expected text")


def _label_of(source: Source, line: int, name: str, value: Any) -> str:
    """How a table in text would have it; empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        lower = str(value).lower()
        return lower if lower in source.labels else str(value)
    if isinstance(value, _Number) and value not in source.labels:
        # JSON does not tell 1.0 from 1.
        whole = value.rstrip("0").removesuffix(".") if "." in value else value
        return whole if whole in source.labels else str(value)
    if isinstance(value, (list, dict)):
        raise ValueError(f"{source.path}:{line}: {_kind(value)} as {name!r}, expected a label")
    return _text_of(source, line, name, value, True)


def _kind(value: Any) -> str:
    if isinstance(value, _Number):
        return f"the number {shown(value)}"
    kinds = {bool: "true or false", type(None): "null", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a text")
