"""One split as fairseq stores it: its files, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scl_fairseq.data.binarize import IndexedWriter
from scl_fairseq.data.encode import Part, label_bytes
from scl_fairseq.data.tasks import Task
from scl_fairseq.files import write_text
from scl_fairseq.text.dictionary import Dictionary, make_dictionary

# Folder with a file for each split that has paraphrases: a line a row, the id of the row that it
# is, or was made of.
SOURCE_DIR = "source"


@dataclass
class SplitReport:
    """What one output holds: rows, tokens (``</s>`` counted), positions of the longest row."""

    rows: int = 0
    label_counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    unknown_tokens: int = 0
    longest: int = 0


def input_folders(task: Task, target: Path) -> list[Path]:
    """Where each text of a row goes; fairseq looks for text alone in the folder itself."""
    if task.num_inputs == 1 and not task.labels:
        return [target]
    return [target / f"input{part}" for part in range(task.num_inputs)]


class SplitOutput:
    """One fairseq split: its files, closed together."""

    def __init__(self, task: Task, target: Path, name: str, dictionary: Dictionary):
        self._task = task
        self._inputs = [
            IndexedWriter(folder / name, dictionary.dtype) for folder in input_folders(task, target)
        ]
        self._labels: IndexedWriter | None = None
        self._label_prefix = target / "label" / name
        self._label_dtype = make_dictionary(task.labels).dtype
        self._ids: list[np.ndarray] = []
        self._texts: list[np.ndarray] = []
        self._source_path = target / SOURCE_DIR / f"{name}.txt"

    def __enter__(self) -> SplitOutput:
        return self

    def write(self, part: Part, report: SplitReport) -> None:
        """Append a block's rows, and count them."""
        for writer, (data, lengths) in zip(self._inputs, part.inputs, strict=True):
            writer.write(data, lengths)
            report.tokens += int(lengths.sum())
        self._ids.append(part.ids)
        self._texts.append(part.texts)
        report.rows += part.rows
        report.unknown_tokens += part.unknown
        report.longest = max(report.longest, part.longest)
        if part.labels is None:
            return
        if self._labels is None:
            self._labels = IndexedWriter(self._label_prefix, self._label_dtype)
        self._labels.write(*label_bytes(part.labels, self._label_dtype))
        for place, label in enumerate(self._task.labels):
            seen = report.label_counts.get(label, 0)
            report.label_counts[label] = seen + int((part.labels == place).sum())

    def texts(self) -> np.ndarray:
        """Numbers that tell the texts of its rows apart, (rows,); none of official files."""
        return np.concatenate(self._texts) if self._texts else np.zeros(0, np.uint64)

    def __exit__(self, kind: type | None, *_: object) -> None:
        for writer in (*self._inputs, *([self._labels] if self._labels else [])):
            writer.abandon() if kind else writer.close()
        ids = np.concatenate(self._ids) if self._ids else np.zeros(0, np.int64)
        if not kind and len(np.unique(ids)) < len(ids):
            write_text(self._source_path, "".join(f"{row}\n" for row in ids.tolist()))
