"""Classification tasks and their rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """Where a task's files keep what.

    Attributes:
        name: as users write it.
        labels: label names in the order of their indices, the same for every draw.
        label_column: header of the label column in the official files.
        sentence_columns: headers of the one or two sentence columns.
    """

    name: str
    labels: tuple[str, ...]
    label_column: str
    sentence_columns: tuple[str, ...]


TASKS = {
    task.name: task
    for task in (
        Task("SST-2", ("0", "1"), "label", ("sentence",)),
        Task("RTE", ("entailment", "not_entailment"), "label", ("sentence1", "sentence2")),
        Task("QNLI", ("entailment", "not_entailment"), "label", ("question", "sentence")),
    )
}


@dataclass(frozen=True)
class Row:
    """One labelled example; ``id`` is its number in the official file, from 0."""

    id: int
    label: str
    sentences: tuple[str, ...]


def read_rows(task: Task, path: Path) -> list[Row]:
    """Read an official file of the task, or a few-shot sample's.

    Args:
        task: names the columns. A sample's file is known by its header ``id label sentence1 …``.
        path: a tab-separated file with a header. Quotes are ordinary characters: GLUE's files are
            not CSV-quoted.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
        FileNotFoundError: there is no such file.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # a lone \r is part of a sentence
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    header = lines[0].split("\t")
    is_sample = header[:2] == ["id", "label"]
    label_column = "label" if is_sample else task.label_column
    sentence_columns = (
        tuple(f"sentence{i + 1}" for i in range(len(task.sentence_columns)))
        if is_sample
        else task.sentence_columns
    )
    missing = [c for c in (label_column, *sentence_columns) if c not in header]
    if missing:
        raise ValueError(f"{path}:1: no column {', '.join(missing)} in the header {header}")
    label_at = header.index(label_column)
    sentences_at = [header.index(column) for column in sentence_columns]

    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise ValueError(f"{path}:{number}: {len(fields)} fields, expected {len(header)}")
        if fields[label_at] not in task.labels:
            raise ValueError(
                f"{path}:{number}: label {fields[label_at]!r}, expected one of "
                + ", ".join(task.labels)
            )
        if is_sample and not fields[0].isdigit():
            raise ValueError(f"{path}:{number}: id {fields[0]!r}, expected a row number")
        row_id = int(fields[0]) if is_sample else number - 2
        rows.append(Row(row_id, fields[label_at], tuple(fields[i] for i in sentences_at)))
    return rows
