"""How a file of a task is laid out, told from its beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scl_fairseq.data.choices import QUOTED
from scl_fairseq.data.dialects import COMMAS, TABS, Dialect
from scl_fairseq.data.fields import decoded, fields_of, read_object, shown
from scl_fairseq.data.headers import (
    BOM,
    LONGEST_HEADER,
    NO_LABEL,
    end_of_first,
    first_record,
    own_dialect,
)
from scl_fairseq.data.streams import check_name, open_bytes
from scl_fairseq.data.table_files import ALIGNED, CSV, JSONL, TSV, kind_of, tell_others
from scl_fairseq.data.tasks import CUSTOM, Task, lines_task

SAMPLE_HEADER = ("id", "label", "sentence1")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Source:
    r"""One file (or a set of line-aligned files), ready to be read.

    Attributes:
        split: ``train``, ``dev``, ``test``, …
        paths: the file; label and inputs of line-aligned files.
        format: ``tsv``, ``csv`` (whatever the delimiter), ``jsonl`` or ``lines``.
        columns: names of its fields.
        label_at, id_at: which field is what; None where there is no such field.
        sentences_at: fields of the sentences.
        labels: how the file spells the labels.
        respellings: other spellings of them, see the task.
        joins_columns, drops_malformed, drops_empty, is_joined, is_own: as in the task.
        offset: bytes before the first row.
        has_bom: it starts with a byte order mark.
        dialect: delimiter and quoting.
        unlabelled_at: field that says of every row of a test set that it has no label.
    """

    split: str
    paths: tuple[Path, ...]
    format: str
    columns: tuple[str, ...]
    label_at: int | None
    id_at: int | None
    sentences_at: tuple[int, ...]
    labels: tuple[str, ...]
    respellings: Mapping[str, str] = field(default_factory=dict)
    joins_columns: bool = False
    drops_malformed: bool = False
    offset: int = 0
    first_line: int = 1
    has_bom: bool = False
    drops_empty: bool = False
    is_joined: bool = True
    is_own: bool = False
    dialect: Dialect = TABS
    unlabelled_at: int | None = None

    @property
    def path(self) -> Path:
        """The file that messages name."""
        return self.paths[0]

    @property
    def name(self) -> str:
        """Name of the file; line-aligned files are listed."""
        return ", ".join(path.name for path in self.paths)

    @property
    def is_compared(self) -> bool:
        """Whether rows that stand in two splits are worth a note: the split is the user's own."""
        return bool(self.labels) and (self.is_own or self.format == ALIGNED)

    @property
    def num_inputs(self) -> int:
        """Texts of an example."""
        return 1 if self.joins_columns else len(self.sentences_at)

    @property
    def num_bytes(self) -> int:
        """Size of all its files."""
        return sum(path.stat().st_size for path in self.paths)


def open_source(task: Task, path: Path, split: str = "train", strict: bool = False) -> Source:
    """Look at the beginning of a file of the task, or of a few-shot sample.

    A test set may be without labels, every other file has them. Of a table of one's own the whole
    file is read where its quotes have to be told from text.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
        FileNotFoundError: there is no such file.
    """
    with open_bytes(path) as file:
        head = file.read(LONGEST_HEADER)
    check_name(path, head)
    if not head.removeprefix(BOM):
        raise ValueError(f"{path}:1: empty file, expected the rows of {task.name} {split}")
    has_bom = head.startswith(BOM)
    start = len(BOM) if has_bom else 0
    kind = kind_of(path) if task.is_own else CSV if task.csv else TSV
    first, _ = first_record(path, head[start:], TABS)
    is_sample = is_sample_header(task, path, first)
    is_test = split.startswith("test")
    if kind == JSONL and not is_sample:
        source = _json_source(task, path, split, head[start:])
    else:
        source = _table(task, path, split, head, start, None if is_sample else kind)
    source = replace(
        source,
        respellings=task.respellings,
        joins_columns=task.joins_columns and not is_sample,
        drops_malformed=task.drops_malformed and not strict and source.label_at is not None,
        has_bom=has_bom,
        drops_empty=task.drops_empty,
        is_joined=task.is_joined,
        is_own=task.is_own and not is_sample,
        offset=start + source.offset,
    )
    return without_labels(source, head[source.offset :]) if is_test else source


def without_labels(source: Source, rows: bytes) -> Source:
    """A test set whose first label says that there is none has no labels.

    Args:
        source: as it would be with labels.
        rows: how its rows, or its labels if they are in a file of their own, begin.
    """
    if source.label_at is None or NO_LABEL[0] in source.labels:
        return source
    rows = rows.replace(b'\\"', b'""') if source.dialect.escaped else rows
    end = end_of_first(rows, source.dialect) if source.format == CSV else rows.find(b"\n") + 1
    if len(source.paths) > 1:
        label = rows[:end].decode("utf-8", "replace").rstrip("\r\n")
    else:
        _, fields = next(iter(fields_of(source, source.first_line, [rows[: end or None]])), (0, ()))
        label = fields[source.label_at] if source.label_at < len(fields) else None
    if label not in NO_LABEL:
        return source
    return replace(source, label_at=None, unlabelled_at=source.label_at)


def is_sample_header(task: Task, path: Path, columns: Sequence[str]) -> bool:
    """Whether a file is a sample's; one of a custom task may look like it by chance."""
    if not task.labels or tuple(columns[:3]) != SAMPLE_HEADER:
        return False
    own = {task.label_column, *task.sentence_columns}
    return not (task.name == CUSTOM and own <= set(columns)) or path.with_name(MANIFEST).exists()


def is_sample_file(task: Task, path: Path) -> bool:
    """The same of a file that may be absent, or be anything."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.read(LONGEST_HEADER).removeprefix(BOM).split(b"\n")[0]
    return is_sample_header(task, path, line.decode("utf-8", "replace").rstrip("\r").split("\t"))


def open_lines(folder: Path) -> Task:
    """The task of unlabelled text, with as many sentences a line as the first of ``train.txt``.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: there are too many on a line.
    """
    path = folder / lines_task().files["train"]
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    if not path.is_file():
        others = tell_others(folder, [path.name])
        raise FileNotFoundError(f"{folder} has no {path.name}, one sentence a line{others}")
    with path.open("rb") as file:
        first = file.readline(LONGEST_HEADER)
    try:
        return lines_task(first.count(b"\t") + 1)
    except ValueError as error:
        raise ValueError(f"{path}:1: {error}") from None


def starts_with_bom(path: Path) -> bool:
    """Whether a file starts with a byte order mark."""
    with path.open("rb") as file:
        return file.read(len(BOM)) == BOM


def _table(task: Task, path: Path, split: str, head: bytes, start: int, kind: str | None) -> Source:
    """A table of text, one of one's own or an official one; ``kind`` is None for a sample."""
    is_test = split.startswith("test")
    is_sample = kind is None
    label, sentences, id_column = task.label_column, task.sentence_columns, task.id_column
    if is_sample:
        label, id_column = "label", "id"
        sentences = tuple(f"sentence{i + 1}" for i in range(task.num_inputs))
    expected = sentences if is_test or not task.labels else (label, *sentences)
    columns = () if is_sample else task.headerless
    if is_test and task.labels and not (task.csv or task.is_own):
        columns = ()
    rows = head[start:]
    dialect = TABS if is_sample else COMMAS if task.csv else TABS
    if task.is_own and not is_sample:
        names = columns or expected
        dialect = own_dialect(task, path, kind, start, rows, names, bool(columns), label)
    first, length = ([], 0) if columns and not task.is_own else first_record(path, rows, dialect)
    if columns and tuple(first) == columns:
        raise ValueError(
            f"{path}:1: the first line has the names of --columns, which tells the columns of a "
            "file without a header"
        )
    has_header = not columns
    columns = columns or tuple(first)
    if has_header and dialect.found and _has_row_names(path, first, rows[length:], dialect):
        columns = ("", *columns)
    if is_sample and (count := sum(name.startswith("sentence") for name in columns)) > len(
        sentences
    ):
        raise ValueError(
            f"{path}:1: {count} sentences in a row, expected {len(sentences)} for {task.name}"
        )
    _check_header(task, path, columns, expected, dialect)
    return Source(
        split=split,
        paths=(path,),
        format=CSV if dialect.quoting == QUOTED else TSV,
        columns=columns,
        label_at=columns.index(label) if task.labels and label in columns else None,
        id_at=columns.index(id_column) if id_column in columns else None,
        sentences_at=tuple(columns.index(name) for name in sentences),
        labels=task.labels if is_sample or not task.raw_labels else task.raw_labels,
        offset=length if has_header else 0,
        first_line=1 + rows.count(b"\n", 0, length) if has_header else 1,
        dialect=dialect,
    )


def _has_row_names(path: Path, header: Sequence[str], rows: bytes, dialect: Dialect) -> bool:
    """Whether rows begin with R's row names, "1", "2", …, to which the header has no name."""
    if not end_of_first(rows, dialect):
        return False
    first, _ = first_record(path, rows, dialect)
    return len(first) == len(header) + 1 and first[0] == "1"


def _check_header(
    task: Task, path: Path, columns: Sequence[str], expected: Sequence[str], dialect: Dialect
) -> None:
    missing = [column for column in expected if column not in columns]
    if missing:
        hint = ""
        if task.is_own:
            bare = [name.strip('"') for name in columns]
            hint = "; --columns names the fields of a file without a header"
            if dialect.quoting != QUOTED and all(column in bare for column in expected):
                hint = "; --quoting csv takes the quotes off"
        raise ValueError(
            f"{path}:1: wrong header {shown(' | '.join(columns))!r}, expected the columns "
            f"{', '.join(expected)}; missing: {', '.join(missing)}{hint}"
        )
    twice = [column for column in expected if list(columns).count(column) > 1]
    if twice:
        raise ValueError(f"{path}:1: column {twice[0]!r} is there twice, expected it once")


def _json_source(task: Task, path: Path, split: str, rows: bytes) -> Source:
    """JSON lines: the columns are the keys that are needed, whatever else there is."""
    if task.headerless:
        raise ValueError(f"{path}: --columns goes with tables; keys name the fields of JSON lines")
    line, newline, _ = rows.partition(b"\n")
    keys: Sequence[str] = (task.label_column, *task.sentence_columns)
    if newline or len(rows) < LONGEST_HEADER - len(BOM):  # not cut inside the first object
        keys = list(read_object(path, 1, decoded(path, 1, line)))
    is_labelled = bool(task.labels) and not (
        split.startswith("test") and task.label_column not in keys
    )
    columns = (*([task.label_column] if is_labelled else []), *task.sentence_columns)
    missing = [name for name in columns if name not in keys]
    if missing:
        raise ValueError(
            f"{path}:1: no {', '.join(map(repr, missing))} among the keys {shown(', '.join(keys))}"
        )
    return Source(
        split=split,
        paths=(path,),
        format=JSONL,
        columns=columns,
        label_at=0 if is_labelled else None,
        id_at=None,
        sentences_at=tuple(range(int(is_labelled), len(columns))),
        labels=task.labels,
    )
