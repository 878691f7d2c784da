"""Contrast of several views of each example (Khosla et al., arXiv 2004.11362)."""

from __future__ import annotations

import torch
from torch import Tensor

from scl_fairseq.losses.average_inside import supervised_contrastive_loss_in
from scl_fairseq.losses.precision import DEFAULT, Arithmetic
from scl_fairseq.losses.supervised_contrastive import supervised_contrastive_loss

# Where the mean over an anchor's positives stands: outside of the logarithm, or inside.
AVERAGES = {"out": supervised_contrastive_loss, "in": supervised_contrastive_loss_in}


def multi_view_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    temperature: float = 0.1,
    average: str = "out",
    reduction: str = "mean",
    anchors: slice | None = None,
    memory: Tensor | None = None,
    memory_labels: Tensor | None = None,
    num_classes: int | None = None,
    arithmetic: Arithmetic = DEFAULT,
) -> Tensor:
    r"""Contrast every view of every example with all others.

    All N V views are anchors. With *I* the views and the rows of the memory, :math:`P(i)` those
    of *I* but *i* that have its label, and :math:`\Phi` the L2-normalised embeddings, anchor *i*
    contributes

    .. math::
        L^{out}_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)}
        \log \frac{\exp(\Phi_i \cdot \Phi_p / \tau)}
        {\sum_{k \in I,\, k \neq i} \exp(\Phi_i \cdot \Phi_k / \tau)}

    or, with ``average="in"``, the logarithm of the mean instead of the mean of logarithms. Without
    labels each example is its own class, so that an anchor's positives are its own other views
    (SimCLR), and rows of the memory are nobody's. An anchor without a positive contributes 0.
    Memory grows with N V + K, also for large batches.

    Args:
        embeddings: (N, V, D), floating point, of any scale; V from 1 on.
        labels: (N,), integer; None where every example is its own class.
        temperature: :math:`\tau`, finite and greater than 0.
        average: ``"out"`` or ``"in"``.
        reduction: ``"mean"`` (over the A V anchors), ``"sum"``, or ``"none"``, (A, V).
        anchors: consecutive examples whose views are the anchors; all N by default.
        memory: (K, D), rows to contrast with that get no gradient, such as keys of earlier batches.
        memory_labels: (K,), integer, theirs; where ``labels`` are given.
        num_classes: as for ``supervised_contrastive_loss``; without labels it is known.
        arithmetic: the precision of the products, by default float32 whatever the process allows.

    Returns:
        A scalar, or (A, V) for ``"none"``, in nats; float32, or float64 for float64 embeddings.

    Raises:
        TypeError: embeddings are not floating point, or labels are not integers.
        ValueError: shapes, temperature, average or reduction do not fit; the message names the
            value.

    References:
        Khosla et al., *Supervised Contrastive Learning* (arXiv 2004.11362), equations 2 and 3;
        He et al., *Momentum Contrast* (arXiv 1911.05722), for the memory.
    """
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
    if embeddings.dim() != 3 or 0 in embeddings.shape:
        raise ValueError(
            f"embeddings must have shape (N, V, D) with N, V, D >= 1, got {tuple(embeddings.shape)}"
        )
    n, views, width = embeddings.shape
    if labels is None:
        labels = torch.arange(n, device=embeddings.device)
        if memory_labels is None:
            num_classes = n
        if memory is not None and memory_labels is None:
            memory_labels = labels.new_full((len(memory),), -1)
    if labels.shape != (n,):
        raise ValueError(
            f"labels must have shape ({n},) to match embeddings of shape "
            f"{tuple(embeddings.shape)}, got {tuple(labels.shape)}"
        )
    rows, row_labels = embeddings.reshape(n * views, width), labels.repeat_interleave(views)
    rows, row_labels = with_memory(rows, row_labels, memory, memory_labels)
    if anchors is None:
        anchors = slice(0, n)
    flat = slice((anchors.start or 0) * views, anchors.stop * views, anchors.step)
    losses = AVERAGES[average](
        rows,
        row_labels,
        temperature,
        reduction,
        flat,
        num_classes=num_classes,
        arithmetic=arithmetic,
    )
    return losses.view(-1, views) if reduction == "none" else losses


def with_memory(
    rows: Tensor, labels: Tensor, memory: Tensor | None, memory_labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Rows and labels with those of a memory behind them, which get no gradient.

    Args:
        rows: (N, D), floating point.
        labels: (N,), integer.
        memory: (K, D), or None for no memory.
        memory_labels: (K,), integer.

    Raises:
        ValueError: the memory's shapes do not fit.
    """
    if memory is None:
        return rows, labels
    if memory.dim() != 2 or memory.size(1) != rows.size(1):
        raise ValueError(
            f"memory must have shape (K, {rows.size(1)}) to match embeddings of that width, got "
            f"{tuple(memory.shape)}"
        )
    if memory_labels is None or memory_labels.shape != memory.shape[:1]:
        found = None if memory_labels is None else tuple(memory_labels.shape)
        raise ValueError(f"memory_labels must have shape ({len(memory)},), got {found}")
    wide = rows if rows.dtype == torch.float64 else rows.float()
    joined = torch.cat([wide, memory.detach().to(wide.dtype)])
    return joined, torch.cat([labels, memory_labels.to(labels.dtype)])
