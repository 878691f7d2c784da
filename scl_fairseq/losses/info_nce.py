"""InfoNCE between queries and candidates, as SimCSE has it (arXiv 2104.08821, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scl_fairseq.losses.precision import DEFAULT, Arithmetic, check_arithmetic, similarities
from scl_fairseq.losses.supervised_contrastive import REDUCTIONS, check_temperature, l2_normalize
from scl_fairseq.losses.tiles import exceeds_tile, tile_for


def info_nce_loss(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor | range | None = None,
    temperature: float = 0.05,
    reduction: str = "mean",
    arithmetic: Arithmetic = DEFAULT,
) -> Tensor:
    r"""Cross-entropy of finding each query's positive among all candidates.

    With cosine similarity, query :math:`h_i`, its positive :math:`h_i^+` and temperature
    :math:`\tau`:

    .. math::
        -\log \frac{\exp(\cos(h_i, h_i^+) / \tau)}{\sum_j \exp(\cos(h_i, c_j) / \tau)}

    over all candidates :math:`c_j`, the positive among them. Hard negatives and keys of earlier
    batches are further candidates. Many similarities are computed a block of queries at a time, and
    again in backward, in memory that grows with the numbers of rows.

    Args:
        queries: (A, D), floating point, of any scale.
        candidates: (M, D), likewise; gradients reach them too.
        positives: (A,), integer: which candidate is each query's positive; by default the first A,
            in order. Of a ``range`` the host need not wait for a GPU to look at it.
        temperature: finite and greater than 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, (A,). The mean over no query is 0.
        arithmetic: the precision of the products, by default float32 whatever the process allows.

    Returns:
        A scalar, or (A,), in nats; float32, or float64 for float64 rows.

    Raises:
        ValueError: shapes, temperature or reduction do not fit; the message names the value.

    References:
        Gao et al., *SimCSE: Simple Contrastive Learning of Sentence Embeddings*; van den Oord et
        al., *Representation Learning with Contrastive Predictive Coding* (arXiv 1807.03748).
    """
    check_temperature(temperature)
    check_arithmetic(arithmetic)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if queries.dim() != 2 or candidates.dim() != 2 or queries.size(1) != candidates.size(1):
        raise ValueError(
            f"queries must be (A, D) and candidates (M, D), got {tuple(queries.shape)} and "
            f"{tuple(candidates.shape)}"
        )
    if positives is None:
        positives = range(len(queries))
    if len(positives) != len(queries) or not _lie_below(positives, len(candidates)):
        raise ValueError(
            f"positives must name one of {len(candidates)} candidates for each of {len(queries)} "
            "queries"
        )
    if isinstance(positives, range):
        start, stop, step = positives.start, positives.stop, positives.step
        positives = torch.arange(start, stop, step, device=queries.device)
    # Under autocast the products would run in half precision, which a small tau cannot bear.
    with torch.autocast(device_type=queries.device.type, enabled=False):
        rows, others = l2_normalize(queries), l2_normalize(candidates)
        if not exceeds_tile(len(rows) * len(others), rows.device):
            losses = _block(rows, others, positives, temperature, arithmetic)
        else:
            size = max(1, tile_for(rows.device) ** 2 // len(others))
            blocks = zip(rows.split(size), positives.split(size), strict=True)
            losses = torch.cat(
                [
                    checkpoint(
                        _block,
                        *(part, others, of_part, temperature, arithmetic),
                        use_reentrant=False,
                    )
                    for part, of_part in blocks
                ]
            )
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" or not len(losses) else losses.mean()


def _lie_below(positives: Tensor | range, count: int) -> bool:
    if isinstance(positives, range):
        return all(0 <= end < count for end in (*positives[:1], *positives[-1:]))
    return positives.dim() == 1 and (not len(positives) or int(positives.max()) < count)


def _block(
    rows: Tensor,
    candidates: Tensor,
    positives: Tensor,
    temperature: float,
    arithmetic: Arithmetic,
) -> Tensor:
    """Losses of some queries, (a,)."""
    scores = similarities(rows, candidates, arithmetic.products) / temperature
    attraction = scores.gather(1, positives[:, None]).squeeze(1)
    return torch.logsumexp(scores, dim=1) - attraction
