"""``manifest.json``: all that is needed to draw a few-shot sample once more.

That of an augmented sample also says how its further training rows were made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from scl_fairseq.data.choices import QUOTINGS, UNQUOTED
from scl_fairseq.data.tasks import CUSTOM, Task, custom_task, find_task

PARTS = ("train", "dev", "test")
AUGMENTATION, READING = "augmentation", "reading"
OPTIONAL = {AUGMENTATION, READING}
SELF = "sha256"  # of all the rest; manifests of earlier versions have none


@dataclass(frozen=True)
class Reading:
    """How the files of a custom task were read.

    Attributes:
        columns: all columns of tables without a header; none of tables with one.
        quoting: one of ``QUOTINGS``.
        dev_share: part of train that stood for dev; None where there was a dev set.
    """

    columns: list[str]
    quoting: str
    dev_share: float | None


@dataclass(frozen=True)
class Manifest:
    """What a sample is made of.

    Attributes:
        task: its name.
        labels: in the order of their indices.
        num_inputs: sentences of a row.
        num_examples: training examples in all.
        per_class: training examples of each class, where that was asked for.
        sample: number of the sample among those of its draw, from 0.
        seed: of the draw.
        source_sha256: file name to checksum.
        row_ids: ids of the rows of train, dev and test.
        label_counts: rows of each class in each of the files.
        columns: label column and sentence columns of a custom task.
        versions: of this package, Python and its libraries.
        augmentation: how the rows of ``train.tsv`` beyond ``row_ids`` were made; None of a sample
            that was only drawn.
        reading: how the files of a custom task were read; None of other tasks, and in manifests of
            versions that knew one way.
    """

    task: str
    labels: list[str]
    num_inputs: int
    num_examples: int
    per_class: int | None
    sample: int
    seed: int
    source_sha256: dict[str, str]
    row_ids: dict[str, list[int]]
    label_counts: dict[str, dict[str, int]]
    columns: list[str] | None
    versions: dict[str, str]
    augmentation: dict[str, Any] | None = None
    reading: Reading | None = None

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a ``manifest.json``.

        Raises:
            ValueError: it is none, or a value of it cannot be right.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file")
        try:
            values = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not a sample's manifest ({error})") from None
        expected = values.pop(SELF, None) if isinstance(values, dict) else None
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or {*values, *OPTIONAL} != names:
            raise ValueError(f"{path}: not a sample's manifest of this version")
        for name, is_right in _RIGHT.items():
            if name in values and not is_right(values[name]):
                raise ValueError(f"{path}: {name} is not what a sample's manifest has there")
        if expected not in (None, _sha256(values)):
            raise ValueError(f"{path} is not as it was written: its {SELF} is another")
        if READING in values:
            values[READING] = Reading(**values[READING])
        return cls(**values)

    def as_json(self) -> str:
        """Text of the file."""
        values = asdict(self)
        for name in OPTIONAL:
            if values[name] is None:
                del values[name]
        values[SELF] = _sha256(values)
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def find_task(self) -> Task:
        """The task that the sample is of.

        Raises:
            ValueError: this version has another, or none.
        """
        if self.task == CUSTOM:
            if not self.columns:
                raise ValueError("the manifest of a custom task lacks its columns")
            how = self.reading or Reading([], UNQUOTED, None)
            task = custom_task(
                self.labels, self.columns[0], self.columns[1:], how.columns, how.quoting
            )
        else:
            task = find_task(self.task)
        if (list(task.labels), task.num_inputs) != (self.labels, self.num_inputs):
            raise ValueError(f"the manifest is of another task {self.task} than this version's")
        return task


def _sha256(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count, value)) and len(set(value)) == len(value)


def _has_parts(value: Any, is_right: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) == set(PARTS)
        and all(map(is_right, value.values()))
    )


def _is_checksums(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and _is_texts(list(value.values()))


def _is_reading(value: Any) -> bool:
    if not isinstance(value, Mapping) or set(value) != {field.name for field in fields(Reading)}:
        return False
    share = value["dev_share"]
    is_share = share is None or (isinstance(share, float) and 0 < share < 1)
    return _is_texts(value["columns"]) and value["quoting"] in QUOTINGS and is_share


_RIGHT = {
    "task": lambda value: isinstance(value, str),
    "labels": lambda value: _is_texts(value) and len(set(value)) >= 2,
    "num_inputs": lambda value: value in (1, 2),
    "num_examples": _is_count,
    "per_class": lambda value: value is None or _is_count(value),
    "sample": _is_count,
    "seed": _is_count,
    "source_sha256": _is_checksums,
    "row_ids": lambda value: _has_parts(value, _is_ids),
    "label_counts": lambda value: _has_parts(value, lambda of: isinstance(of, Mapping)),
    "columns": lambda value: value is None or _is_texts(value),
    "versions": lambda value: isinstance(value, Mapping),
    AUGMENTATION: lambda value: isinstance(value, Mapping),
    READING: _is_reading,
}
