"""Whether two classifiers differ on one test set: paired bootstrap and McNemar's test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from scl_fairseq.inference.bootstrap import resample_sum

# Of so many discordant pairs on the chi-squared distribution is a good approximation (Edwards 1948;
# the usual advice is 25).
MANY_DISCORDANT = 25
EXACT = "exact binomial"
CHI_SQUARED = "chi-squared, continuity-corrected"


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two accuracies on the same examples.

    Attributes:
        test: how p was found, ``EXACT`` or ``CHI_SQUARED``.
        only_first: examples that only the first gets right.
        only_second: examples that only the second gets right.
        p: two-sided.
    """

    test: str
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class PairedComparison:
    """The second against the first, on the same examples.

    Attributes:
        difference: accuracy of the second minus that of the first, percent points.
        interval: 95 %, of the paired percentile bootstrap over the examples.
        p: two-sided, of the bootstrap, see ``resample_sum``.
        mcnemar: McNemar's test.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    mcnemar: McNemar


def compare(
    first: np.ndarray, second: np.ndarray, resamples: int = 10_000, seed: int = 0
) -> PairedComparison:
    """Compare two classifiers.

    Args:
        first: (N,), 1 where its prediction for an example is right, else 0.
        second: the same of the other.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    gains = second - first
    found = resample_sum(gains, resamples, seed)
    to_points = 100 / len(gains)
    low, high = found.interval
    return PairedComparison(
        difference=float(gains.sum() * to_points),
        interval=(low * to_points, high * to_points),
        p=found.p,
        mcnemar=mcnemar(int((gains < 0).sum()), int((gains > 0).sum())),
    )


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """McNemar's test.

    *Note on the sampling error of the difference between correlated proportions or percentages*,
    1947. Of fewer than ``MANY_DISCORDANT`` discordant pairs p is that of the binomial distribution,
    of more that of (|b - c| - 1)² / (b + c) in the chi-squared distribution with one degree of
    freedom, with Edwards's correction for continuity.

    Args:
        only_first: examples that only the first gets right, b.
        only_second: examples that only the second gets right, c.
    """
    discordant = only_first + only_second
    if discordant >= MANY_DISCORDANT:
        # Equal numbers would otherwise be corrected away from where they are.
        distance = max(abs(only_first - only_second) - 1, 0)
        p = float(stats.chi2.sf(distance**2 / discordant, df=1))
        return McNemar(CHI_SQUARED, only_first, only_second, p)
    p = float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemar(EXACT, only_first, only_second, p)
