"""Welch's test against the formula, the bootstrap against all resamples there are."""

import itertools
import math
import warnings

import numpy as np
import pytest

from scl_fairseq.experiments.results import Predictions, read_results
from scl_fairseq.experiments.selection import make_cells
from scl_fairseq.experiments.statistics import BOOTSTRAP, WELCH, compare, paired_bootstrap, welch
from tests.experiments.test_results import line, setting, write_predictions, write_sweep


def predictions(correct, labels=None):
    return Predictions(tuple(labels or "a" * len(correct)), tuple(correct))


def student_below(t, df):
    """Share of Student's distribution below t > 0, by Simpson's rule over its density."""
    scale = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    x = np.linspace(0, t, 20001)
    density = scale * (1 + x**2 / df) ** (-(df + 1) / 2)
    weights = np.full(x.shape, 2.0)
    weights[1::2] = 4
    weights[[0, -1]] = 1
    return 0.5 + float((density * weights).sum() * (x[1] - x[0]) / 3)


def test_welch_by_hand():
    # Means 2 and 4, variances 1 and 4: se² = 1/3 + 4/3 = 5/3, t = 2 / sqrt(5/3),
    # df = (5/3)² / ((1/3)²/2 + (4/3)²/2) = (25/9) / (17/18) = 50/17.
    found = welch([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert (found.test, found.n, found.difference) == (WELCH, "3 and 3 runs", 2.0)
    assert found.p == pytest.approx(2 * (1 - student_below(2 / math.sqrt(5 / 3), 50 / 17)))
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(2.0)
    assert student_below((high - 2) / math.sqrt(5 / 3), 50 / 17) == pytest.approx(0.975)


def test_welch_of_unequal_numbers_is_not_students_test():
    # Variances 0.5 and 100/3: se² = 0.25 + 25/3; Student's would pool them.
    first, second = [10.0, 11.0], [5.0, 15.0, 15.0, 15.0]
    variances = 0.5 / 2, 25.0 / 4
    df = sum(variances) ** 2 / (variances[0] ** 2 / 1 + variances[1] ** 2 / 3)
    t = (12.5 - 10.5) / math.sqrt(sum(variances))
    found = welch(first, second)
    assert found.p == pytest.approx(2 * (1 - student_below(t, df)), rel=1e-6)
    assert welch(second, first).p == pytest.approx(found.p)
    assert welch(second, first).difference == -found.difference


@pytest.mark.parametrize(
    ("first", "second", "difference", "reason"),
    [
        ([], [1.0], None, "no run"),
        ([1.0], [2.0], 1.0, "one run has no variance"),
        ([1.0, 2.0], [2.0], 0.5, "one run has no variance"),
        ([1.0, 1.0], [2.0, 2.0], 1.0, "no variance on either side"),
        ([57.11009174311926] * 3, [57.11009174311926] * 3, 0.0, "no variance on either side"),
    ],
)
def test_welch_is_undefined(first, second, difference, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = welch(first, second)
    assert (found.p, found.interval) == (None, None)
    assert found.difference == (None if difference is None else pytest.approx(difference))
    assert reason in found.reason


def test_welch_holds_where_one_side_does_not_vary():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = welch([57.11009174311926] * 3, [58.0, 59.0, 61.0])
    assert 0 < found.p < 1
    assert found.reason == ""


def all_resamples(gains, pairs):
    """The difference of every way to draw as many examples, in percent points, sorted."""
    size = len(gains)
    return sorted(
        100 * sum(drawn) / (size * pairs) for drawn in itertools.product(gains, repeat=size)
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([(0, 0, 1, 1, 0)], [(1, 1, 1, 0, 1)]),  # gains 1, 1, 0, -1, 1
        ([(0, 0, 0, 1, 0), (0, 1, 0, 1, 1)], [(1, 1, 0, 0, 1), (1, 1, 0, 0, 0)]),  # 2, 1, 0, -2, 0
        ([(1, 1, 1, 0, 1)], [(0, 0, 1, 1, 0)]),
    ],
)
def test_bootstrap_agrees_with_all_resamples(first, second):
    gains = [
        sum(b) - sum(a)
        for a, b in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True)
    ]
    exact = all_resamples(gains, len(first))
    pairs = [(predictions(a), predictions(b)) for a, b in zip(first, second, strict=True)]
    found = paired_bootstrap(pairs, resamples=200_000, seed=3)
    assert found.test == BOOTSTRAP
    noun = "pair" if len(first) == 1 else "pairs"
    assert found.n == f"{len(first)} {noun} of runs, 5 examples"
    assert found.difference == pytest.approx(100 * sum(gains) / (5 * len(first)))
    tails = [sum(one <= 0 for one in exact), sum(one >= 0 for one in exact)]
    expected = min(1, 2 * min(tails) / len(exact))
    assert found.p == pytest.approx(expected, abs=0.006)  # 3 standard errors of the resampling
    low, high = np.percentile(exact, [2.5, 97.5])
    assert found.interval == pytest.approx((low, high))


def test_bootstrap_of_a_difference_everywhere():
    found = paired_bootstrap([(predictions([0] * 8), predictions([1] * 8))], resamples=999)
    assert (found.difference, found.interval) == (100.0, (100.0, 100.0))
    assert found.p == 2 / 1000  # the least that 999 resamples can say


@pytest.mark.parametrize("same", [[1, 0, 1, 1], [1, 1, 1, 1]])
def test_bootstrap_of_equal_predictions(same):
    found = paired_bootstrap([(predictions(same), predictions(same))])
    assert (found.difference, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


def test_bootstrap_of_equal_accuracies_has_zero_inside():
    first, second = [1, 1, 0, 0] * 25, [0, 0, 1, 1] * 25
    found = paired_bootstrap([(predictions(first), predictions(second))])
    assert found.difference == 0
    assert found.interval[0] < 0 < found.interval[1]
    assert found.p > 0.9


def test_bootstrap_depends_on_its_seed_alone():
    rng = np.random.default_rng(0)
    pairs = [
        (predictions(rng.integers(0, 2, 50).tolist()), predictions(rng.integers(0, 2, 50).tolist()))
        for _ in range(3)
    ]
    found = paired_bootstrap(pairs, resamples=500, seed=1)
    assert found == paired_bootstrap(pairs[::-1], resamples=500, seed=1)
    assert found != paired_bootstrap(pairs, resamples=500, seed=2)
    # More than are drawn at a time.
    many = paired_bootstrap(pairs, resamples=25_001, seed=1)
    assert many.p == pytest.approx(found.p, abs=0.1)
    assert round(many.p * 25_002) % 2 == 0


def test_bootstrap_is_undefined():
    assert paired_bootstrap([]).reason == "no two runs of the same sample and seed"
    one, other = predictions([1, 0], "ab"), predictions([1, 0], "ba")
    for pairs in ([(one, other)], [(one, one), (other, other)], [(one, predictions([1], "a"))]):
        found = paired_bootstrap(pairs)
        assert (found.difference, found.interval, found.p) == (None, None, None)
        assert found.reason == "the runs' test sets differ"


def configurations(folder, correct):
    """CE and CE+SCL of samples 0 and 1, with these predictions; None leaves the file out."""
    lines = []
    for index, (name, found) in enumerate(correct.items()):
        loss, sample = name.split()
        of = setting(0 if loss == "ce" else 0.9, sample=int(sample))
        accuracy = 100 * sum(found) / 4 if found else 50.0
        # The better on validation is not always of the same sample.
        valid = 60.0 + index % 3
        lines.append(line(name.replace(" ", ""), of, valid, accuracy, num_test=4))
        if found:
            write_predictions(folder, name.replace(" ", ""), "0101", found)
    read = read_results(write_sweep(folder, lines, config=None))
    cells = make_cells(read.results, [], ("task", "N"))
    return [cell.choose(3) for cell in cells]


def test_runs_are_paired_by_sample(tmp_path):
    first, second = configurations(
        tmp_path,
        {
            "ce 0": [1, 0, 0, 0], "ce 1": [1, 1, 1, 0], "ce 2": [0, 0, 0, 0],
            "scl 1": [1, 1, 1, 1], "scl 0": [1, 0, 0, 1], "scl 3": [0, 0, 0, 0],
        },
    )  # fmt: skip
    over_runs, over_examples = compare(first, second, resamples=100)
    assert over_runs.n == "3 and 3 runs"
    # (25 + 75 + 0) / 3 against (100 + 50 + 0) / 3
    assert over_runs.difference == pytest.approx(50 / 3)
    assert over_examples.n == "2 pairs of runs, 4 examples"
    # Both pairs gain the last example and nothing else: 1 of 4.
    assert over_examples.difference == pytest.approx(25.0)


def test_runs_without_a_partner_and_missing_predictions(tmp_path):
    first, second = configurations(tmp_path / "a", {"ce 0": [1, 0, 0, 0], "scl 1": [1, 1, 1, 1]})
    over_runs, over_examples = compare(first, second)
    assert (over_runs.p, over_examples.p) == (None, None)
    assert over_examples.reason == "no two runs of the same sample and seed"
    first, second = configurations(tmp_path / "b", {"ce 0": [1, 0, 0, 0], "scl 0": None})
    _, over_examples = compare(first, second)
    assert over_examples.p is None
    assert over_examples.reason.endswith("trials/scl0/predictions.tsv is missing")
