"""How a table begins: its first record, and how its fields stand apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.data.choices import AUTO, QUOTED, UNQUOTED
from scl_fairseq.data.csv_records import read_records, whole_records
from scl_fairseq.data.dialects import TABS, Dialect, IsRow, find_escaping, find_quoting
from scl_fairseq.data.fields import decoded
from scl_fairseq.data.table_files import CSV
from scl_fairseq.data.tasks import Task

BOM = b"\xef\xbb\xbf"
LONGEST_HEADER = 1 << 16  # bytes that are looked at
# What test sets have instead of labels: Hugging Face's GLUE -1, pandas nothing.
NO_LABEL = ("-1", "")
DELIMITERS = (",", ";", "\t")  # of files called .csv


def first_record(path: Path, rows: bytes, dialect: Dialect) -> tuple[list[str], int]:
    """The fields of the first record, and how many bytes it takes."""
    if dialect.quoting == QUOTED:
        end = end_of_first(rows, dialect) or len(rows)
        line = rows[:end]
        line = line.replace(b'\\"', b'""') if dialect.escaped else line
        for _, fields in read_records(path, 1, decoded(path, 1, line), dialect.delimiter):
            return fields, end
        return [], end
    line, newline, _ = rows.partition(b"\n")
    if len(rows) >= LONGEST_HEADER - len(BOM) and not newline:  # cut, perhaps inside a character
        line = line.decode("utf-8", "ignore").encode()
    fields = decoded(path, 1, line).removesuffix("\r").split(dialect.delimiter)
    return fields, len(line) + len(newline)


def end_of_first(rows: bytes, dialect: Dialect) -> int:
    """Bytes of the first record; 0 where it does not end."""
    at = 0
    while (newline := rows.find(b"\n", at)) >= 0:
        at = newline + 1
        end, _ = whole_records(rows[:at], dialect.delimiter.encode())
        if end:
            return end
    return 0


def own_dialect(
    task: Task,
    path: Path,
    kind: str | None,
    start: int,
    rows: bytes,
    names: Sequence[str],
    is_headerless: bool,
    label: str,
) -> Dialect:
    """Delimiter and quoting of a table of one's own.

    ``names`` are those of all its columns where it is headerless, elsewhere those that it needs;
    ``rows`` is how it begins, behind ``start`` bytes.
    """
    if kind == CSV:
        if task.quoting == UNQUOTED:
            raise ValueError(f"{path}: a .csv is CSV; --quoting {UNQUOTED} goes with .tsv")
        delimiter = _find_delimiter(path, rows, names, is_headerless)
        return Dialect(delimiter, QUOTED, find_escaping(path, start, delimiter))
    if task.quoting == QUOTED:
        return Dialect("\t", QUOTED, find_escaping(path, start, "\t"))
    if task.quoting != AUTO:
        return TABS
    columns = list(names)
    if not is_headerless:
        columns = [name.strip('"') for name in first_record(path, rows, TABS)[0]]
    is_row = _row_check(columns, label, task.labels) if label in columns else None
    return find_quoting(path, start, not is_headerless, is_row)


def _row_check(columns: Sequence[str], label: str, labels: Sequence[str]) -> IsRow:
    width, label_at = len(columns), columns.index(label)
    known = {one.encode() for one in (*labels, *NO_LABEL[:1])}
    known |= {b'"%b"' % one for one in known}
    return lambda fields: len(fields) == width and fields[label_at] in known


def _find_delimiter(path: Path, rows: bytes, names: Sequence[str], is_headerless: bool) -> str:
    for delimiter in DELIMITERS:
        try:
            first, _ = first_record(path, rows, Dialect(delimiter, QUOTED))
        except ValueError:
            continue
        fits = len(first) == len(names) if is_headerless else set(names) <= set(first)
        if fits:
            return delimiter
    return DELIMITERS[0]
