"""Accuracy-like metrics from the cells of a confusion matrix.

Cells are plain integers that add up over batches and workers, so the metrics of a validation set do
not depend on how it was cut. Keys start with an underscore: fairseq keeps those out of its log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

PREFIX = "_confusion"


def cell(target: int, prediction: int) -> str:
    """Logging key of the number of examples of class ``target`` predicted as ``prediction``."""
    return f"{PREFIX}_{target}_{prediction}"


def count_cells(predictions: Tensor, targets: Tensor, num_classes: int) -> dict[str, int]:
    """All ``num_classes`` squared cells of a batch.

    Args:
        predictions: (B,), class indices.
        targets: (B,), class indices.
        num_classes: number of classes; every cell is present, 0 included, because workers may only
            sum dictionaries with the same keys.
    """
    counts = (targets * num_classes + predictions).bincount(minlength=num_classes**2).tolist()
    return {
        cell(target, prediction): counts[target * num_classes + prediction]
        for target in range(num_classes)
        for prediction in range(num_classes)
    }


def matrix(counts: Mapping[str, float]) -> list[list[float]]:
    """The confusion matrix, ``[target][prediction]``, from the cells among ``counts``."""
    cells = [key for key in counts if key.startswith(PREFIX)]
    size = math.isqrt(len(cells))
    return [[float(counts[cell(t, p)]) for p in range(size)] for t in range(size)]


def matthews_corrcoef(confusion: list[list[float]]) -> float:
    """Matthews correlation coefficient, in [-1, 1]; 0 where it is undefined.

    For more than two classes this is Gorodkin's R_K (*Comparing two K-category assignments by a
    K-category correlation coefficient*, 2004), which equals the binary coefficient for two.
    """
    of_class = [sum(row) for row in confusion]
    as_class = [sum(column) for column in zip(*confusion, strict=True)]
    total = sum(of_class)
    correct = sum(confusion[i][i] for i in range(len(confusion)))
    covariance = correct * total - sum(t * p for t, p in zip(of_class, as_class, strict=True))
    spread = (total**2 - sum(p * p for p in as_class)) * (total**2 - sum(t * t for t in of_class))
    return covariance / math.sqrt(spread) if spread > 0 else 0.0


def accuracy(confusion: list[list[float]]) -> float:
    """Share of correct predictions, in [0, 1]."""
    total = sum(map(sum, confusion))
    return sum(confusion[i][i] for i in range(len(confusion))) / total if total else 0.0


def binary_f1(confusion: list[list[float]]) -> float:
    """F1 of class 1 of two, in [0, 1]; 0 where nothing is or is called class 1."""
    (_, false_positive), (false_negative, true_positive) = confusion
    denominator = 2 * true_positive + false_positive + false_negative
    return 2 * true_positive / denominator if denominator else 0.0
