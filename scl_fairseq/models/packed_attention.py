"""Attention within sentences whose tokens are packed without padding between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scl_fairseq.models.packing import Group, Packing
from scl_fairseq.models.ragged_attention import attend_ragged


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    heads: int,
    scaling: float,
    dropout: float,
) -> Tensor:
    """``softmax(scaling · Q Kᵀ) V`` of each head, within each sentence.

    Args:
        query: (total, C), of all tokens; or (B, C), of the first token of each sentence, in the
            order in which ``packing`` has sentences.
        key: (total, C).
        value: (total, C).
        packing: where sentences lie.
        heads: number of heads; C is a multiple of it.
        scaling: of the products.
        dropout: probability of dropping an attention weight.

    Returns:
        Like ``query``.
    """
    if packing.offsets is None:
        return _GroupedAttention.apply(query, key, value, packing, heads, scaling, dropout)
    return attend_ragged(query, key, value, packing, heads, scaling, dropout)


def keep_mask(weights: Tensor, dropout: float) -> Tensor:
    """Which of the attention weights dropout keeps, bool, in their shape."""
    return torch.empty_like(weights, dtype=torch.bool).bernoulli_(1 - dropout)


class _GroupedAttention(torch.autograd.Function):
    """Group after group by batched products, in one step of the graph: on a CPU the many small
    operations would otherwise cost more than what they compute.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        packing: Packing,
        heads: int,
        scaling: float,
        dropout: float,
    ) -> Tensor:
        found = torch.empty_like(query)
        weights, masks = [], []
        is_recording = any(ctx.needs_input_grad)
        reads_all = len(query) == len(key)
        for group in packing.groups:
            queries = _queries(query, group, heads, reads_all)
            probabilities = _softmax(
                queries, _split(key[group.rows], group, heads), group, heads, scaling
            )
            if is_recording:
                weights.append(probabilities)
            if dropout:
                mask = keep_mask(probabilities, dropout)
                masks.append(mask)
                probabilities = _dropped(probabilities, mask, dropout)
            attended = torch.bmm(probabilities, _split(value[group.rows], group, heads))
            _join(attended, group, reads_all, found)
        if is_recording:
            ctx.save_for_backward(query, key, value, *weights, *masks)
        ctx.packing, ctx.heads, ctx.scaling, ctx.dropout = packing, heads, scaling, dropout
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *rest = ctx.saved_tensors
        groups, heads, dropout = ctx.packing.groups, ctx.heads, ctx.dropout
        weights, masks = rest[: len(groups)], rest[len(groups) :]
        reads_all = len(query) == len(key)
        grads = [torch.empty_like(part) for part in (query, key, value)]
        grad = grad.contiguous()
        for index, group in enumerate(groups):
            probabilities = weights[index]
            queries = _queries(query, group, heads, reads_all)
            keys, values = (_split(part[group.rows], group, heads) for part in (key, value))
            grad_found = _queries(grad, group, heads, reads_all)

            kept = probabilities
            grad_weights = torch.bmm(grad_found, values.transpose(1, 2))
            if dropout:
                kept = _dropped(probabilities, masks[index], dropout)
                grad_weights = _dropped(grad_weights, masks[index], dropout)
            _join(torch.bmm(kept.transpose(1, 2), grad_found), group, True, grads[2])

            # of the softmax: P (dP − Σ dP P)
            inner = (grad_weights * probabilities).sum(dim=-1, keepdim=True)
            grad_scores = (grad_weights - inner).mul_(probabilities).mul_(ctx.scaling)
            _join(torch.bmm(grad_scores, keys), group, reads_all, grads[0])
            _join(torch.bmm(grad_scores.transpose(1, 2), queries), group, True, grads[1])
        return *grads, None, None, None, None


def _dropped(weights: Tensor, mask: Tensor, dropout: float) -> Tensor:
    return (weights * mask).mul_(1 / (1 - dropout) if dropout < 1 else 0.0)


def _softmax(queries: Tensor, keys: Tensor, group: Group, heads: int, scaling: float) -> Tensor:
    """Attention weights, (size · heads, Q, length)."""
    empty = queries.new_empty(1, 1, 1)
    scores = torch.baddbmm(empty, queries, keys.transpose(1, 2), beta=0, alpha=scaling)
    if group.is_padding is not None:
        by_sentence = scores.view(group.size, heads, *scores.shape[1:])
        by_sentence.masked_fill_(group.is_padding[:, None, None], float("-inf"))
    # In 16 bits a sum of many small weights would be off.
    wide = torch.float32 if scores.dtype.itemsize < 4 else scores.dtype
    return scores.softmax(dim=-1, dtype=wide).to(scores.dtype)


def _queries(packed: Tensor, group: Group, heads: int, reads_all: bool) -> Tensor:
    """Of all tokens of the group, or of its first ones: (size · heads, length or 1, head_dim)."""
    if reads_all:
        return _split(packed[group.rows], group, heads)
    return packed[group.sentences].reshape(1, group.size * heads, -1).transpose(0, 1)


def _split(rows: Tensor, group: Group, heads: int) -> Tensor:
    """(rows, C) to (size · heads, length, head_dim), zeros where there is padding."""
    if group.places is not None:
        empty = rows.new_zeros(group.length * group.size, rows.size(1))
        rows = empty.index_copy_(0, group.places, rows)
    return rows.view(group.length, group.size * heads, -1).transpose(0, 1)


def _join(split: Tensor, group: Group, is_of_all: bool, target: Tensor) -> None:
    """(size · heads, length or 1, head_dim) to the group's part of (total or B, C)."""
    rows = split.transpose(0, 1).reshape(-1, target.size(1))
    if not is_of_all:
        target[group.sentences] = rows
    elif group.places is None:
        target[group.rows] = rows
    else:
        torch.index_select(rows, 0, group.places, out=target[group.rows])
