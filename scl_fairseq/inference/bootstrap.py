"""The percentile bootstrap of a sum over test examples, such as the number of correct ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
_CHUNK = 10_000  # resamples at a time: they need a few MB


@dataclass(frozen=True)
class Resampled:
    """What resampling says about a sum.

    Attributes:
        interval: of the middle 95 % of the resampled sums.
        p: two-sided, of a sum of zero: twice the smaller share of the resampled sums that are not
            above, or not below, zero. One is added to count and total: a finite number of resamples
            does not show that p is 0.
    """

    interval: tuple[float, float]
    p: float


def resample_sum(values: np.ndarray, resamples: int, seed: int) -> Resampled:
    """Draw the examples with replacement, as many as there are, and sum their values.

    Args:
        values: (N,), whole numbers of which few are different: what each example contributes.
        resamples: how often.
        seed: of the draw.
    """
    # Few values occur, so drawing how often each does is drawing the examples.
    different, counts = np.unique(values, return_counts=True)
    generator = np.random.default_rng(seed)
    sums = np.concatenate(
        [
            generator.multinomial(
                len(values), counts / len(values), size=min(_CHUNK, resamples - start)
            )
            @ different
            for start in range(0, resamples, _CHUNK)
        ]
    )
    tail = min(int((sums <= 0).sum()), int((sums >= 0).sum()))
    low, high = np.percentile(sums, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Resampled((float(low), float(high)), min(1.0, 2 * (tail + 1) / (resamples + 1)))
