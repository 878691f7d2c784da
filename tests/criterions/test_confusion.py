import torch
from sklearn import metrics

from scl_fairseq.criterions import confusion


def test_cells_make_scikit_learns_matrix():
    generator = torch.Generator().manual_seed(0)
    for num_classes in (2, 3, 4):
        targets, predictions = torch.randint(num_classes, (2, 40), generator=generator)
        cells = confusion.count_cells(predictions, targets, num_classes)
        expected = metrics.confusion_matrix(targets, predictions, labels=range(num_classes))
        assert confusion.matrix(cells) == expected.tolist()


def test_every_cell_is_logged_as_a_plain_integer():
    cells = confusion.count_cells(torch.tensor([1]), torch.tensor([1]), 3)
    assert len(cells) == 9
    assert all(type(count) is int for count in cells.values())
    assert cells["_confusion_1_1"] == 1
