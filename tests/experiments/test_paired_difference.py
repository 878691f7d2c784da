"""Intervals of a difference over samples and test sentences, against other routes to them."""

import numpy as np
import pytest
from scipy import stats

from scl_fairseq.experiments.paired_difference import difference


def by_loops(tables):
    """The same model written out: variance components by explicit sums, truncated at 0."""
    means, variance, spread = [], 0.0, 0.0
    for table in tables:
        rows, columns = len(table), len(table[0])
        cells = [(i, j) for i in range(rows) for j in range(columns)]
        mean = sum(table[i][j] for i, j in cells) / (rows * columns)
        of_row = [sum(table[i]) / columns for i in range(rows)]
        of_column = [sum(table[i][j] for i in range(rows)) / rows for j in range(columns)]
        a = columns * sum((x - mean) ** 2 for x in of_row) / (rows - 1)
        b = rows * sum((x - mean) ** 2 for x in of_column) / (columns - 1)
        rest = (rows - 1) * (columns - 1)
        e = sum((table[i][j] - of_row[i] - of_column[j] + mean) ** 2 for i, j in cells) / rest
        terms = {"a": (a, rows - 1), "b": (b, columns - 1), "e": (e, rest)}
        if a < e or b < e:  # a component below 0 leaves the other's mean square alone
            terms = {"a": terms["a"]} if a > b else {"b": terms["b"]}
        sign = {"a": 1, "b": 1, "e": -1}
        size = rows * columns
        variance += sum(sign[k] * square for k, (square, _) in terms.items()) / size
        spread += sum(square**2 / df for square, df in terms.values()) / size**2
        means.append(mean)
    mean = sum(means) / len(means)
    half = stats.t.ppf(0.975, variance**2 / spread) * variance**0.5 / len(means)
    return mean, (mean - half, mean + half)


def drawn(generator, rows, columns, of_samples, of_sentences, of_rest):
    """A table of differences that are 0 on average."""
    return (
        generator.normal(0, of_samples, (rows, 1))
        + generator.normal(0, of_sentences, (1, columns))
        + generator.normal(0, of_rest, (rows, columns))
    )


@pytest.mark.parametrize("spreads", [(0.3, 0.3, 1), (0, 0.5, 1), (0.5, 0, 1), (0, 0, 1)])
@pytest.mark.parametrize("tasks", [1, 3])
def test_an_interval_is_that_of_explicit_sums(spreads, tasks):
    generator = np.random.default_rng(sum(map(int, np.multiply(spreads, 10))) + tasks)
    tables = [drawn(generator, 4 + task, 9, *spreads) for task in range(tasks)]
    found = difference(tables)
    mean, interval = by_loops([table.tolist() for table in tables])
    assert found.mean == pytest.approx(mean)
    assert found.interval == pytest.approx(interval)
    assert found.samples == 4


def test_where_sentences_do_not_matter_it_is_students_t_over_samples():
    gains = [3.0, -1.0, 2.0, 5.0, 0.5]
    found = difference([np.repeat(np.array(gains)[:, None], 30, axis=1)])
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx(tuple(expected))


def test_where_samples_do_not_matter_it_is_students_t_over_sentences():
    gains = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 200)
    found = difference([np.repeat(gains[None], 5, axis=0)])
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx(tuple(expected))


@pytest.mark.parametrize("rows", [5, 10])
@pytest.mark.parametrize("spreads", [(0.02, 0.2, 0.4), (0.05, 0.05, 0.4), (0, 0.3, 0.3)])
def test_it_holds_the_truth_19_times_in_20(rows, spreads):
    generator = np.random.default_rng(rows)
    held, repeats = 0, 600
    for _ in range(repeats):
        low, high = difference([drawn(generator, rows, 60, *spreads)]).interval
        held += low <= 0 <= high
    assert 0.93 <= held / repeats <= 0.99


def test_an_interval_over_samples_alone_would_be_too_narrow():
    """What it is for: all samples share the test sentences, whose luck does not average out."""
    generator = np.random.default_rng(1)
    held = of_samples = 0
    for _ in range(300):
        table = drawn(generator, 10, 60, 0, 0.3, 0.3)
        low, high = difference([table]).interval
        held += low <= 0 <= high
        low, high = stats.ttest_1samp(table.mean(axis=1), 0).confidence_interval(0.95)
        of_samples += low <= 0 <= high
    assert held > 270
    assert of_samples < 180


def test_a_single_sample_has_no_interval():
    found = difference([np.array([[1.0, 0, 0, 1]])])
    assert found == (0.5, None, 1)


def test_two_that_agree_everywhere():
    found = difference([np.zeros((3, 4))])
    assert found == (0.0, (0.0, 0.0), 3)
