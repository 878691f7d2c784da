"""Metrics of a confusion matrix against scikit-learn's of the examples."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq import metrics


@settings(max_examples=80, deadline=None)
@given(
    num_classes=st.integers(2, 4), n=st.integers(1, 40), seed=st.integers(0, 999), data=st.data()
)
def test_equals_scikit_learn(num_classes, n, seed, data):
    rng = np.random.default_rng(seed)
    # Some classes may not occur at all.
    some = data.draw(st.sets(st.integers(0, num_classes - 1), min_size=1).map(sorted))
    targets, predictions = rng.choice(some, (2, n))
    matrix = sklearn.metrics.confusion_matrix(targets, predictions, labels=range(num_classes))
    matrix = matrix.tolist()
    assert metrics.accuracy(matrix) == pytest.approx(
        sklearn.metrics.accuracy_score(targets, predictions)
    )
    assert metrics.matthews_corrcoef(matrix) == pytest.approx(
        sklearn.metrics.matthews_corrcoef(targets, predictions), abs=1e-12
    )
    assert metrics.macro_f1(matrix) == pytest.approx(
        sklearn.metrics.f1_score(targets, predictions, average="macro", zero_division=0)
    )
    if num_classes == 2:
        expected = sklearn.metrics.f1_score(targets, predictions, zero_division=0)
        assert metrics.binary_f1(matrix) == pytest.approx(expected)


def test_undefined_values_are_zero():
    only_zeros = [[5.0, 0.0], [0.0, 0.0]]
    assert metrics.matthews_corrcoef(only_zeros) == 0
    assert metrics.binary_f1(only_zeros) == 0
    nothing = [[0.0, 0.0], [0.0, 0.0]]
    assert metrics.accuracy(nothing) == metrics.macro_f1(nothing) == 0


def test_binary_f1_is_of_two_classes():
    with pytest.raises(ValueError, match="3 classes, expected 2"):
        metrics.binary_f1([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
