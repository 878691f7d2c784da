"""Scores of a validation set that its batches add up to: Matthews correlation and F1.

A batch logs tensors of counts, which add up over batches and workers, so the scores do not depend
on how the set was cut. They are 3 numbers a class: with C classes no more than a row of the logits.
Keys start with an underscore: fairseq keeps those out of its log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from fairseq.logging import metrics
from torch import Tensor

from scl_fairseq.metrics import (
    ClassCounts,
    accuracy,
    class_f1,
    f1_class,
    matthews_corrcoef,
)
from scl_fairseq.refusals import listed

COUNTS = "_class_counts"  # (3, C)
F1_COUNTS = "_f1_counts"  # (3, 1), of the class whose F1 is reported
WANTS_MCC = "_report_mcc"


class Reports:
    """Counts what the reports that were asked for are made of.

    Args:
        labels: names of the classes.
        mcc: log ``mcc``.
        acc_and_f1: log ``f1`` and ``acc_and_f1``.
        f1_label: name of the class whose F1 that is; empty for the one that ``f1_class`` says.

    Raises:
        ValueError: there is no such class, or nothing says which it is.

    Attributes:
        f1_label: its name; None where F1 is not reported.
    """

    def __init__(self, labels: Sequence[str], mcc: bool, acc_and_f1: bool, f1_label: str = ""):
        if f1_label and not acc_and_f1:
            raise ValueError(f"--f1-label {f1_label} is an option of --report-acc-and-f1")
        self._mcc = mcc
        self._index = f1_class(labels, f1_label or None) if acc_and_f1 else None
        if acc_and_f1 and self._index is None:
            raise ValueError(
                f"--report-acc-and-f1 is the F1 of one class: of {len(labels)} labels --f1-label "
                f"has to name it: {listed(labels)}"
            )
        self.f1_label = labels[self._index] if acc_and_f1 else None

    @property
    def is_wanted(self) -> bool:
        """Whether anything is reported."""
        return self._mcc or self._index is not None

    def batch_counts(
        self, predictions: Tensor, targets: Tensor, num_classes: int
    ) -> dict[str, Tensor | int]:
        """What a batch logs, the same keys and shapes for every batch.

        Args:
            predictions: (B,), class indices.
            targets: (B,), class indices.
            num_classes: C.
        """
        hits = targets[predictions == targets]
        parts = [part.bincount(minlength=num_classes) for part in (targets, predictions, hits)]
        counts = torch.stack(parts)
        # reduce_metrics is a static method: what it should derive travels with the counts.
        found: dict[str, Tensor | int] = {COUNTS: counts}
        if self._mcc:
            found[WANTS_MCC] = 1
        if self._index is not None:
            found[F1_COUNTS] = counts[:, self._index : self._index + 1]
        return found


def reduce_metrics(logging_outputs: Sequence[Mapping]) -> None:
    """Log ``mcc``, ``f1`` and ``acc_and_f1``, x 100, those that batches have counts for."""
    for key in (COUNTS, F1_COUNTS):
        found = [log[key] for log in logging_outputs if key in log]
        if found:
            metrics.log_scalar_sum(key, sum(found))  # a meter that takes tensors as well
    if any(WANTS_MCC in log for log in logging_outputs):
        _derive("mcc", lambda meters: matthews_corrcoef(_counts(meters, COUNTS)))
    if any(F1_COUNTS in log for log in logging_outputs):
        _derive("f1", _f1)
        _derive("acc_and_f1", lambda meters: (accuracy(_counts(meters, COUNTS)) + _f1(meters)) / 2)


def _derive(name: str, score: Callable[[Mapping], float]) -> None:
    metrics.log_derived(name, lambda meters: round(100 * score(meters), 1))


def _f1(meters: Mapping) -> float:
    return class_f1(_counts(meters, F1_COUNTS), 0)


def _counts(meters: Mapping, key: str) -> ClassCounts:
    # Plain numbers: a checkpoint's best metric is made of these, and must load weights-only.
    # Workers' sums are floating point, in which counts are exact.
    return ClassCounts(*([int(count) for count in part] for part in meters[key].sum.tolist()))
