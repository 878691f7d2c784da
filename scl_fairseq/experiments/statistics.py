"""Tests of a difference in accuracy: Welch's over runs, a paired bootstrap over test examples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from scl_fairseq.experiments.results import Predictions, predictions_of
from scl_fairseq.experiments.selection import Configuration
from scl_fairseq.experiments.training import short_path
from scl_fairseq.inference.bootstrap import LEVEL, resample_sum

WELCH = "Welch's t-test over runs"
BOOTSTRAP = "paired bootstrap over test examples"


@dataclass(frozen=True)
class Comparison:
    """A difference, second minus first, and what a test says about it.

    Attributes:
        test: its name.
        n: what it counted, in words.
        difference: in the unit of the values, percent points for accuracies; None: undefined.
        interval: of 95 %, None where undefined.
        p: two-sided, None where undefined.
        reason: why something is undefined, otherwise empty.
    """

    test: str
    n: str
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    reason: str = ""


def welch(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Welch's t-test, which does not assume equal variances, of two independent sets of values.

    Undefined for fewer than two values on a side, and where neither side varies.
    """
    n = f"{len(first)} and {len(second)} runs"
    if not first or not second:
        return Comparison(WELCH, n, reason="no run on one side")
    difference = float(np.mean(second) - np.mean(first))
    if min(len(first), len(second)) < 2:
        return Comparison(WELCH, n, difference, reason="one run has no variance")
    if len(set(first)) == len(set(second)) == 1:
        return Comparison(WELCH, n, difference, reason="no variance on either side")
    with warnings.catch_warnings():  # of a side that does not vary, where the test still holds
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stats.ttest_ind(second, first, equal_var=False)
        low, high = result.confidence_interval(LEVEL)
    return Comparison(WELCH, n, difference, (float(low), float(high)), float(result.pvalue))


def paired_bootstrap(
    pairs: Sequence[tuple[Predictions, Predictions]], resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Bootstrap the accuracy difference of paired models over the examples of their test set.

    An example's difference is averaged over the pairs; the examples are drawn with replacement. The
    interval and p are those of ``resample_sum``.

    Args:
        pairs: predictions of the first and the second model of each pair, all on one test set.
        resamples: how many.
        seed: of the draw.

    Returns:
        Percent points; undefined without pairs, and where the test sets differ.
    """
    if not pairs:
        return Comparison(BOOTSTRAP, "0 pairs", reason="no two runs of the same sample and seed")
    labels = pairs[0][0].labels
    n = f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} of runs, {len(labels)} examples"
    if any(one.labels != labels for pair in pairs for one in pair):
        return Comparison(BOOTSTRAP, f"{len(pairs)} pairs", reason="the runs' test sets differ")
    # Whole numbers, so that a resampled difference of zero is exactly zero.
    gains = sum(np.array(second.correct) - np.array(first.correct) for first, second in pairs)
    found = resample_sum(gains, resamples, seed)
    to_points = 100 / (len(labels) * len(pairs))
    low, high = found.interval
    return Comparison(
        BOOTSTRAP,
        n,
        float(gains.sum() * to_points),
        (low * to_points, high * to_points),
        found.p,
    )


def compare(
    first: Configuration, second: Configuration, resamples: int = 10_000, seed: int = 0
) -> list[Comparison]:
    """Welch's test over all runs, and the bootstrap over those of the same sample and seed.

    Raises:
        ValueError, OSError: predictions are malformed or cannot be read.
    """
    of_first, of_second = first.by_repetition(), second.by_repetition()
    over_runs = welch(
        *([run.test_accuracy for run in one.values()] for one in (of_first, of_second))
    )
    pairs = [(of_first[key], of_second[key]) for key in of_first if key in of_second]
    missing = [run for pair in pairs for run in pair if not run.predictions_path.exists()]
    if missing:
        reason = f"{short_path(missing[0].predictions_path)} is missing"
        return [over_runs, Comparison(BOOTSTRAP, f"{len(pairs)} pairs", reason=reason)]
    predictions = [tuple(map(predictions_of, pair)) for pair in pairs]
    return [over_runs, paired_bootstrap(predictions, resamples, seed)]
