"""Log the diagnostics of ``scl_fairseq.losses`` over an interval of batches and workers.

What a batch logs are plain numbers that add up. Keys start with an underscore: fairseq keeps those
out of its log, which shows the values derived from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from fairseq.logging import metrics
from torch import Tensor

from scl_fairseq.losses import DIAGNOSTICS, diagnostic_sums, diagnostic_value

DIGITS = {"anchors_with_positive": 1}  # as accuracy; the others are often close to 1 or 0
DEFAULT_DIGITS = 4


def batch_sums(embeddings: Tensor, labels: Tensor | None) -> dict[str, float]:
    """A batch's sums and counts under their logging keys, zeros included.

    Args:
        embeddings: (B, C).
        labels: (B,), or None for regression targets, which leave ``uniformity`` alone.
    """
    sums = {}
    for name, (total, count) in diagnostic_sums(embeddings, labels).items():
        sums[_total_key(name)] = total
        sums[_count_key(name)] = count
    return sums


def positives(labels: Tensor, own: slice) -> dict[str, float]:
    """Sum and count of ``anchors_with_positive``, where positives may be other workers'.

    Args:
        labels: (M,), of all that an anchor is contrasted with.
        own: which of them are this batch's.
    """
    _, class_of, class_sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    name = "anchors_with_positive"
    with_positive = int((class_sizes[class_of[own]] > 1).sum())
    return {_total_key(name): with_positive, _count_key(name): own.stop - own.start}


def reduce_metrics(logging_outputs: Sequence[Mapping]) -> None:
    """Log the diagnostics that the logging outputs have pairs for."""
    for name in DIAGNOSTICS:
        # Plain numbers, as checkpoints keep these: workers' sums are tensors.
        total = float(sum(log.get(_total_key(name), 0) for log in logging_outputs))
        count = int(sum(log.get(_count_key(name), 0) for log in logging_outputs))
        if count > 0:
            metrics.log_scalar_sum(_total_key(name), total)
            metrics.log_scalar_sum(_count_key(name), count)
            _derive(name)


def _derive(name: str) -> None:
    def from_meters(meters):
        count = meters[_count_key(name)].sum
        # After a reset the meter is still there, though the new interval may have no pair: None,
        # as of fairseq's own meters, which TensorBoard leaves out.
        if count == 0:
            return None
        value = diagnostic_value(name, meters[_total_key(name)].sum, count)
        return round(value, DIGITS.get(name, DEFAULT_DIGITS)) + 0.0  # 0, not -0

    metrics.log_derived(name, from_meters)


def _total_key(name: str) -> str:
    return f"_{name}_sum"


def _count_key(name: str) -> str:
    return f"_{name}_count"
