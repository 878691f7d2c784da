"""How often a sentence's nearest neighbour in the batch is of its class, in logging outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from fairseq.logging import metrics
from torch import Tensor

from scl_fairseq.losses import l2_normalize

CORRECT, COUNT = "_knn_correct", "_knn_count"


@torch.no_grad()
def batch_counts(rows: Tensor, labels: Tensor | None) -> dict[str, int]:
    """Numbers that add up over batches and workers.

    Args:
        rows: (B, D), floating point, compared by their cosine.
        labels: (B,), or None where there are no classes, and nothing to count.
    """
    if labels is None:
        return {}
    if len(rows) < 2:
        return {CORRECT: 0, COUNT: 0}
    with torch.autocast(device_type=rows.device.type, enabled=False):
        features = l2_normalize(rows)
        similarities = features @ features.T
    nearest = similarities.fill_diagonal_(-torch.inf).argmax(dim=1)
    return {CORRECT: int((labels[nearest] == labels).sum()), COUNT: len(rows)}


def reduce_metrics(logging_outputs: Sequence[Mapping]) -> None:
    """Log ``knn_accuracy``, in percent, where neighbours were counted."""
    correct = int(sum(log.get(CORRECT, 0) for log in logging_outputs))
    count = int(sum(log.get(COUNT, 0) for log in logging_outputs))
    if count > 0:
        metrics.log_scalar("knn_accuracy", 100.0 * correct / count, count, round=1)
