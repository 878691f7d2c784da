"""How the classes of a batch lie in the space that the contrastive loss works in.

Numbers come as sums with what they are a sum over, so that batches and workers add up first and are
divided last: the value of an epoch is the mean over all of its pairs, not a mean of means.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scl_fairseq.losses.supervised_contrastive import l2_normalize

DIAGNOSTICS = (
    "in_class_cosine",
    "between_class_cosine",
    "alignment",
    "uniformity",
    "anchors_with_positive",
)
UNIFORMITY_T = 2  # Wang & Isola's t; their alpha is the 2 of the squared distance


@torch.no_grad()
def diagnostic_sums(
    embeddings: Tensor, labels: Tensor | None = None
) -> dict[str, tuple[float, int]]:
    r"""Sums and counts of one batch, for :func:`diagnostic_value`.

    With :math:`\Phi_i` the L2-normalised embedding of example *i*, and each unordered pair of two
    different examples taken once:

    - ``in_class_cosine``: :math:`\Phi_i \cdot \Phi_j` over pairs of one class
    - ``between_class_cosine``: the same over pairs of two classes
    - ``alignment``: :math:`\lVert \Phi_i - \Phi_j \rVert^2` over pairs of one class
    - ``uniformity``: :math:`\exp(-2 \lVert \Phi_i - \Phi_j \rVert^2)` over all pairs
    - ``anchors_with_positive``: over all examples, those with another of their class

    Args:
        embeddings: (N, D), floating point, of any scale: rows are normalised here, in float32 or
            wider, as the loss does it. A zero row stays zero: its cosines are 0.
        labels: (N,), of which only equality matters; None where there are no classes, then there is
            ``uniformity`` alone.

    Returns:
        Name to (sum, count), plain numbers that may be added to those of other batches. The count
        is 0 where the batch has no such pair. No gradient is recorded.

    References:
        Wang & Isola, *Understanding Contrastive Representation Learning through Alignment and
        Uniformity on the Hypersphere* (arXiv 2005.10242), with alpha = 2 and t = 2.
    """
    names, sums = diagnostic_pairs(embeddings, labels)
    pairs = sums.tolist()
    return {name: (total, int(count)) for name, (total, count) in zip(names, pairs, strict=True)}


@torch.no_grad()
def diagnostic_pairs(
    embeddings: Tensor, labels: Tensor | None = None
) -> tuple[tuple[str, ...], Tensor]:
    """The same sums and counts where the embeddings are: nothing waits for a GPU.

    Args: as for :func:`diagnostic_sums`.

    Returns:
        Names, and (len(names), 2), float64: of each its sum and count.
    """
    features = l2_normalize(embeddings)
    # Not 2 - 2 cos, which is off by float32's rounding where embeddings nearly coincide. Nothing
    # here is a matrix product, which autocast would run in half precision.
    squared_distances = torch.pdist(features).square()
    potentials = torch.exp(-UNIFORMITY_T * squared_distances)
    n, num_pairs = len(features), len(potentials)
    uniformity = _total(potentials), num_pairs
    if labels is None:
        return ("uniformity",), _stacked(uniformity)

    # In the order of pdist.
    first, second = torch.triu_indices(n, n, offset=1, device=features.device)
    # 1, or 0 for a zero row: what a cosine is made of, with the distance of the pair.
    square_norms = features.any(dim=1).to(features.dtype)
    cosines = (square_norms[first] + square_norms[second] - squared_distances) / 2
    in_class = labels[first] == labels[second]
    num_in_class = in_class.sum()
    has_positive = (labels[:, None] == labels).sum(dim=1) > 1
    return DIAGNOSTICS, _stacked(
        (_total(cosines.where(in_class, 0.0)), num_in_class),
        (_total(cosines.where(~in_class, 0.0)), num_pairs - num_in_class),
        (_total(squared_distances.where(in_class, 0.0)), num_in_class),
        uniformity,
        (has_positive.sum(), n),
    )


def diagnostic_value(name: str, total: float, count: int) -> float:
    """The diagnostic that a sum and its count stand for.

    Args:
        name: one of ``DIAGNOSTICS``.
        total: sum of :func:`diagnostic_sums`, of one batch or of many.
        count: what it is a sum over, greater than 0.

    Returns:
        Cosines in [-1, 1]; ``alignment`` in [0, 4], 0 where every class is one point;
        ``uniformity`` in [-8, 0], natural logarithm, 0 where all is one point, and the lower the
        more evenly the sphere is covered; ``anchors_with_positive`` in percent.
    """
    mean = total / count
    if name == "uniformity":
        return math.log(mean)
    return 100 * mean if name == "anchors_with_positive" else mean


def _total(values: Tensor) -> Tensor:
    return values.sum(dtype=torch.float64)


def _stacked(*pairs: tuple[Tensor, Tensor | int]) -> Tensor:
    """(number of pairs, 2), float64."""
    like = pairs[0][0]
    flat = [
        one if torch.is_tensor(one) else like.new_full((), one) for pair in pairs for one in pair
    ]
    return torch.stack([one.to(torch.float64) for one in flat]).view(-1, 2)
