"""Classes as numbers that rows can be added up by."""

from __future__ import annotations

import torch
from torch import Tensor


def numbered(labels: Tensor, num_classes: int | None) -> tuple[Tensor, int]:
    """Classes numbered from 0, in the order of their labels, and how many there are at most.

    Args:
        labels: (N,), integer.
        num_classes: of labels that lie from -1 to below it; None where that is not known, and the
            host has to wait for a GPU to find the labels that there are.
    """
    if num_classes is None:
        found, class_of = torch.unique(labels, return_inverse=True)
        return class_of, len(found)
    return labels.long() + 1, num_classes + 1


def sizes(class_of: Tensor, number: int) -> Tensor:
    """How many rows each class has, (number,): as ``bincount``, which waits for a GPU.

    Args:
        class_of: (N,), of each row its class, from 0.
        number: above all of them.
    """
    return class_of.new_zeros(number).index_add_(0, class_of, torch.ones_like(class_of))
