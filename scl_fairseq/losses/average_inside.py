"""The supervised contrastive loss with the mean over positives inside of the logarithm."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scl_fairseq.losses.precision import DEFAULT, Arithmetic, check_arithmetic
from scl_fairseq.losses.supervised_contrastive import (
    check_inputs,
    checked_anchors,
    compared,
    l2_normalize,
    log_sum_exp,
    reduced,
)
from scl_fairseq.losses.tiles import exceeds_tile, tile_for


def supervised_contrastive_loss_in(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.3,
    reduction: str = "mean",
    anchors: slice | None = None,
    num_classes: int | None = None,
    arithmetic: Arithmetic = DEFAULT,
) -> Tensor:
    r"""As ``supervised_contrastive_loss``, but each anchor averages probabilities, not their logs.

    With :math:`P(i)` the other examples of anchor *i*'s class, it contributes

    .. math::
        -\log \frac{1}{|P(i)|} \sum_{p \in P(i)}
        \frac{\exp(\Phi_i \cdot \Phi_p / \tau)}{\sum_{k \neq i} \exp(\Phi_i \cdot \Phi_k / \tau)}

    which is never more than the other, by Jensen's inequality, and the same where there is one
    positive. An anchor without any contributes exactly 0. Large batches are computed some anchors
    at a time, and again in backward, in memory that grows with N.

    Args, returns and raises: as for ``supervised_contrastive_loss``; ``num_classes`` is not needed,
    since labels are compared pair by pair.

    References:
        Khosla et al., *Supervised Contrastive Learning* (arXiv 2004.11362), equation 3, L_in.
    """
    check_inputs(embeddings, labels, temperature, reduction)
    check_arithmetic(arithmetic)
    anchors = checked_anchors(anchors, len(embeddings))
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        unit = l2_normalize(embeddings)
        losses = anchor_losses_in(unit, labels, temperature, anchors, arithmetic)
    return reduced(losses, reduction)


def anchor_losses_in(
    features: Tensor,
    labels: Tensor,
    temperature: float,
    anchors: slice | None = None,
    arithmetic: Arithmetic = DEFAULT,
) -> Tensor:
    """Per-anchor loss (L_in) of features that are compared as they are.

    Args:
        features: (N, D), float32 or float64, not normalised here.
        labels: (N,), integer.
        temperature: tau, finite and greater than 0.
        anchors: consecutive rows that are the A anchors; all N by default.
        arithmetic: how similarities are computed.

    Returns:
        (A,), in nats; exactly 0 for anchors without a positive.
    """
    anchors = checked_anchors(anchors, len(features))
    if not exceeds_tile((anchors.stop - anchors.start) * len(features), features.device):
        return _losses(features, labels, temperature, anchors, arithmetic)
    at_a_time = max(1, tile_for(features.device) ** 2 // len(features))
    found = [
        checkpoint(
            _losses,
            features,
            labels,
            temperature,
            slice(start, min(start + at_a_time, anchors.stop)),
            arithmetic,
            use_reentrant=False,
        )
        for start in range(anchors.start, anchors.stop, at_a_time)
    ]
    return torch.cat(found)


def _losses(
    features: Tensor, labels: Tensor, temperature: float, anchors: slice, arithmetic: Arithmetic
) -> Tensor:
    scores, own = compared(features, temperature, anchors, arithmetic)
    is_positive = (labels[anchors, None] == labels) & ~own
    others = log_sum_exp(scores, own)
    attraction = log_sum_exp(scores, ~is_positive)
    positives = is_positive.sum(dim=1)
    losses = others - attraction + positives.clamp(min=1).to(scores.dtype).log()
    return torch.where(positives > 0, losses, 0.0)
