"""``manifest.json``: all that is needed to draw a few-shot sample once more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scl_fairseq.data import versions
from scl_fairseq.data.account import Account, silent
from scl_fairseq.data.records import Row
from scl_fairseq.data.sources import Source
from scl_fairseq.data.tasks import CUSTOM, Task, custom_task, find_task


@dataclass(frozen=True)
class Manifest:
    """What a sample is made of.

    Attributes:
        task: its name.
        num_examples: training examples in all.
        per_class: training examples of each class, where that was asked for.
        sample: number of the sample among those of its draw, from 0.
        seed: of the draw.
        source_sha256: file name to checksum.
        row_ids: ids of the rows of train, dev and test.
        label_counts: rows of each class in each of them.
        columns: label column, sentence columns and labels of a custom task.
        versions: of this package, Python and its libraries.
    """

    task: str
    num_examples: int
    per_class: int | None
    sample: int
    seed: int
    source_sha256: dict[str, str]
    row_ids: dict[str, list[int]]
    label_counts: dict[str, dict[str, int]]
    columns: dict[str, list[str]] | None
    versions: dict[str, str]

    @classmethod
    def of(
        cls,
        task: Task,
        parts: Mapping[str, Sequence[Row]],
        checksums: dict[str, str],
        per_class: int | None,
        sample: int,
        seed: int,
    ) -> Manifest:
        """The manifest of a new sample."""
        seen = {name: Counter(row.label for row in rows) for name, rows in parts.items()}
        columns = None
        if task.name == CUSTOM:
            columns = {
                "label_column": [task.label_column],
                "sentence_columns": list(task.sentence_columns),
                "labels": list(task.labels),
            }
        return cls(
            task=task.name,
            num_examples=len(parts["train"]),
            per_class=per_class,
            sample=sample,
            seed=seed,
            source_sha256=checksums,
            row_ids={name: [row.id for row in rows] for name, rows in parts.items()},
            label_counts={
                name: {label: counts[label] for label in task.labels}
                for name, counts in seen.items()
            },
            columns=columns,
            versions=versions.installed(),
        )

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a ``manifest.json``.

        Raises:
            ValueError: it is none.
        """
        try:
            manifest = cls(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: not a sample's manifest ({error})") from None
        if set(manifest.row_ids) != {"train", "dev", "test"}:
            raise ValueError(
                f"{path}: row_ids of {', '.join(manifest.row_ids)}, expected train, dev, test"
            )
        return manifest

    def as_json(self) -> str:
        """Text of the file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def find_task(self) -> Task:
        """The task that the sample is of."""
        if self.task != CUSTOM:
            return find_task(self.task)
        if not self.columns:
            raise ValueError("a manifest of a custom task without its columns")
        return custom_task(
            self.columns["labels"],
            self.columns["label_column"][0],
            self.columns["sentence_columns"],
        )

    def check_sources(self, sources: Sequence[Source]) -> None:
        """Refuse files that are not those the sample was drawn from.

        Raises:
            ValueError: a checksum differs.
        """
        there_is = source_checksums(sources)
        for name, expected in self.source_sha256.items():
            found = there_is.get(name)
            if found != expected:
                folder = sources[0].path.parent
                raise ValueError(
                    f"{folder / name}: SHA-256 {found or 'of no such file'}, expected {expected}: "
                    "not the file that the sample was drawn from"
                )


def source_checksums(sources: Sequence[Source]) -> dict[str, str]:
    """SHA-256 of each file of the sources, by its name."""
    account = Account(sources, silent)
    for source in sources:
        for path in source.paths:
            with path.open("rb") as file:
                while data := file.read(1 << 20):
                    account(path, data)
    return account.checksums()
