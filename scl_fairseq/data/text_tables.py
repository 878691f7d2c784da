"""Tables whose sentences alone are wanted, whatever else they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data.blocks import read_blocks
from scl_fairseq.data.choices import AUTO, QUOTED, UNQUOTED
from scl_fairseq.data.dialects import TABS, Dialect
from scl_fairseq.data.fields import decoded, read_object, shown
from scl_fairseq.data.file_report import FileReport
from scl_fairseq.data.headers import BOM, DELIMITERS, LONGEST_HEADER, first_record
from scl_fairseq.data.records import parse
from scl_fairseq.data.sources import MANIFEST, SAMPLE_HEADER, Source, open_source
from scl_fairseq.data.streams import OnBytes, check_name, ignore, open_bytes
from scl_fairseq.data.table_files import CSV, JSONL, TSV, kind_of
from scl_fairseq.data.tasks import text_task

ONE, PAIR = ("sentence",), ("sentence1", "sentence2")
# Names of sentence columns where neither options nor the training tell them, the first that fits.
_USUAL = {1: (ONE, ("text",), PAIR[:1]), 2: (PAIR,), None: (PAIR, ONE, ("text",), PAIR[:1])}


@dataclass(frozen=True)
class TableOptions:
    """What the user says of a table.

    Attributes:
        sentence_columns: names of the columns of sentences; none: the usual names.
        columns: names of all columns, of a table without a header.
        quoting: of tab-separated tables; None: they are looked at.
    """

    sentence_columns: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    quoting: str | None = None


def open_texts(
    path: Path,
    options: TableOptions,
    recorded: Sequence[str] = (),
    num_inputs: int | None = None,
    usual_inputs: int | None = None,
) -> Source | None:
    """Open a table for its sentences.

    A file is a table if its name ends in ``.csv`` or ``.jsonl`` (perhaps with ``.gz``); one that
    ends in ``.tsv`` if an option says how it is read, or its first line has the names of sentence
    columns.

    Args:
        path: the file.
        options: what the user says of it.
        recorded: names of the sentence columns in training.
        num_inputs: sentences that a row must have; None: one or two.
        usual_inputs: how many it has where columns are not named.

    Returns:
        None where it is no table: its lines are sentences.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    kind = kind_of(path)
    is_told = options != TableOptions()
    if kind is None:
        if is_told:
            raise ValueError(
                f"{path}: lines of text have no columns and no quoting; a table's name ends in "
                ".tsv, .csv or .jsonl"
            )
        return None
    headers = [list(options.columns)] if options.columns else headers_of(path, kind)
    names = options.sentence_columns or _choose(headers, recorded, num_inputs or usual_inputs)
    if not names and kind == TSV and not is_told:
        return None
    if not names:
        found = shown(", ".join(map(repr, headers[0])))
        raise ValueError(
            f"{path}:1: the columns are {found}; --sentence-columns says which are the sentences'"
        )
    if len(names) != (num_inputs or min(len(names), 2)):
        expected = f"{num_inputs}, as in training" if num_inputs else "one or two"
        raise ValueError(f"--sentence-columns {' '.join(names)}: expected {expected}")
    quoting = options.quoting or AUTO
    if headers[0][:3] == list(SAMPLE_HEADER) and path.with_name(MANIFEST).exists():
        quoting = UNQUOTED  # a sample is written without
    return open_source(text_task(names, options.columns, quoting), path, "input")


def read_texts(
    source: Source, report: FileReport, on_bytes: OnBytes = ignore
) -> Iterator[list[tuple[str, ...]]]:
    """The sentences of a table, block by block; ``report`` takes up what is special."""
    for block in read_blocks(source, on_bytes):
        records = parse(block)
        report.note(records)
        yield records.sentences


def headers_of(path: Path, kind: str) -> list[list[str]]:
    """The names in the first line, in each way in which it may be read."""
    with open_bytes(path) as file:
        head = file.readline() if kind == JSONL else file.read(LONGEST_HEADER)
    check_name(path, head)
    head = head.removeprefix(BOM)
    if not head:
        raise ValueError(f"{path}:1: empty file, expected rows of text")
    if kind == JSONL:
        return [list(read_object(path, 1, decoded(path, 1, head)))]
    if kind == CSV:
        return _csv_headers(path, head)
    return [[name.strip('"') for name in first_record(path, head, TABS)[0]]]


def _csv_headers(path: Path, head: bytes) -> list[list[str]]:
    """By each delimiter with which the first line is well-formed."""
    found, refused = [], None
    for mark in DELIMITERS:
        try:
            found.append(first_record(path, head, Dialect(mark, QUOTED))[0])
        except ValueError as error:  # a field in quotes goes on behind them
            refused = refused or error
    if not found and refused is not None:
        raise refused
    return found


def _choose(
    headers: Sequence[Sequence[str]], recorded: Sequence[str], num_inputs: int | None
) -> tuple[str, ...]:
    """The first names of sentence columns that a header has; none where it has none."""
    usual = [tuple(recorded)] if num_inputs in (None, len(recorded)) and recorded else []
    usual += _USUAL[num_inputs]
    for names in usual:
        # One sentence of a pair is not what it seems.
        if any(
            set(names) <= set(header) and not (names == PAIR[:1] and PAIR[1] in header)
            for header in headers
        ):
            return names
    return ()
