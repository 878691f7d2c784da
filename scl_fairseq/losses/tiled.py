"""The supervised contrastive term of large batches, in memory that grows with N and not with N x N.

The similarity matrix is computed tile by tile, reduced to one logsumexp an anchor, and computed
again in backward, but for the first tiles: as many as there is room for are kept, which changes no
bit of the result. Where every row is an anchor the matrix is symmetric and each pair of tiles is
computed once.
Gradients are written by hand; those of gradients are not available.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scl_fairseq.kernels.choice import similarity_kernels
from scl_fairseq.losses.classes import sizes
from scl_fairseq.losses.precision import (
    TF32,
    TRITON,
    Arithmetic,
    add_product,
    rounded,
    times_transposed,
)
from scl_fairseq.losses.tiles import blocks, room_for_tiles

# Exponentials of similarities up to this one float32 can add and divide by as they are: exp(40) is
# 2e17. Unit rows have them where tau is at least 0.025.
BOUND = 40


class TiledAnchorLosses(torch.autograd.Function):
    """``anchor_losses`` without a similarity matrix.

    Args:
        features: (M, D), float32 or float64, compared as they are: divided by the root of tau.
        class_of: (M,), classes numbered from 0.
        anchors: the rows that are anchors, a slice of step 1 with start and stop.
        tile: rows of a tile.
        number: of classes, at most.
        largest_square: what no row's squared norm is above, but for rounding; None to look for it,
            for which the host waits for a GPU.
        arithmetic: of the similarities; ``kernel`` is ``torch`` or ``triton``.

    Returns:
        (A,), the anchors' losses in nats; exactly 0 for anchors without a positive.
    """

    @staticmethod
    def forward(ctx, features, class_of, anchors, tile, number, largest_square, arithmetic):
        """Losses of the anchors."""
        own_class = class_of[anchors]
        positives = (sizes(class_of, number)[own_class] - 1).to(features.dtype)
        class_sums = features.new_zeros(number, features.size(1))
        class_sums.index_add_(0, class_of, features)

        # Sum over the positives j of z_i . z_j, which is z_i . (S - z_i).
        attraction = torch.empty_like(positives)
        for rows in blocks(anchors, tile):
            block = features[rows]
            others = class_sums[class_of[rows]].sub_(block)
            attraction[_shifted(rows, anchors)] = others.mul_(block).sum(dim=1)
        attraction /= positives.clamp(min=1)

        if largest_square is None:
            largest_square = torch.linalg.vector_norm(features, dim=1).amax().item() ** 2
        is_bounded = largest_square <= BOUND
        how = anchors, tile, is_bounded, arithmetic
        room = room_for_tiles(features, tile) if ctx.needs_input_grad[0] else 0
        repulsion, ctx.kept = _logsumexp_of_others(features, room, *how)
        ctx.save_for_backward(features, class_of, class_sums, positives, repulsion)
        ctx.how = how
        return torch.where(positives > 0, repulsion - attraction, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_losses):
        """Gradient of the features."""
        features, class_of, class_sums, positives, repulsion = ctx.saved_tensors
        anchors, tile, *_ = ctx.how
        weights = torch.where(positives > 0, grad_losses, 0.0)
        gradient = torch.zeros_like(features)
        _add_repulsion_gradient(gradient, features, ctx.kept, repulsion, weights, *ctx.how)

        # Anchor i pulls with w_i (S - z_i), and is pulled by the other anchors of its class.
        weights = weights / positives.clamp(min=1)
        pulls = torch.zeros_like(class_sums)
        for rows in blocks(anchors, tile):
            weight = weights[_shifted(rows, anchors), None]
            pulls.index_add_(0, class_of[rows], features[rows] * weight)
            own = class_sums[class_of[rows]].mul_(weight)
            gradient[rows] -= own.sub_(features[rows] * weight.mul(2))
        for rows in blocks(slice(0, len(features)), tile):
            gradient[rows] -= pulls[class_of[rows]]
        return gradient, None, None, None, None, None, None


class UnitRows(torch.autograd.Function):
    """``l2_normalize`` that keeps one matrix for its backward, and makes no other of that size.

    Args:
        embeddings: (N, D), floating point.
        length: of the rows that are returned.
        tile: rows at a time.

    Returns:
        (N, D), float32, or float64 for float64 input.
    """

    @staticmethod
    def forward(ctx, embeddings, length, tile):
        """Rows divided by their norm, times the length."""
        wide = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
        unit = torch.empty_like(embeddings, dtype=wide, memory_format=torch.contiguous_format)
        # The norm may leave the range of float32 where its two factors do not.
        largest = unit.new_empty(len(unit), 1)
        scaled_norm = torch.empty_like(largest)
        for rows in blocks(slice(0, len(embeddings)), tile):
            block = embeddings[rows].to(wide)
            torch.linalg.vector_norm(block, torch.inf, dim=1, keepdim=True, out=largest[rows])
            largest[rows].masked_fill_(largest[rows] == 0, 1.0)
            torch.div(block, largest[rows], out=unit[rows])
            torch.linalg.vector_norm(unit[rows], dim=1, keepdim=True, out=scaled_norm[rows])
            unit[rows] *= length / scaled_norm[rows].masked_fill(scaled_norm[rows] == 0, 1.0)
        ctx.save_for_backward(unit, largest, scaled_norm)
        ctx.dtype, ctx.length, ctx.tile = embeddings.dtype, length, tile
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_unit):
        """The part of the gradient across a row, over its norm; zero rows have none."""
        unit, largest, scaled_norm = ctx.saved_tensors
        # Nothing else reads the gradient of these rows, so its place can be taken.
        is_same = grad_unit.dtype == ctx.dtype
        gradient = grad_unit if is_same else torch.empty_like(grad_unit, dtype=ctx.dtype)
        for rows in blocks(slice(0, len(unit)), ctx.tile):
            along = (grad_unit[rows] * unit[rows]).sum(dim=1, keepdim=True)
            across = torch.addcmul(grad_unit[rows], unit[rows], along, value=-(ctx.length**-2))
            is_zero = scaled_norm[rows] == 0
            across *= ctx.length / scaled_norm[rows].masked_fill(is_zero, 1.0)
            gradient[rows] = across.div_(largest[rows]).masked_fill_(is_zero, 0.0)
        return gradient, None, None


def _logsumexp_of_others(
    features: Tensor,
    room: int,
    anchors: slice,
    tile: int,
    is_bounded: bool,
    arithmetic: Arithmetic,
) -> tuple[Tensor, list[Tensor]]:
    """(A,), log sum over k != i of exp(z_i . z_k), for the anchors i; and the first tiles.

    As many tiles as ``room`` numbers hold: of exponentials where they are bounded, otherwise of
    similarities.
    """
    largest = features.new_full((anchors.stop - anchors.start,), -torch.inf)
    total = torch.zeros_like(largest)
    factors, products = rounded(features, arithmetic.products), arithmetic.products
    if is_bounded and arithmetic.kernel == TRITON:
        _add_fused_sums(total, factors, anchors, tile, products == TF32)
        return total.log_(), []

    def absorb(scores: Tensor, place: slice) -> None:
        found = torch.maximum(largest[place], scores.amax(dim=1))
        shares = (scores - found[:, None]).exp_().sum(dim=1)
        total[place] = total[place] * (largest[place] - found).exp_() + shares
        largest[place] = found

    kept: list[Tensor] = []
    # Not -inf: with nothing else in a row its maximum would be -inf, and the rest NaN.
    lowest = torch.finfo(features.dtype).min
    for rows, columns, is_mirrored in _tiles(len(features), anchors, tile):
        scores = times_transposed(factors[rows], factors[columns], products)
        _fill_own(scores, rows, columns, lowest)
        place, other = _shifted(rows, anchors), _shifted(columns, anchors)
        if is_bounded:
            scores.exp_()
            total[place] += scores.sum(dim=1)
            if is_mirrored:
                total[other] += scores.sum(dim=0)
        else:
            absorb(scores, place)
            if is_mirrored:
                absorb(scores.T, other)
        room -= scores.numel()
        if room >= 0:
            kept.append(scores)
    # A single row has nothing else, and no positive that its loss could be asked for.
    return total.log_() if is_bounded else largest + total.log_(), kept


def _add_repulsion_gradient(
    gradient: Tensor,
    features: Tensor,
    kept: list[Tensor],
    repulsion: Tensor,
    weights: Tensor,
    anchors: slice,
    tile: int,
    is_bounded: bool,
    arithmetic: Arithmetic,
) -> None:
    """Add what ``sum(weights * repulsion)`` gives to the gradient (M, D) of the features."""
    is_symmetric = anchors == slice(0, len(features))
    # Where the exponentials are the same for a row and its mirror image, they are computed once.
    scales = weights * (-repulsion).exp_() if is_bounded else None
    factors, products = rounded(features, arithmetic.products), arithmetic.products
    is_fused = is_bounded and arithmetic.kernel == TRITON

    def similarities(index: int, rows: slice, columns: slice) -> Tensor:
        if index < len(kept):
            return kept[index]
        scores = times_transposed(factors[rows], factors[columns], products)
        return scores.exp_() if is_bounded else scores

    for index, (rows, columns, is_mirrored) in enumerate(_tiles(len(features), anchors, tile)):
        place, other = _shifted(rows, anchors), _shifted(columns, anchors)
        if is_fused:
            of_columns = scales[other] if is_mirrored else None
            shares = similarity_kernels().shares(
                factors[rows], factors[columns], scales[place], of_columns, products == TF32
            )
        elif is_bounded:
            scores, scale = similarities(index, rows, columns), scales[place, None]
            shares = (scale + scales[other]).mul_(scores) if is_mirrored else scores * scale
        else:
            scores = similarities(index, rows, columns)
            shares = (scores - repulsion[place, None]).exp_().mul_(weights[place, None])
            if is_mirrored:
                shares += (scores - repulsion[other]).exp_().mul_(weights[other])
        _fill_own(shares, rows, columns, 0.0)
        if is_symmetric and rows == columns:
            shares = shares + shares.T
        shares = rounded(shares, products)
        add_product(gradient[rows], shares, factors[columns], products)
        if is_mirrored or not is_symmetric:
            add_product(gradient[columns], shares.T, factors[rows], products)


def _add_fused_sums(
    total: Tensor, factors: Tensor, anchors: slice, tile: int, allow_tf32: bool
) -> None:
    """Add sum over k != i of exp(z_i . z_k) to the total (A,), by a kernel that stores no tile."""
    is_symmetric = anchors == slice(0, len(factors))
    for rows, columns, is_mirrored in _tiles(len(factors), anchors, tile):
        offset = rows.start - columns.start
        is_whole = is_symmetric and rows == columns
        of_rows, of_columns = similarity_kernels().sums(
            factors[rows], factors[columns], offset, is_whole, is_mirrored, allow_tf32
        )
        total[_shifted(rows, anchors)] += of_rows
        if of_columns is not None:
            total[_shifted(columns, anchors)] += of_columns


def _tiles(size: int, anchors: slice, tile: int) -> Iterator[tuple[slice, slice, bool]]:
    """Rows and columns of each tile, and whether it stands for its mirror image as well."""
    is_symmetric = anchors == slice(0, size)
    for rows in blocks(anchors, tile):
        for columns in blocks(slice(rows.start if is_symmetric else 0, size), tile):
            yield rows, columns, is_symmetric and rows != columns


def _shifted(rows: slice, anchors: slice) -> slice:
    """Where rows of the features stand among the anchors."""
    return slice(rows.start - anchors.start, rows.stop - anchors.start)


def _fill_own(scores: Tensor, rows: slice, columns: slice, value: float) -> None:
    """Overwrite what each row of a tile says of itself, if it does."""
    start, stop = max(rows.start, columns.start), min(rows.stop, columns.stop)
    if start < stop:
        # By an index the number would be copied to a GPU, which the host waits for.
        height, width = slice(start - rows.start, None), slice(start - columns.start, None)
        scores[height, width].diagonal()[: stop - start].fill_(value)
