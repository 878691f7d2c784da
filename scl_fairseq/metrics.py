"""Accuracy-like metrics of a confusion matrix, ``[target][prediction]``; plain Python numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

Confusion = Sequence[Sequence[float]]


def accuracy(confusion: Confusion) -> float:
    """Share of correct predictions, in [0, 1]."""
    total = sum(map(sum, confusion))
    return sum(confusion[i][i] for i in range(len(confusion))) / total if total else 0.0


def binary_f1(confusion: Confusion) -> float:
    """F1 of class 1 of two, in [0, 1]; 0 where nothing is or is called class 1."""
    if len(confusion) != 2:
        raise ValueError(f"{len(confusion)} classes, expected 2")
    return _f1_scores(confusion)[1] or 0.0


def macro_f1(confusion: Confusion) -> float:
    """Mean of the classes' F1, in [0, 1]; over those that some example is of, or is called."""
    found = [score for score in _f1_scores(confusion) if score is not None]
    return sum(found) / len(found) if found else 0.0


def matthews_corrcoef(confusion: Confusion) -> float:
    """Matthews correlation coefficient, in [-1, 1]; 0 where it is undefined.

    For more than two classes this is Gorodkin's R_K (*Comparing two K-category assignments by a
    K-category correlation coefficient*, 2004), which equals the binary coefficient for two.
    """
    of_class, as_class = _marginals(confusion)
    total = sum(of_class)
    correct = sum(confusion[i][i] for i in range(len(confusion)))
    covariance = correct * total - sum(t * p for t, p in zip(of_class, as_class, strict=True))
    spread = (total**2 - sum(p * p for p in as_class)) * (total**2 - sum(t * t for t in of_class))
    return covariance / math.sqrt(spread) if spread > 0 else 0.0


def _marginals(confusion: Confusion) -> tuple[list[float], list[float]]:
    return [sum(row) for row in confusion], [sum(column) for column in zip(*confusion, strict=True)]


def _f1_scores(confusion: Confusion) -> list[float | None]:
    """2 TP / (2 TP + FP + FN) of each class; None for a class that does not occur at all."""
    occurrences = map(sum, zip(*_marginals(confusion), strict=True))
    return [2 * confusion[i][i] / n if n else None for i, n in enumerate(occurrences)]
