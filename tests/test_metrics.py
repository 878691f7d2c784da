"""Metrics of a classifier against scikit-learn's of the examples."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq import metrics
from scl_fairseq.inference.scores import count_classes


@settings(max_examples=80, deadline=None)
@given(
    num_classes=st.integers(2, 5), n=st.integers(1, 40), seed=st.integers(0, 999), data=st.data()
)
def test_equals_scikit_learn(num_classes, n, seed, data):
    rng = np.random.default_rng(seed)
    # Some classes may not occur at all.
    some = data.draw(st.sets(st.integers(0, num_classes - 1), min_size=1).map(sorted))
    targets, predictions = rng.choice(some, (2, n))
    counts = count_classes(targets, predictions, num_classes)
    assert metrics.accuracy(counts) == pytest.approx(
        sklearn.metrics.accuracy_score(targets, predictions)
    )
    assert metrics.matthews_corrcoef(counts) == pytest.approx(
        sklearn.metrics.matthews_corrcoef(targets, predictions), abs=1e-12
    )
    assert metrics.macro_f1(counts) == pytest.approx(
        sklearn.metrics.f1_score(targets, predictions, average="macro", zero_division=0)
    )
    for index in range(num_classes):
        expected = sklearn.metrics.f1_score(targets == index, predictions == index, zero_division=0)
        assert metrics.class_f1(counts, index) == pytest.approx(expected)


def test_undefined_values_are_zero():
    only_zeros = metrics.ClassCounts([5, 0], [5, 0], [5, 0])
    assert metrics.matthews_corrcoef(only_zeros) == 0
    assert metrics.class_f1(only_zeros, 1) == 0
    nothing = metrics.ClassCounts([0, 0], [0, 0], [0, 0])
    assert metrics.accuracy(nothing) == metrics.macro_f1(nothing) == 0


class Counted(list):
    """A list that knows how many of its elements were looked at."""

    looks = 0

    def __iter__(self):
        for value in super().__iter__():
            type(self).looks += 1
            yield value

    def __getitem__(self, index):
        type(self).looks += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "matthews_corrcoef"])
def test_cost_grows_with_the_classes_and_not_with_their_pairs(name):
    score, looks = getattr(metrics, name), []
    for num_classes in (100, 1000):
        Counted.looks = 0
        score(metrics.ClassCounts(*(Counted([1] * num_classes) for _ in range(3))))
        looks.append(Counted.looks)
    assert looks[1] == 10 * looks[0]
    assert looks[1] <= 10 * 1000


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("0 1", "1"),
        ("1 0", "1"),
        ("neg pos", "pos"),
        ("pos neg", "pos"),
        ("not_entailment entailment", "not_entailment"),
        ("1 -1", "1"),
        ("10 9", "10"),
        ("1.0 0.0", "1.0"),
        ("Yes no", "Yes"),
        ("nan inf", "nan"),
        ("1 other", "other"),
        ("好 坏", "好"),
    ],
)
def test_the_class_of_f1_does_not_depend_on_the_order_of_labels(labels, expected):
    one, other = labels.split()
    for names in ([one, other], [other, one]):
        assert names[metrics.f1_class(names)] == expected
        for name in names:
            assert names[metrics.f1_class(names, name)] == name


def test_of_other_than_two_labels_the_class_of_f1_has_to_be_named():
    for labels in (["1"], ["0", "1", "2"]):
        assert metrics.f1_class(labels) is None
        assert metrics.f1_class(labels, "1") == labels.index("1")
        with pytest.raises(ValueError, match=f"--f1-label 3 is none of the labels: {labels[0]}"):
            metrics.f1_class(labels, "3")
