"""Which examples go through a model together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def batches_by_length(lengths: Sequence[int] | np.ndarray, max_tokens: int) -> list[list[int]]:
    """Indices in batches of similar length.

    Args:
        lengths: (N,), tokens of each example.
        max_tokens: examples times longest length of a batch; a longer example is a batch alone.

    Returns:
        Every index once; the longest first, so that memory runs out at once or never.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        if not batches or (len(batches[-1]) + 1) * longest > max_tokens:
            batches.append([])
            longest = int(lengths[index])
        batches[-1].append(index)
    return batches
