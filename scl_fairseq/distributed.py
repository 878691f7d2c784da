"""Rows of all workers, with gradients: what an anchor is contrasted with beyond its own batch.

Embeddings and labels travel together in one collective, and their gradients in one more. Workers
may bring different numbers of rows, none included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

WORD = 8  # bytes of a count and of a label


@dataclass(frozen=True)
class Gathered:
    """Rows of all workers, in the order of their ranks.

    Attributes:
        rows: (M, D), float32, or float64 for float64 rows.
        labels: (M,), int64.
        own: which of them are this worker's.
    """

    rows: Tensor
    labels: Tensor
    own: slice


class RowGatherer:
    """Gathers the rows of a group of workers; each of them must call it, and as often.

    All workers send as many bytes, enough for the largest batch so far. Where a batch is larger,
    all see that from its count and gather once more.

    Args:
        group: a torch process group; None for the default one.
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        self._group = group
        self._capacity = 0

    def __call__(self, rows: Tensor, labels: Tensor) -> Gathered:
        """Gather.

        Args:
            rows: (n, D), floating point of one dtype and width on all workers, n from 0 on. Half
                precision travels as it is, and its gradients travel in float32.
            labels: (n,), integer.

        Returns:
            Everybody's; a gradient of ``rows`` sums what all workers make of these rows.
        """
        while True:
            received = self._exchange(_pack(rows.detach(), labels, self._capacity))
            counts = torch.stack([part[:WORD].view(torch.int64) for part in received]).flatten()
            counts = counts.tolist()
            if max(counts) <= self._capacity:
                break
            self._capacity = max(counts)
        parts = [
            _unpack(part, count, self._capacity, rows)
            for part, count in zip(received, counts, strict=True)
        ]
        start = sum(counts[: dist.get_rank(self._group)])
        own = slice(start, start + len(rows))
        everybodys = _Joined.apply(rows, own, self._group, *(part for part, _ in parts))
        return Gathered(everybodys, torch.cat([part for _, part in parts]), own)

    def _exchange(self, packed: Tensor) -> tuple[Tensor, ...]:
        """What each worker has packed, in the order of their ranks."""
        size = dist.get_world_size(self._group)
        received = packed.new_empty(size * len(packed))
        dist.all_gather_into_tensor(received, packed, group=self._group)
        return received.chunk(size)


class _Joined(torch.autograd.Function):
    """Rows of all workers as a function of one's own, whose gradients all workers add to."""

    @staticmethod
    def forward(ctx, rows, own, group, *parts):
        ctx.dtype, ctx.own, ctx.group = rows.dtype, own, group
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total[ctx.own].to(ctx.dtype), None, None, *[None] * (len(ctx.needs_input_grad) - 3)


def _pack(rows: Tensor, labels: Tensor, capacity: int) -> Tensor:
    """Bytes: the count, ``capacity`` labels, ``capacity`` rows. What does not fit is left out."""
    row_bytes = rows.size(1) * rows.element_size()
    words = 1 + capacity + -(-row_bytes * capacity // WORD)
    packed = torch.zeros(WORD * words, dtype=torch.uint8, device=rows.device)
    packed[:WORD].view(torch.int64).fill_(len(rows))
    fits = min(len(rows), capacity)
    packed[WORD : WORD * (1 + fits)].view(torch.int64).copy_(labels[:fits])
    start = WORD * (1 + capacity)
    packed[start : start + row_bytes * fits].view(rows.dtype).copy_(rows[:fits].reshape(-1))
    return packed


def _unpack(packed: Tensor, count: int, capacity: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Widened rows (count, D) and labels (count,)."""
    labels = packed[WORD : WORD * (1 + count)].view(torch.int64)
    start = WORD * (1 + capacity)
    stop = start + count * like.size(1) * like.element_size()
    rows = packed[start:stop].view(like.dtype).view(count, like.size(1))
    return rows.to(torch.float64 if like.dtype == torch.float64 else torch.float32), labels
