"""Checkpoints side by side on one split: scores, comparisons, and files of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scl_fairseq.data.binarized import BinarizedData
from scl_fairseq.files import file_sha256
from scl_fairseq.inference.compare import PairedComparison, compare
from scl_fairseq.inference.scores import CALIBRATION_BINS, Scores, score
from scl_fairseq.inference.split_predictions import SplitPredictions
from scl_fairseq.versions import installed

MOST_IN_FULL = 200  # classes of a confusion matrix that is written as one
_PACKAGES = ("fairseq", "fairseq-fixed", "torch", "numpy", "scipy")


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint and what it has achieved.

    Attributes:
        name: what readers call it.
        checkpoint: its file.
        predictions: for every example.
        scores: None where the split has no labels.
        against_first: it against the first of all; None for the first, and without labels.
    """

    name: str
    checkpoint: Path
    predictions: SplitPredictions
    scores: Scores | None
    against_first: PairedComparison | None


@dataclass(frozen=True)
class SplitEvaluation:
    """All checkpoints on a split.

    Attributes:
        data: what was evaluated on.
        split: as fairseq names it.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        device: what the models ran on.
        checkpoints: in the order in which they were given.
    """

    data: BinarizedData
    split: str
    resamples: int
    seed: int
    device: str
    checkpoints: tuple[Evaluated, ...]

    @property
    def has_labels(self) -> bool:
        """Whether there are scores."""
        return self.checkpoints[0].scores is not None

    def predictions_tsv(self) -> str:
        """A line an example: index, label if known, and for each checkpoint what it says.

        That is its prediction, and the probability of each label.
        """
        names = self.data.labels
        columns = [("index", range(self.data.num_examples[self.split]))]
        if self.has_labels:
            labels = self.checkpoints[0].predictions.labels
            columns.append(("label", [names[label] for label in labels]))
        for one in self.checkpoints:
            found = [names[index] for index in one.predictions.predictions]
            columns.append((f"{one.name}:prediction", found))
            probabilities = np.exp(one.predictions.log_probabilities).T.tolist()
            for label, of_label in zip(names, probabilities, strict=True):
                columns.append((f"{one.name}:{label}", [f"{value:.9g}" for value in of_label]))
        header, values = zip(*columns, strict=True)
        rows = zip(*values, strict=True)
        return "".join("\t".join(map(str, row)) + "\n" for row in (header, *rows))

    def as_json(self) -> str:
        """Everything but the predictions; percentages as ``Scores`` and ``compare`` have them."""
        record = {
            "data": str(self.data.folder),
            "data_sha256": self.data.sha256,
            "split": self.split,
            "num_examples": self.data.num_examples[self.split],
            "labels": self.data.labels,
            "settings": {
                "bootstrap": self.resamples,
                "seed": self.seed,
                "device": self.device,
                "calibration_bins": CALIBRATION_BINS,
                **self._about_f1(),
            },
            "versions": installed(_PACKAGES),
            "checkpoints": [
                {
                    "name": one.name,
                    "path": str(one.checkpoint),
                    "sha256": file_sha256(one.checkpoint),
                    "scores": self._scores(one.scores) if one.scores else None,
                    "against_first": asdict(one.against_first) if one.against_first else None,
                }
                for one in self.checkpoints
            ],
        }
        return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def _about_f1(self) -> dict[str, Any]:
        if not self.has_labels:
            return {}
        label = self.checkpoints[0].scores.f1_label
        return {"f1": "macro" if label is None else f"of the label {label}", "f1_label": label}

    def _scores(self, scores: Scores) -> dict[str, Any]:
        """All of them; the confusion matrix in full for few classes, its cells for any number."""
        names, found = self.data.labels, asdict(scores)
        cells = [[names[i], names[j], count] for (i, j), count in found.pop("cells").items()]
        matrix = scores.confusion if len(names) <= MOST_IN_FULL else None
        return {**found, "confusion": matrix, "confusion_cells": cells}


def evaluate(
    data: BinarizedData,
    split: str,
    checkpoints: Sequence[tuple[str, Path, SplitPredictions]],
    device: str,
    resamples: int = 10_000,
    seed: int = 0,
    f1_label: str | None = None,
) -> SplitEvaluation:
    """Score predictions, and compare each checkpoint's with the first one's.

    Args:
        data: what the predictions are for.
        split: as fairseq names it.
        checkpoints: name, file and predictions of each.
        device: what the models ran on, for the record.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        f1_label: the class whose F1 is wanted, see ``scores.score``.

    Raises:
        ValueError: it is none of the data's labels.
    """
    first = checkpoints[0][2]
    evaluated = []
    for name, path, found in checkpoints:
        scores = against_first = None
        if found.labels is not None:
            scores = score(found, resamples, seed, data.labels, f1_label)
            if evaluated:
                against_first = compare(first.correct, found.correct, resamples, seed)
        evaluated.append(Evaluated(name, path, found, scores, against_first))
    return SplitEvaluation(data, split, resamples, seed, device, tuple(evaluated))
