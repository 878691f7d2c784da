"""How good a classifier's predictions are, and how far its probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scl_fairseq import metrics
from scl_fairseq.inference.bootstrap import resample_sum
from scl_fairseq.inference.split_predictions import SplitPredictions

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Scores:
    """Scores on a labelled split.

    Attributes:
        accuracy: percent.
        accuracy_interval: 95 % percentile bootstrap over the examples, percent.
        f1: percent, of one class or the mean over all of them.
        f1_label: the class that it is of; None for the mean over classes ("macro").
        mcc: Matthews correlation coefficient, from -1 to 1.
        calibration_error: expected calibration error, percent, see ``calibration_error``.
        negative_log_likelihood: mean over the examples, of the natural logarithm.
        num_classes: C.
        cells: number of examples of each pair of classes that occurs, as label and prediction, in
            their order: with many classes most pairs do not.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    f1: float
    f1_label: str | None
    mcc: float
    calibration_error: float
    negative_log_likelihood: float
    num_classes: int
    cells: dict[tuple[int, int], int]

    @property
    def confusion(self) -> list[list[int]]:
        """Number of examples of every pair, (C, C), ``[label][prediction]``."""
        places = range(self.num_classes)
        return [[self.cells.get((i, j), 0) for j in places] for i in places]


def score(
    found: SplitPredictions,
    resamples: int = 10_000,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    f1_label: str | None = None,
) -> Scores:
    """Score the predictions for a split that has labels.

    Args:
        found: the predictions.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        labels: names of the classes; by default their indices.
        f1_label: the class whose F1 is wanted; by default as ``metrics.f1_class`` says.

    Raises:
        ValueError: ``f1_label`` is none of the labels.
    """
    size, num_classes = found.log_probabilities.shape
    labels = labels or [str(index) for index in range(num_classes)]
    counts = count_classes(found.labels, found.predictions, num_classes)
    index = metrics.f1_class(labels, f1_label)
    f1 = metrics.macro_f1(counts) if index is None else metrics.class_f1(counts, index)
    low, high = resample_sum(found.correct, resamples, seed).interval
    return Scores(
        accuracy=100 * metrics.accuracy(counts),
        accuracy_interval=(100 * low / size, 100 * high / size),
        f1=100 * f1,
        f1_label=None if index is None else labels[index],
        mcc=metrics.matthews_corrcoef(counts),
        calibration_error=100 * calibration_error(found),
        negative_log_likelihood=float(
            -found.log_probabilities[np.arange(size), found.labels].mean()
        ),
        num_classes=num_classes,
        cells=confusion_cells(found.labels, found.predictions, num_classes),
    )


def count_classes(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> metrics.ClassCounts:
    """What the metrics are made of; arguments are (N,)."""
    parts = labels, predictions, labels[labels == predictions]
    return metrics.ClassCounts(
        *(np.bincount(part, minlength=num_classes).tolist() for part in parts)
    )


def confusion_cells(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> dict[tuple[int, int], int]:
    """Number of examples of each label and prediction that occur; arguments are (N,)."""
    pairs, counts = np.unique(labels * num_classes + predictions, return_counts=True)
    places = (divmod(pair, num_classes) for pair in pairs.tolist())
    return dict(zip(places, counts.tolist(), strict=True))


def calibration_error(found: SplitPredictions, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error, from 0 to 1.

    The examples are put into ``bins`` bins ((m - 1) / bins, m / bins] by their confidence, the
    probability of what is predicted. The error is the mean over the examples of
    ``|accuracy of the bin - mean confidence of the bin|`` (Guo et al., *On Calibration of Modern
    Neural Networks*, 2017, eq. 3).
    """
    rows = np.arange(len(found.predictions))
    confidence = np.exp(found.log_probabilities[rows, found.predictions])
    edges = np.arange(1, bins) / bins
    bin_of = np.digitize(confidence, edges, right=True)
    # |B| * |acc(B) - conf(B)| is the absolute value of the sum of the differences in the bin.
    gaps = np.bincount(bin_of, weights=found.correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(rows))
