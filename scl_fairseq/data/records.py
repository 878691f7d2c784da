"""Rows of a block: decoded, checked, with ``file:line`` for whatever is wrong."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scl_fairseq.data.blocks import LONGEST_RECORD, Block, check_quotes, read_blocks
from scl_fairseq.data.sources import LONGEST_SHOWN, Source, open_source
from scl_fairseq.data.tasks import Task

# What the review files escape with a backslash. They leave a backslash itself as it is.
_ESCAPED = re.compile(r'\\(n|")')
_PLAIN = {"n": " ", '"': '"'}  # a line break is a space in a line of text
_BREAKS = re.compile(r"[\t\n\r]+")
_LARGEST_ID = (1 << 63) - 1


@dataclass
class Records:
    """Rows in the order of the file, one entry a row in every list.

    Attributes:
        rows: number of each row in its file, from 0.
        lines: its line number, from 1.
        ids: what the file calls the row: its id column, else its number.
        labels: label indices; empty where the file has no labels.
        sentences: stripped of outer white space, as fairseq's BPE encoder does.
        dropped: lines that were left out.
        respelled: lines with a label in another spelling.
        empty: lines with an empty sentence, left out where the source says so.
        crlf: whether lines end in CR LF.
    """

    rows: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sentences: list[tuple[str, ...]] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    respelled: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    crlf: bool = False

    def peculiarities(self) -> Records:
        """The same without the rows themselves."""
        return Records(
            dropped=self.dropped, respelled=self.respelled, empty=self.empty, crlf=self.crlf
        )


@dataclass(frozen=True)
class Row:
    """One labelled example; ``id`` is its number in the official file, from 0."""

    id: int
    label: str
    sentences: tuple[str, ...]


def read_rows(task: Task, path: Path) -> list[Row]:
    """Read a whole labelled file of the task, official or a few-shot sample's.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
        FileNotFoundError: there is no such file.
    """
    source = open_source(task, path)
    rows = []
    for block in read_blocks(source):
        records = parse(block)
        labels = (task.labels[index] for index in records.labels)
        rows += map(Row, records.ids, labels, records.sentences)
    return rows


def parse(block: Block) -> Records:
    """Check and take apart the rows of a block.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    source = block.source
    records = Records(crlf=any(b"\r\n" in part for part in block.parts))
    texts = [_decode(block, part, path) for part, path in zip(block.parts, source.paths)]  # noqa: B905
    fields_of = {"tsv": _tsv_fields, "csv": _csv_fields, "lines": _aligned_fields}[source.format]
    width = len(source.columns)
    label_at, id_at, sentences_at = source.label_at, source.id_at, source.sentences_at
    index_of = {label: index for index, label in enumerate(source.labels)}
    row = block.first_row - 1
    for line, fields in fields_of(block, texts):
        row += 1
        if source.drops_empty and not all(map(str.strip, fields)):
            records.empty.append(line)
            continue
        if len(fields) != width:
            if source.drops_malformed:
                records.dropped.append(line)
                continue
            raise ValueError(f"{source.path}:{line}: {_wrong_width(fields, source)}")
        if label_at is not None:
            label = index_of.get(fields[label_at])
            if label is None:
                label = index_of.get(source.respellings.get(fields[label_at]))
                records.respelled += [line] * (label is not None)
            if label is None:
                path = source.paths[label_at] if source.format == "lines" else source.path
                shown = fields[label_at][:LONGEST_SHOWN]
                raise ValueError(
                    f"{path}:{line}: unknown label {shown!r}, expected one of "
                    + ", ".join(source.labels)
                )
            records.labels.append(label)
        records.ids.append(row if id_at is None else _to_id(source, line, fields[id_at]))
        records.rows.append(row)
        records.lines.append(line)
        if source.joins_columns:
            sentences = (" ".join(_unescaped(fields[at]) for at in sentences_at).strip(),)
        else:
            sentences = tuple([fields[at].strip() for at in sentences_at])
        records.sentences.append(sentences)
        if not all(sentences):
            records.empty.append(line)
    return records


def _decode(block: Block, data: bytes, path: Path) -> str:
    nul = data.find(b"\0")
    if nul >= 0:
        line = block.first_line + data.count(b"\n", 0, nul)
        raise ValueError(f"{path}:{line}: a NUL byte, expected UTF-8 text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = block.first_line + data.count(b"\n", 0, error.start)
        raise ValueError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}), expected UTF-8"
        ) from None


def _lines(text: str) -> list[str]:
    """Only newlines end a line: a lone CR or a Unicode separator is part of a sentence."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _tsv_fields(block: Block, texts: list[str]) -> Iterator[tuple[int, list[str]]]:
    for line, text in enumerate(_lines(texts[0]), start=block.first_line):
        yield line, text.split("\t")


def _aligned_fields(block: Block, texts: list[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    rows = zip(*map(_lines, texts), strict=True)
    yield from enumerate(rows, start=block.first_line)


def _csv_fields(block: Block, texts: list[str]) -> Iterator[tuple[int, list[str]]]:
    check_quotes(block.source.path, block.first_line, block.parts[0])
    csv.field_size_limit(LONGEST_RECORD)
    # Only newlines are counted as lines: a StringIO would end one at a lone CR too.
    lines = (text + "\n" for text in texts[0].removesuffix("\n").split("\n"))
    reader = csv.reader(lines, strict=True)
    line = block.first_line
    try:
        for fields in reader:
            yield line, fields
            line = block.first_line + reader.line_num
    except csv.Error as error:
        raise ValueError(
            f"{block.source.path}:{line}: malformed CSV ({error}), expected quoted fields with "
            "inner quotes doubled"
        ) from None


def _wrong_width(fields: list[str], source: Source) -> str:
    names = ", ".join(source.columns)
    if fields in ([""], []):
        return f"blank line, expected {len(source.columns)} fields ({names})"
    extra = (
        ": an extra tab?" if len(fields) > len(source.columns) and source.format == "tsv" else ""
    )
    found = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    return f"{found}, expected {len(source.columns)} ({names}){extra}"


def _to_id(source: Source, line: int, text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= _LARGEST_ID:
        return int(text)
    raise ValueError(f"{source.path}:{line}: id {text!r}, expected a row number")


def _unescaped(text: str) -> str:
    if "\\" in text:
        text = _ESCAPED.sub(lambda match: _PLAIN[match[1]], text)
    return _BREAKS.sub(" ", text)
