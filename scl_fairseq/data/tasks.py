"""The tasks: which files they have, which columns, which labels in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scl_fairseq.data.choices import AUTO, UNQUOTED

TSV_FILES = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
CUSTOM = "custom"
LINES = "lines"  # text without labels
MOST_COLUMNS = 3  # of it: a sentence, one that means the same, one that does not
_NO_CLASSES = {
    "sts-b": "STS-B is a regression task (scores from 0 to 5): it has no classes to contrast"
}


@dataclass(frozen=True)
class Task:
    """Where a task's files keep what.

    Attributes:
        name: as users write it.
        labels: label names in the order of their indices, the same for every draw; none where
            rows are text alone.
        label_column: header of the label column in the official files.
        sentence_columns: headers of the sentence columns.
        metric: what GLUE reports, by the name under which the criterion logs it.
        id_column: header of the column that numbers the rows; None: the place in the file does.
        files: official file names of the splits.
        headerless: columns of the files where they have no header; official test files have one.
        raw_labels: how the files spell the labels, where not as ``labels``.
        respellings: what copies of the data write instead of a label; accepted, and said.
        csv: files are CSV with quoted fields, not GLUE's TSV without quoting.
        joins_columns: the sentence columns are one text, put together with a space.
        drops_malformed: labelled rows with a wrong number of fields exist and are left out.
        drops_empty: rows with an empty sentence are left out.
        is_joined: a row's texts are one example; otherwise each goes through the model by itself.
        optional: splits that may be absent; those of test always may.
        is_own: tables of any kind, told by their endings; otherwise the files are as they are.
        quoting: how tab-separated files of such a task are quoted, one of ``QUOTINGS``.
    """

    name: str
    labels: tuple[str, ...]
    label_column: str
    sentence_columns: tuple[str, ...]
    metric: str = "accuracy"
    id_column: str | None = None
    files: Mapping[str, str] = field(default_factory=lambda: TSV_FILES)
    headerless: tuple[str, ...] = ()
    raw_labels: tuple[str, ...] = ()
    respellings: Mapping[str, str] = field(default_factory=dict)
    csv: bool = False
    joins_columns: bool = False
    drops_malformed: bool = False
    drops_empty: bool = False
    is_joined: bool = True
    optional: tuple[str, ...] = ()
    is_own: bool = False
    quoting: str = UNQUOTED

    @property
    def num_inputs(self) -> int:
        """Texts of an example, 1 or 2."""
        return 1 if self.joins_columns else len(self.sentence_columns)


_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_SPACED = {"not entailment": "not_entailment"}
_PAIR = ("sentence1", "sentence2")
_MNLI_FILES = {
    "train": "train.tsv",
    "dev": "dev_matched.tsv",
    "dev_mismatched": "dev_mismatched.tsv",
    "test": "test_matched.tsv",
    "test_mismatched": "test_mismatched.tsv",
}
# Their labelled test set does what GLUE's dev does elsewhere.
_REVIEWS = {
    "files": {"train": "train.csv", "dev": "test.csv"},
    "raw_labels": ("1", "2"),
    "csv": True,
    "joins_columns": True,
}

TASKS = {
    task.name: task
    for task in (
        Task("SST-2", _BINARY, "label", ("sentence",)),
        Task(
            "CoLA",
            _BINARY,
            "label",
            ("sentence",),
            metric="mcc",
            headerless=("source", "label", "mark", "sentence"),
        ),
        Task("MRPC", _BINARY, "Quality", ("#1 String", "#2 String"), metric="acc_and_f1"),
        Task("RTE", _ENTAILMENT, "label", _PAIR, id_column="index", respellings=_SPACED),
        Task(
            "QNLI",
            _ENTAILMENT,
            "label",
            ("question", "sentence"),
            id_column="index",
            respellings=_SPACED,
        ),
        Task(
            "MNLI",
            ("contradiction", "neutral", "entailment"),
            "gold_label",
            _PAIR,
            id_column="index",
            files=_MNLI_FILES,
        ),
        Task(
            "QQP",
            _BINARY,
            "is_duplicate",
            ("question1", "question2"),
            metric="acc_and_f1",
            id_column="id",
            drops_malformed=True,
        ),
        Task("WNLI", _BINARY, "label", _PAIR, id_column="index"),
        Task(
            "Yelp-2", ("negative", "positive"), "label", ("text",), headerless=("label", "text"),
            **_REVIEWS,
        ),
        Task(
            "Amazon-2", ("negative", "positive"), "label", ("title", "text"),
            headerless=("label", "title", "text"), **_REVIEWS,
        ),
    )
}  # fmt: skip


def find_task(name: str, further: Sequence[str] = ()) -> Task:
    """The task of that name, upper or lower case.

    Args:
        name: of the task.
        further: what the caller would have taken as well; the error names it.

    Raises:
        ValueError: there is none, or it has no classes.
    """
    if name.casefold() in _NO_CLASSES:
        raise ValueError(_NO_CLASSES[name.casefold()])
    for task in TASKS.values():
        if task.name.casefold() == name.casefold():
            return task
    expected = ", ".join([*TASKS, *further])
    raise ValueError(f"unknown task {name!r}, expected {expected} or {CUSTOM}")


def custom_task(
    labels: Sequence[str],
    label_column: str = "label",
    sentence_columns: Sequence[str] = ("sentence",),
    columns: Sequence[str] = (),
    quoting: str = AUTO,
) -> Task:
    """A task of one's own: tables, or fairseq's line-aligned text files.

    Args:
        labels: label names; their order is the order of the indices.
        label_column: name of the label column.
        sentence_columns: names of the one or two sentence columns.
        columns: names of all columns, of tables without a header.
        quoting: of tab-separated tables, one of ``QUOTINGS``.

    Raises:
        ValueError: labels or columns are not distinct, or not usable.
    """
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"--labels {' '.join(labels)}: expected two or more different labels")
    for label in labels:
        if label != label.strip() or not label.isprintable() or label[:1] in ("", "<"):
            raise ValueError(f"--labels: {label!r} cannot be a label")
    named = (label_column, *sentence_columns)
    if not 1 <= len(sentence_columns) <= 2 or len(set(named)) < len(named):
        raise ValueError(
            f"columns {', '.join(named)}: expected a label column and one or two others"
        )
    _check_columns(columns, "--label-column", [label_column])
    _check_columns(columns, "--sentence-columns", sentence_columns)
    return Task(
        CUSTOM,
        tuple(labels),
        label_column,
        tuple(sentence_columns),
        headerless=tuple(columns),
        is_own=True,
        quoting=quoting,
    )


def text_task(
    sentence_columns: Sequence[str], columns: Sequence[str] = (), quoting: str = AUTO
) -> Task:
    """Tables of texts alone; arguments and errors are those of ``custom_task``."""
    if len(set(sentence_columns)) < len(sentence_columns):
        raise ValueError(f"--sentence-columns {' '.join(sentence_columns)}: one is named twice")
    _check_columns(columns, "--sentence-columns", sentence_columns)
    return Task(
        "text",
        labels=(),
        label_column="",
        sentence_columns=tuple(sentence_columns),
        headerless=tuple(columns),
        is_own=True,
        quoting=quoting,
    )


def _check_columns(columns: Sequence[str], option: str, named: Sequence[str]) -> None:
    """Make sure that ``--columns``, where it is given, has what another option names."""
    shown = f"--columns {' '.join(columns)}"
    if len(set(columns)) < len(columns):
        raise ValueError(f"{shown}: a name is there twice")
    for name in named:
        if columns and name not in columns:
            raise ValueError(f"{shown}: {name!r} is not among them; {option} names the column")


def lines_task(num_columns: int = 1) -> Task:
    """Text without labels: a sentence a line, or two or three with tabs between them.

    Args:
        num_columns: sentences of a line.

    Raises:
        ValueError: there are too many.
    """
    if not 1 <= num_columns <= MOST_COLUMNS:
        raise ValueError(f"{num_columns} sentences a line, expected 1 to {MOST_COLUMNS}")
    columns = tuple(f"sentence{place + 1}" for place in range(num_columns))
    return Task(
        LINES,
        labels=(),
        label_column="",
        sentence_columns=columns,
        files={"train": "train.txt", "dev": "valid.txt", "test": "test.txt"},
        headerless=columns,
        drops_empty=True,
        is_joined=False,
        optional=("dev",),
    )
