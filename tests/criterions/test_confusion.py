import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from scl_fairseq.criterions import confusion


@settings(max_examples=60, deadline=None)
@given(num_classes=st.integers(2, 4), n=st.integers(1, 40), seed=st.integers(0, 999))
def test_equals_scikit_learn(num_classes, n, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(num_classes, (n,), generator=generator)
    predictions = torch.randint(num_classes, (n,), generator=generator)
    cells = confusion.count_cells(predictions, targets, num_classes)
    matrix = confusion.matrix(cells)
    labels = list(range(num_classes))
    assert matrix == metrics.confusion_matrix(targets, predictions, labels=labels).tolist()
    assert confusion.accuracy(matrix) == pytest.approx(metrics.accuracy_score(targets, predictions))
    assert confusion.matthews_corrcoef(matrix) == pytest.approx(
        metrics.matthews_corrcoef(targets, predictions), abs=1e-12
    )
    if num_classes == 2:
        expected = metrics.f1_score(targets, predictions, zero_division=0)
        assert confusion.binary_f1(matrix) == pytest.approx(expected)


def test_undefined_values_are_zero():
    only_zeros = [[5.0, 0.0], [0.0, 0.0]]
    assert confusion.matthews_corrcoef(only_zeros) == 0
    assert confusion.binary_f1(only_zeros) == 0
    assert confusion.accuracy([[0.0, 0.0], [0.0, 0.0]]) == 0


def test_every_cell_is_logged_as_a_plain_integer():
    cells = confusion.count_cells(torch.tensor([1]), torch.tensor([1]), 3)
    assert len(cells) == 9
    assert all(type(count) is int for count in cells.values())
    assert cells["_confusion_1_1"] == 1
