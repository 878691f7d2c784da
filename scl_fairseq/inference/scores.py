"""How good a classifier's predictions are, and how far its probabilities can be trusted."""

from __future__ import annotations

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
        f1: percent; of class 1 of two classes, of more the mean over classes ("macro").
        mcc: Matthews correlation coefficient, from -1 to 1.
        calibration_error: expected calibration error, percent, see ``calibration_error``.
        negative_log_likelihood: mean over the examples, of the natural logarithm.
        confusion: number of examples, ``[label][prediction]``.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    f1: float
    mcc: float
    calibration_error: float
    negative_log_likelihood: float
    confusion: list[list[int]]


def score(found: SplitPredictions, resamples: int = 10_000, seed: int = 0) -> Scores:
    """Score the predictions for a split that has labels.

    Args:
        found: the predictions.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    size, num_classes = found.log_probabilities.shape
    confusion = confusion_matrix(found.labels, found.predictions, num_classes)
    f1 = metrics.binary_f1 if num_classes == 2 else metrics.macro_f1
    low, high = resample_sum(found.correct, resamples, seed).interval
    return Scores(
        accuracy=100 * metrics.accuracy(confusion),
        accuracy_interval=(100 * low / size, 100 * high / size),
        f1=100 * f1(confusion),
        mcc=metrics.matthews_corrcoef(confusion),
        calibration_error=100 * calibration_error(found),
        negative_log_likelihood=float(
            -found.log_probabilities[np.arange(size), found.labels].mean()
        ),
        confusion=confusion,
    )


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> list[list[int]]:
    """Number of examples of each label, ``[label][prediction]``; arguments are (N,)."""
    counts = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).tolist()


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
