"""Log the diagnostics of ``scl_fairseq.losses`` over an interval of batches and workers.

What a batch logs are numbers that add up: plain ones, or tensors on a GPU, which is not waited for
in an update. Keys start with an underscore: fairseq keeps those out of its log, which shows the
values derived from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from fairseq.logging import metrics
from torch import Tensor

from scl_fairseq.criterions import waiting
from scl_fairseq.criterions.contrast import ContrastSet
from scl_fairseq.losses import DIAGNOSTICS, diagnostic_pairs, diagnostic_value
from scl_fairseq.losses.classes import numbered, sizes

DIGITS = {"anchors_with_positive": 1}  # as accuracy; the others are often close to 1 or 0
DEFAULT_DIGITS = 4


def batch_sums(embeddings: Tensor, labels: Tensor | None) -> dict[str, float | Tensor]:
    """A batch's sums and counts under their logging keys, zeros included.

    Args:
        embeddings: (B, C).
        labels: (B,), or None for regression targets, which leave ``uniformity`` alone.
    """
    names, sums = diagnostic_pairs(embeddings, labels)
    return {
        key(name): _plain(one)
        for name, pair in zip(names, sums, strict=True)
        for key, one in zip((_total_key, _count_key), pair, strict=True)
    }


def positives(contrast: ContrastSet) -> dict[str, float | Tensor]:
    """Sum and count of ``anchors_with_positive``, where positives may be other workers'."""
    class_of, number = numbered(contrast.labels, contrast.num_classes)
    name, own = "anchors_with_positive", contrast.own
    has_positive = sizes(class_of, number)[class_of[own]] > 1
    return {_total_key(name): _plain(has_positive.sum()), _count_key(name): own.stop - own.start}


def reduce_metrics(logging_outputs: Sequence[Mapping]) -> None:
    """Log the diagnostics that the logging outputs have pairs for."""
    for name in DIAGNOSTICS:
        # Plain numbers where they may be, as checkpoints keep these: workers' sums are tensors.
        total = _plain(sum(log.get(_total_key(name), 0) for log in logging_outputs))
        count = _plain(sum(log.get(_count_key(name), 0) for log in logging_outputs))
        if torch.is_tensor(count) or count > 0:
            metrics.log_scalar_sum(_total_key(name), total)
            metrics.log_scalar_sum(_count_key(name), count)
            _derive(name)


def _derive(name: str) -> None:
    def from_meters(meters):
        count = float(meters[_count_key(name)].sum)
        # After a reset the meter is still there, though the new interval may have no pair: None,
        # as of fairseq's own meters, which TensorBoard leaves out.
        if count == 0:
            return None
        value = diagnostic_value(name, float(meters[_total_key(name)].sum), count)
        return round(value, DIGITS.get(name, DEFAULT_DIGITS)) + 0.0  # 0, not -0

    metrics.log_derived(name, from_meters)


def _plain(value: float | Tensor) -> float | Tensor:
    is_kept = torch.is_tensor(value) and waiting.is_waited_for(value)
    return value if is_kept else float(value)


def _total_key(name: str) -> str:
    return f"_{name}_sum"


def _count_key(name: str) -> str:
    return f"_{name}_count"
