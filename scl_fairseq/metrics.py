"""Accuracy-like metrics of a classifier, from three numbers a class; plain Python numbers.

A confusion matrix has as many cells as there are pairs of classes. None of these metrics needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scl_fairseq.refusals import listed


@dataclass(frozen=True)
class ClassCounts:
    """How often each class stands as label, as prediction, and as both.

    Counts of several batches or workers are added up, class by class.

    Attributes:
        of_class: (C,), examples of each class.
        as_class: (C,), examples that were taken for each class.
        hits: (C,), examples of each class that were taken for it.
    """

    of_class: Sequence[float]
    as_class: Sequence[float]
    hits: Sequence[float]


def accuracy(counts: ClassCounts) -> float:
    """Share of correct predictions, in [0, 1]."""
    total = sum(counts.of_class)
    return sum(counts.hits) / total if total else 0.0


def class_f1(counts: ClassCounts, index: int) -> float:
    """F1 of one class, in [0, 1]; 0 where nothing is of it or is taken for it."""
    return _f1(counts.of_class[index], counts.as_class[index], counts.hits[index]) or 0.0


def macro_f1(counts: ClassCounts) -> float:
    """Mean of the classes' F1, in [0, 1]; over those that some example is of, or is taken for."""
    scores = map(_f1, counts.of_class, counts.as_class, counts.hits)
    found = [score for score in scores if score is not None]
    return sum(found) / len(found) if found else 0.0


def matthews_corrcoef(counts: ClassCounts) -> float:
    """Matthews correlation coefficient, in [-1, 1]; 0 where it is undefined.

    For more than two classes this is Gorodkin's R_K (*Comparing two K-category assignments by a
    K-category correlation coefficient*, 2004), which equals the binary coefficient for two.
    """
    of_class, as_class, total = counts.of_class, counts.as_class, sum(counts.of_class)
    chance = sum(t * p for t, p in zip(of_class, as_class, strict=True))
    covariance = sum(counts.hits) * total - chance
    spread = (total**2 - sum(p * p for p in as_class)) * (total**2 - sum(t * t for t in of_class))
    return covariance / math.sqrt(spread) if spread > 0 else 0.0


def _f1(of_class: float, as_class: float, hits: float) -> float | None:
    """2 TP / (2 TP + FP + FN); None for a class that does not occur at all."""
    occurrences = of_class + as_class
    return 2 * hits / occurrences if occurrences else None


def f1_class(labels: Sequence[str], wanted: str | None = None) -> int | None:
    """The class whose F1 is meant, by its name: the order of labels in a dictionary is no order.

    fairseq's own recipe numbers them by how frequent they are. Where nobody names one, it is of two
    labels the greater number (1 of 0 and 1), or the later word (positive of negative and positive).

    Args:
        labels: names of the classes.
        wanted: what ``--f1-label`` names.

    Returns:
        Its index; None for other than two classes where none is named.

    Raises:
        ValueError: the named one is none of the labels.
    """
    if wanted is not None:
        if wanted not in labels:
            raise ValueError(f"--f1-label {wanted} is none of the labels: {listed(labels)}")
        return labels.index(wanted)
    return max(range(2), key=lambda index: _rank(labels[index])) if len(labels) == 2 else None


def _rank(label: str) -> tuple[bool, float, str, str]:
    """Numbers before words, numbers by size, words as in a dictionary."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return False, number, "", label
    return True, 0.0, label.casefold(), label
