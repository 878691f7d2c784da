"""The supervised contrastive term of Gunel et al. (arXiv 2011.01403, equation 3)."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from scl_fairseq.losses.classes import numbered, sizes
from scl_fairseq.losses.precision import (
    DEFAULT,
    Arithmetic,
    check_arithmetic,
    resolved,
    similarities,
)
from scl_fairseq.losses.tiled import TiledAnchorLosses, UnitRows
from scl_fairseq.losses.tiles import exceeds_tile, tile_for

REDUCTIONS = ("mean", "sum", "none")
INTEGER_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def supervised_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.3,
    reduction: str = "mean",
    anchors: slice | None = None,
    num_classes: int | None = None,
    arithmetic: Arithmetic = DEFAULT,
) -> Tensor:
    r"""Supervised contrastive loss over one batch.

    With :math:`\Phi_i` the L2-normalised embedding of example *i*, *y* the labels, :math:`N_c` the
    number of examples of class *c* and :math:`\tau` the temperature, anchor *i* contributes

    .. math::
        -\frac{1}{N_{y_i} - 1} \sum_{j \neq i,\, y_j = y_i}
        \log \frac{\exp(\Phi_i \cdot \Phi_j / \tau)}
        {\sum_{k \neq i} \exp(\Phi_i \cdot \Phi_k / \tau)}

    An anchor whose class has no other member contributes exactly 0; it still counts in N and still
    stands in everybody else's denominator. Large batches are computed in tiles, in memory that
    grows with N: the same function, without gradients of gradients.

    Args:
        embeddings: (N, D), floating point, of any scale: rows are normalised here. A zero row stays
            zero and receives a gradient of exactly 0.
        labels: (N,), integer. Only equality matters, any numbering will do.
        temperature: :math:`\tau`, finite and greater than 0.
        reduction: ``"mean"`` (sum / A), ``"sum"`` (the formula as printed) or ``"none"``, (A,).
        anchors: consecutive rows that are the A anchors; all N by default. The others are what
            anchors are compared with, and receive gradients too. The mean over none is 0.
        num_classes: where labels are known to lie from -1 to below it. Nothing then waits for a
            GPU; otherwise the host has to, to find the labels that there are.
        arithmetic: the precision of the products, by default float32 whatever the process allows.

    Returns:
        A scalar, or (A,) for ``"none"``, in nats; float32, or float64 for float64 embeddings.

    Raises:
        TypeError: embeddings are not floating point, or labels are not integers.
        ValueError: shapes, temperature or reduction do not fit; the message names the value.

    References:
        Gunel et al., *Supervised Contrastive Learning for Pre-trained Language Model Fine-tuning*,
        equation 3; Khosla et al., *Supervised Contrastive Learning*, L_out (arXiv 2004.11362).
    """
    check_inputs(embeddings, labels, temperature, reduction)
    check_arithmetic(arithmetic)
    anchors = checked_anchors(anchors, len(embeddings))
    # Under autocast the products below would run in half precision, which tau = 0.01 cannot bear.
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        if _is_large(anchors, embeddings):
            # The temperature within the rows' length, which saves a pass over the similarities.
            tile, length = tile_for(embeddings.device), temperature**-0.5
            features = UnitRows.apply(embeddings, length, tile)
            losses = anchor_losses(
                features, labels, 1.0, anchors, num_classes, 1 / temperature, arithmetic
            )
        else:
            features = l2_normalize(embeddings)
            losses = anchor_losses(
                features, labels, temperature, anchors, num_classes, arithmetic=arithmetic
            )
    return reduced(losses, reduction)


def anchor_losses(
    features: Tensor,
    labels: Tensor,
    temperature: float,
    anchors: slice | None = None,
    num_classes: int | None = None,
    largest_square: float | None = None,
    arithmetic: Arithmetic = DEFAULT,
) -> Tensor:
    """Per-anchor SupCon loss (L_out) of features that are compared as they are.

    Args:
        features: (N, D), float32 or float64, not normalised here.
        labels: (N,), integer.
        temperature: tau, finite and greater than 0.
        anchors: consecutive rows that are the A anchors; all N by default.
        num_classes: as for ``supervised_contrastive_loss``.
        largest_square: what no row's squared norm is above, but for rounding; by default it is
            looked for, for which the host waits for a GPU where the batch is large.
        arithmetic: how similarities are computed.

    Returns:
        (A,), in nats; exactly 0 for anchors without a positive.
    """
    anchors = checked_anchors(anchors, len(features))
    class_of, number = numbered(labels, num_classes)
    if _is_large(anchors, features):
        if temperature != 1:
            features = features * temperature**-0.5
        if largest_square is not None:
            largest_square /= temperature
        how = tile_for(features.device), number, largest_square, resolved(arithmetic, features)
        return TiledAnchorLosses.apply(features, class_of, anchors, *how)
    chosen, own_class = features[anchors], class_of[anchors]
    # N_{y_i} - 1, in the features' dtype: an integer tensor times a float would be float32.
    positives = (sizes(class_of, number)[own_class] - 1).to(features.dtype)

    # Sum of z_i . z_j over the positives j, without an N x N mask: z_i . (S_{y_i} - z_i).
    class_sums = features.new_zeros(number, features.size(1)).index_add(0, class_of, features)
    positive_sums = (chosen * (class_sums[own_class] - chosen)).sum(dim=1)
    attraction = positive_sums / (temperature * positives.clamp(min=1))

    scores, own = compared(features, temperature, anchors, arithmetic)
    repulsion = log_sum_exp(scores, own)
    return torch.where(positives > 0, repulsion - attraction, 0.0)


def compared(
    features: Tensor, temperature: float, anchors: slice, arithmetic: Arithmetic
) -> tuple[Tensor, Tensor]:
    """Similarities of anchors and all rows, (A, N), and which are of an anchor with itself."""
    scores = similarities(features[anchors], features, arithmetic.products) / temperature
    own = torch.zeros_like(scores, dtype=torch.bool)
    own.diagonal(anchors.start).fill_(True)
    return scores, own


def log_sum_exp(similarities: Tensor, left_out: Tensor) -> Tensor:
    """Of each row, over the entries that are not left out; over none it has no NaN gradient."""
    # Not -inf: a batch of one would leave an empty logsumexp, whose gradient is NaN.
    floor = torch.finfo(similarities.dtype).min
    return torch.logsumexp(similarities.masked_fill(left_out, floor), dim=1)


def _is_large(anchors: slice, features: Tensor) -> bool:
    """Whether there are more similarities than one tile has."""
    return exceeds_tile((anchors.stop - anchors.start) * len(features), features.device)


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Losses (A,) as ``reduction`` names; the mean over none is 0."""
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" or not len(losses) else losses.mean()


def checked_anchors(anchors: slice | None, size: int) -> slice:
    """Start and stop of the anchors among ``size`` rows; ``ValueError`` if they are others."""
    if anchors is None:
        return slice(0, size)
    start, stop, step = anchors.start or 0, anchors.stop, anchors.step or 1
    if step != 1 or stop is None or not 0 <= start <= stop <= size:
        raise ValueError(f"anchors must be consecutive rows of {size}, got {anchors}")
    return slice(start, stop)


def l2_normalize(embeddings: Tensor) -> Tensor:
    """Rows divided by their L2 norm, in float32 or wider.

    Args:
        embeddings: (N, D), floating point. Half precision is widened first, and each row is scaled
            by its largest entry, so that no square overflows or vanishes.

    Returns:
        (N, D), float32, or float64 for float64 input. Zero rows stay zero with gradient 0.
    """
    wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    # A constant for autograd: the direction of a row does not depend on it.
    largest = wide.detach().abs().amax(dim=1, keepdim=True)
    is_zero = largest == 0
    scaled = wide / largest.masked_fill(is_zero, 1.0)
    # The norm of a zero row has no gradient, so such a row is replaced before and zeroed after.
    safe = scaled.masked_fill(is_zero, 1.0)
    unit = safe / torch.linalg.vector_norm(safe, dim=1, keepdim=True)
    return unit.masked_fill(is_zero, 0.0)


def check_temperature(temperature: float) -> None:
    """Raise ``ValueError`` that names the value unless it is a finite number greater than 0."""
    is_number = isinstance(temperature, Real) and not isinstance(temperature, bool)
    if not is_number or not math.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"temperature must be a finite number greater than 0, got {temperature!r}")


def check_inputs(embeddings: Tensor, labels: Tensor, temperature: float, reduction: str) -> None:
    """Raise what ``supervised_contrastive_loss`` says of arguments that do not fit."""
    check_temperature(temperature)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if not embeddings.is_floating_point():
        raise TypeError(f"embeddings must be floating point, got {embeddings.dtype}")
    if labels.dtype not in INTEGER_DTYPES:
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if embeddings.dim() != 2 or 0 in embeddings.shape:
        raise ValueError(
            f"embeddings must have shape (N, D) with N, D >= 1, got {tuple(embeddings.shape)}"
        )
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"labels must have shape ({len(embeddings)},) to match embeddings of shape "
            f"{tuple(embeddings.shape)}, got {tuple(labels.shape)}"
        )
    if labels.device != embeddings.device:
        raise ValueError(
            f"labels are on {labels.device}, embeddings on {embeddings.device}: use one device"
        )
