"""A table of one's own, read through before it is trained on: its classes, and what is amiss."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scl_fairseq.data.blocks import read_blocks
from scl_fairseq.data.choices import AUTO
from scl_fairseq.data.fields import fields_of, shown
from scl_fairseq.data.sources import Source, open_source
from scl_fairseq.data.table_files import EXPECTED, kind_of
from scl_fairseq.data.tasks import Task, custom_task
from scl_fairseq.data.text_tables import headers_of

NOT_A_NUMBER = ("nan", "NaN", "NAN")  # what pandas and R make of what is missing
MOST_CLASSES_SHARE = 0.5  # of the rows; with more the column holds texts, or scores
# While the classes are not known: no label of anybody's.
_UNKNOWN = ("scl-train:unknown-1", "scl-train:unknown-2")


@dataclass(frozen=True)
class TableSettings:
    """What the user says of a table.

    Attributes:
        text: names of the one or two columns of texts.
        label: name of the column of labels.
        columns: names of all columns, of tables without a header.
        quoting: of tab-separated tables.
    """

    text: tuple[str, ...]
    label: str
    columns: tuple[str, ...] = ()
    quoting: str = AUTO

    def task(self, labels: Sequence[str]) -> Task:
        """The task of these tables."""
        return custom_task(labels, self.label, self.text, self.columns, self.quoting)


@dataclass
class Scan:
    """What a table holds.

    Attributes:
        source: how it is read.
        counts: rows of each label; empty for a test set without labels.
        rows: how many there are.
    """

    source: Source
    counts: Counter[str] = field(default_factory=Counter)
    rows: int = 0


def scan(settings: TableSettings, path: Path, split: str) -> Scan:
    """Read a table through.

    Raises:
        ValueError: a column is missing, a text or a label is; the message names file and line.
        OSError: it cannot be read.
    """
    check_columns(settings, path)
    found = _scan(settings, path, split, _UNKNOWN)
    if len(found.counts) > 1:
        # Quotes that are text are told from those of CSV also by what a label can be.
        labels = class_names(found.counts)
        again = open_source(settings.task(labels), path, split)
        if again.dialect != found.source.dialect:
            found = _scan(settings, path, split, labels)
    return found


def class_names(labels: Sequence[str] | Counter[str]) -> list[str]:
    """Distinct labels in their order: numbers by value, anything else by its characters."""
    distinct = set(labels)
    try:
        return sorted(distinct, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(distinct)


def check_classes(label: str, counts: Counter[str], rows: int, where: str) -> None:
    """Refuse labels that are no classes.

    Args:
        label: name of the column.
        counts: rows of each of its values.
        rows: how many rows there are.
        where: the file.

    Raises:
        ValueError: there is one class alone, or there are nearly as many as rows.
    """
    if not rows:
        raise ValueError(f"{where}: no rows; expected texts with labels")
    if len(counts) == 1:
        (only,) = counts
        raise ValueError(
            f"{where}: all {rows} rows have the label {shown(only)!r} in {label!r}; a classifier "
            "needs rows of two or more classes"
        )
    if len(counts) > max(2, MOST_CLASSES_SHARE * rows):
        what = "the texts? --label names the column of the classes"
        if all(map(_is_number, counts)):
            what = "scores? a classifier needs classes: make few of them, such as low and high"
        raise ValueError(
            f"{where}: {label!r} has {len(counts)} different values in {rows} rows; are these "
            f"{what}"
        )


def check_columns(settings: TableSettings, path: Path) -> None:
    """Refuse names of columns that the table does not have.

    Raises:
        ValueError: one is not there; the message names those that are, and one like it.
    """
    kind = kind_of(path)
    if kind is None:
        raise ValueError(f"{path}: unknown kind of file, expected {EXPECTED}")
    if settings.columns:
        return  # the task compares them with the names
    headers = headers_of(path, kind)
    names = (*settings.text, settings.label)
    header = max(headers, key=lambda one: (len(set(names) & set(one)), len(one)))
    for option, name in (*(("--text", one) for one in settings.text), ("--label", settings.label)):
        if name not in header:
            raise ValueError(f"{path} has no column {name!r} ({option}); {offer(name, header)}")


def offer(name: str, known: Sequence[str]) -> str:
    """The names that there are, and the one that may have been meant."""
    listed = f"the columns are {shown(', '.join(map(repr, known)))}"
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? {listed}" if close else listed


def _scan(settings: TableSettings, path: Path, split: str, labels: Sequence[str]) -> Scan:
    source = open_source(settings.task(labels), path, split)
    found = Scan(source)
    for block in read_blocks(source):
        for line, fields in fields_of(source, block.first_line, block.parts):
            found.rows += 1
            if len(fields) != len(source.columns):
                continue  # scl-preprocess's reader says what is wrong with it
            for at in source.sentences_at:
                _check_text(source, line, source.columns[at], fields[at])
            if source.label_at is not None:
                label = fields[source.label_at]
                _check_label(source, line, label)
                found.counts[label] += 1
    return found


def _check_text(source: Source, line: int, column: str, text: str) -> None:
    if not text.strip():
        raise ValueError(f"{source.path}:{line}: no text in {column!r}; fill it, or drop the row")
    if text in NOT_A_NUMBER:
        raise ValueError(
            f"{source.path}:{line}: {text!r} in {column!r}, which stands for a missing value; "
            "fill it, or drop the row"
        )


def _check_label(source: Source, line: int, label: str) -> None:
    column = source.columns[source.label_at]
    place = f"{source.path}:{line}"
    if not label.strip() or label in NOT_A_NUMBER:
        found = f"{label!r}, which stands for a missing value," if label.strip() else "no label"
        raise ValueError(f"{place}: {found} in {column!r}; label the row, or drop it")
    if label != label.strip():
        raise ValueError(
            f"{place}: white space around the label {shown(label)!r} in {column!r}; take it off"
        )
    if not label.isprintable() or label.startswith("<"):
        raise ValueError(
            f"{place}: {shown(label)!r} in {column!r} cannot be a label: it begins with '<' or "
            "holds a line break or a control character"
        )


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True
