"""Paired tests against scipy, formulas by hand and all resamples there are."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from scl_fairseq.inference.compare import CHI_SQUARED, EXACT, compare, mcnemar


@pytest.mark.parametrize(("b", "c"), [(0, 1), (1, 0), (3, 9), (12, 12), (24, 0), (5, 5)])
def test_few_discordant_pairs_are_binomial(b, c):
    found = mcnemar(b, c)
    assert (found.test, found.only_first, found.only_second) == (EXACT, b, c)
    assert found.p == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue)
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert found.p == pytest.approx(min(1, 2 * tail))


@pytest.mark.parametrize(("b", "c"), [(25, 0), (10, 15), (40, 60), (100, 103), (20, 20)])
def test_many_are_chi_squared(b, c):
    found = mcnemar(b, c)
    assert found.test == CHI_SQUARED
    statistic = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    # With one degree of freedom it is the square of a standard normal.
    assert found.p == pytest.approx(math.erfc(math.sqrt(statistic / 2)))
    assert found.p == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue, abs=0.02)


def test_no_discordant_pair():
    found = mcnemar(0, 0)
    assert (found.test, found.p) == (EXACT, 1.0)


@pytest.mark.parametrize("correct", [[1, 0, 1, 1], [1, 1], [0, 0, 0]])
def test_the_same_predictions_do_not_differ(correct):
    found = compare(np.array(correct), np.array(correct))
    assert (found.difference, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)
    assert found.mcnemar.p == 1


def test_bootstrap_agrees_with_all_resamples():
    first, second = np.array([0, 0, 1, 1, 0, 1]), np.array([1, 1, 1, 0, 1, 1])
    gains = (second - first).tolist()
    exact = sorted(100 * sum(drawn) / 6 for drawn in itertools.product(gains, repeat=6))
    found = compare(first, second, resamples=200_000, seed=3)
    assert found.difference == pytest.approx(100 * 2 / 6)
    assert found.interval == pytest.approx(tuple(np.percentile(exact, [2.5, 97.5])))
    tail = min(sum(one <= 0 for one in exact), sum(one >= 0 for one in exact))
    assert found.p == pytest.approx(2 * tail / len(exact), abs=0.006)  # 3 standard errors
    assert (found.mcnemar.only_first, found.mcnemar.only_second) == (1, 3)


def test_the_draw_depends_on_its_seed_alone():
    first, second = np.random.default_rng(0).integers(0, 2, (2, 101))
    found = compare(first, second, resamples=501, seed=1)
    assert found == compare(first, second, resamples=501, seed=1)
    assert found.p != compare(first, second, resamples=501, seed=2).p


def test_examples_stay_paired():
    """Right on the same examples and one more: the interval knows that nothing was lost."""
    first = np.array([1, 0] * 50)
    second = first.copy()
    second[1] = 1
    found = compare(first, second, seed=5)
    assert found.interval[0] == 0
    assert found.interval[1] == pytest.approx(3)  # of so rare an event 3 or fewer
    assert found.interval[0] <= found.difference <= found.interval[1]


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(7)
    covered = 0
    for seed in range(300):
        first = (rng.random(400) < 0.7).astype(int)
        second = (rng.random(400) < 0.75).astype(int)
        low, high = compare(first, second, resamples=400, seed=seed).interval
        covered += low <= 5 <= high
    assert 0.91 <= covered / 300 <= 0.98  # 95 % within 3 standard errors
