"""What a classifier says about every example of a binarised split, in the order of its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scl_fairseq.data.binarized import BinarizedData
from scl_fairseq.inference.classifier import load_classifier
from scl_fairseq.refusals import listed


@dataclass(frozen=True)
class SplitPredictions:
    """Predictions for the examples of a split.

    Attributes:
        log_probabilities: (N, classes), float64, natural logarithms.
        predictions: (N,), class indices; of equally probable classes the first.
        labels: (N,), class indices; None where the split has none.
    """

    log_probabilities: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray | None

    @property
    def correct(self) -> np.ndarray:
        """(N,), 1 where the prediction is the label, else 0."""
        return (self.predictions == self.labels).astype(np.int64)


def predict_split(
    checkpoint: Path,
    data: BinarizedData,
    split: str,
    device: torch.device | str,
    on_progress: Callable[[int, int], None] | None = None,
) -> SplitPredictions:
    """Run a checkpoint over a split; rows stay in order, however they are put into batches.

    Args:
        checkpoint: that ``fairseq-train`` wrote, of a model with a classification head; or its
            folder.
        data: binarised data with the dictionaries that it was trained with.
        split: one of those that ``data`` was opened for; it need not have labels.
        device: to run on.
        on_progress: is told examples done and in all.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is damaged, not of a trained classifier or does not fit the data; a row is
            longer than its positions; a label is none of the dictionary's; weights or outputs are
            not finite.
    """
    classifier = load_classifier(checkpoint, data)
    classifier.training.require(classifier.head_name)
    reading = classifier.read(split, device, keep_inputs=False, on_progress=on_progress)
    logits = reading.logits.double().cpu()
    labels = None if reading.targets is None else reading.targets.numpy()
    # fairseq gives a label that the dictionary lacks the index -1.
    if labels is not None and not ((labels >= 0) & (labels < len(data.labels))).all():
        raise ValueError(
            f"{data.folder}: {split} has labels that are none of {listed(data.labels)}"
        )
    return SplitPredictions(
        torch.log_softmax(logits, dim=1).numpy(), logits.argmax(dim=1).numpy(), labels
    )
