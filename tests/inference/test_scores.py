"""Scores against scikit-learn and loops over the examples."""

import math

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from scl_fairseq.inference.scores import calibration_error, confusion_cells, score
from scl_fairseq.inference.split_predictions import SplitPredictions


def predictions(logits, labels):
    logits = np.asarray(logits, dtype=np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return SplitPredictions(log_probabilities, logits.argmax(axis=1), np.asarray(labels))


def random_predictions(seed, size, num_classes, of=None):
    rng = np.random.default_rng(seed)
    # Rounded, so that some examples have several most probable classes.
    logits = np.round(rng.normal(0, 1.5, (size, num_classes)))
    return predictions(logits, rng.choice(of or range(num_classes), size))


def calibration_by_hand(found, bins):
    """Equation 3 of Guo et al. 2017, bin by bin."""
    error, size = 0.0, len(found.labels)
    for m in range(1, bins + 1):
        inside = []
        for row, label in zip(np.exp(found.log_probabilities), found.labels, strict=True):
            confidence = max(row)
            if (m - 1) / bins < confidence <= m / bins:
                inside.append((confidence, list(row).index(confidence) == label))
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = sum(confidence for confidence, _ in inside) / len(inside)
            error += len(inside) / size * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("num_classes", "of"), [(2, None), (3, None), (3, [0, 2]), (2, [1])], ids=str
)
def test_equals_scikit_learn(seed, num_classes, of):
    found = random_predictions(seed, 300, num_classes, of)
    scores = score(found, resamples=50)
    labels, predicted = found.labels, found.predictions
    all_labels = list(range(num_classes))
    expected = sklearn.metrics.confusion_matrix(labels, predicted, labels=all_labels)
    assert scores.confusion == expected.tolist()
    assert scores.accuracy == pytest.approx(100 * sklearn.metrics.accuracy_score(labels, predicted))
    average = "binary" if num_classes == 2 else "macro"
    f1 = sklearn.metrics.f1_score(labels, predicted, average=average, zero_division=0)
    assert scores.f1 == pytest.approx(100 * f1)
    mcc = sklearn.metrics.matthews_corrcoef(labels, predicted)
    assert scores.mcc == pytest.approx(mcc, abs=1e-12)
    probabilities = np.exp(found.log_probabilities)
    loss = sklearn.metrics.log_loss(labels, probabilities, labels=all_labels)
    assert scores.negative_log_likelihood == pytest.approx(loss)
    assert scores.calibration_error == pytest.approx(100 * calibration_by_hand(found, 15))
    assert calibration_error(found, bins=4) == pytest.approx(calibration_by_hand(found, 4))


def test_a_class_that_never_occurs_keeps_its_place():
    found = predictions([[0, 0, 1], [0, 0, 1]], [0, 2])
    assert score(found, 10).confusion == [[0, 0, 1], [0, 0, 0], [0, 0, 1]]


def test_cells_are_those_that_occur():
    """Of a million pairs of 1,000 classes few: cost and memory grow with the examples."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(1000, size=(2, 50))
    cells = confusion_cells(labels, predicted, 1000)
    assert len(cells) <= 50
    assert cells == {
        pair: sum(pair == other for other in zip(labels, predicted, strict=True))
        for pair in zip(labels.tolist(), predicted.tolist(), strict=True)
    }
    assert list(cells) == sorted(cells)


@pytest.mark.parametrize("labels", [["0", "1"], ["1", "0"], ["pos", "neg"], ["a", "b", "c"]])
def test_f1_of_a_named_class(labels):
    found = random_predictions(1, 200, len(labels))
    names = np.array(labels)
    for wanted in labels:
        scores = score(found, 10, labels=labels, f1_label=wanted)
        truth = names[found.labels], names[found.predictions]
        (expected,) = sklearn.metrics.f1_score(*truth, labels=[wanted], average=None)
        assert scores.f1 == pytest.approx(100 * expected)
        assert scores.f1_label == wanted
    default = score(found, 10, labels=labels)
    assert default.f1_label == {"0": "1", "1": "1", "pos": "pos", "a": None}[labels[0]]
    with pytest.raises(ValueError, match=f"--f1-label d is none of the labels: {labels[0]}, "):
        score(found, 10, labels=labels, f1_label="d")


def test_calibration_at_the_borders_of_bins():
    # In two bins a confidence of 1/2 is in the lower one: |1 - 0.5| / 2 + |0 - 1| / 2.
    certain = [[0.0, -1000.0], [0.0, 0.0]]
    assert calibration_error(predictions(certain, [1, 0]), bins=2) == pytest.approx(0.75)
    # In one bin they cancel: |0.5 - 0.75|.
    assert calibration_error(predictions(certain, [1, 0]), bins=1) == pytest.approx(0.25)


def test_a_confident_mistake_has_a_finite_likelihood():
    found = predictions([[0.0, 0.0]], [1])
    far = SplitPredictions(np.array([[0.0, -2000.0]]), np.array([0]), np.array([1]))
    assert score(found, 10).negative_log_likelihood == pytest.approx(math.log(2))
    assert score(far, 10).negative_log_likelihood == 2000


def test_interval_of_the_accuracy_is_the_binomials():
    """The number of right ones among examples drawn with replacement is binomial."""
    logits = np.zeros((200, 2))
    logits[:, 0] = 1
    found = predictions(logits, [0] * 150 + [1] * 50)
    scores = score(found, resamples=100_000, seed=1)
    assert scores.accuracy == 75
    expected = stats.binom(200, 0.75).ppf([0.025, 0.975]) / 2
    assert scores.accuracy_interval == pytest.approx(tuple(expected), abs=0.5)  # one example
    assert scores == score(found, resamples=100_000, seed=1)
    assert score(predictions(logits, [0] * 200)).accuracy_interval == (100, 100)
