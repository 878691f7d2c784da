"""Rows of a block: decoded, checked, with ``file:line`` for whatever is wrong."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from scl_fairseq.data.blocks import Block, read_blocks
from scl_fairseq.data.fields import LONGEST_SHOWN, fields_of
from scl_fairseq.data.headers import NO_LABEL
from scl_fairseq.data.sources import Source, open_source
from scl_fairseq.data.table_files import ALIGNED, CSV, TSV
from scl_fairseq.data.tasks import Task

# What the review files escape with a backslash. They leave a backslash itself as it is.
_ESCAPED = re.compile(r'\\(n|")')
_PLAIN = {"n": " ", '"': '"'}  # a line break is a space in a line of text
_BREAKS = re.compile(r"[\t\n\r]+")
_LINE_BREAK = re.compile(r"\r\n|\n|\r")
# Fields of unquoted text that begin and end with a quote.
_LOOKS_QUOTED = re.compile(rb'(?m)(?:^|\t)"[^\t\n]*"(?=[\t\n\r]|\Z)')
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
        line_breaks: line breaks inside sentences, each of which became a space.
        looks_quoted: fields of a table without quoting that begin and end with a quote.
        tabbed: rows with a tab in a sentence.
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
    line_breaks: int = 0
    looks_quoted: int = 0
    tabbed: int = 0

    def peculiarities(self) -> Records:
        """The same without the rows themselves."""
        return replace(self, rows=[], lines=[], ids=[], labels=[], sentences=[])


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


def fingerprints(sentences: Collection[tuple[str, ...]]) -> np.ndarray:
    """Numbers that tell the texts of rows apart, (rows,) uint64: 8 bytes instead of a text."""
    digests = (hashlib.blake2b("\0".join(of_row).encode(), digest_size=8) for of_row in sentences)
    return np.frombuffer(b"".join(digest.digest() for digest in digests), np.uint64)


def parse(block: Block) -> Records:
    """Check and take apart the rows of a block.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    source = block.source
    # In CSV they are usual, and stand inside fields too.
    crlf = source.format != CSV and any(b"\r\n" in part for part in block.parts)
    records = Records(crlf=crlf)
    if source.is_own and source.format == TSV:
        records.looks_quoted = len(_LOOKS_QUOTED.findall(block.parts[0]))
    width = len(source.columns)
    label_at, id_at, sentences_at = source.label_at, source.id_at, source.sentences_at
    unlabelled_at = source.unlabelled_at
    index_of = {label: index for index, label in enumerate(source.labels)}
    row = block.first_row - 1
    for line, fields in fields_of(source, block.first_line, block.parts):
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
                raise ValueError(_wrong_label(source, line, fields[label_at]))
            records.labels.append(label)
        elif unlabelled_at is not None and fields[unlabelled_at] not in NO_LABEL:
            raise ValueError(_wrong_label(source, line, fields[unlabelled_at]))
        records.ids.append(row if id_at is None else _to_id(source, line, fields[id_at]))
        records.rows.append(row)
        records.lines.append(line)
        if source.joins_columns:
            sentences = (" ".join(_unescaped(fields[at]) for at in sentences_at).strip(),)
        else:
            sentences = tuple([fields[at].strip() for at in sentences_at])
            if source.is_own and source.format != TSV:
                sentences = _without_breaks(sentences, records)
        records.sentences.append(sentences)
        if not all(sentences):
            records.empty.append(line)
    return records


def _without_breaks(sentences: tuple[str, ...], records: Records) -> tuple[str, ...]:
    found = [_LINE_BREAK.subn(" ", sentence) for sentence in sentences]
    records.line_breaks += sum(count for _, count in found)
    records.tabbed += any("\t" in sentence for sentence, _ in found)
    return tuple([sentence for sentence, _ in found])


def _wrong_label(source: Source, line: int, label: str) -> str:
    at = source.unlabelled_at if source.label_at is None else source.label_at
    path = source.paths[at] if source.format == ALIGNED else source.path
    found = f"unknown label {label[:LONGEST_SHOWN]!r}" if label else "no label"
    expected = f"expected one of {', '.join(source.labels)}"
    if source.split.startswith("test"):
        if source.label_at is None:
            found = f"a label, {label[:LONGEST_SHOWN]!r}"
            expected = "expected none (-1): the first row of this test set has none"
        elif label in NO_LABEL:
            expected += ": the first row of this test set has a label"
    return f"{path}:{line}: {found}, {expected}"


def _wrong_width(fields: Sequence[str], source: Source) -> str:
    names = ", ".join(source.columns)
    if list(fields) in ([""], []):
        return f"blank line, expected {len(source.columns)} fields ({names})"
    is_longer = len(fields) > len(source.columns)
    extra = ": an extra tab?" if is_longer and source.format == TSV else ""
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
