"""The cells of a confusion matrix among a criterion's logging outputs.

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
