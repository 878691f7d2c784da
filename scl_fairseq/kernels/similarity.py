"""Similarities, their exponentials and sums in one kernel, which stores no similarity.

Importing this needs Triton. With ``TRITON_INTERPRET=1`` set before, kernels run on a CPU, which is
how float32 and fp16 are tested where there is no GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from scl_fairseq.kernels.choice import is_interpreted

# Rows and columns of a block, and how much of the width goes through at a time. Not measured on a
# GPU yet.
BLOCK, DEPTH, WARPS = 128, 32, 8
SMALL_BLOCK = 32  # of the interpreter, to which a block costs what its numbers cost


@triton.jit
def _exponentials(
    left,
    right,
    rows,
    columns,
    num_rows,
    num_columns,
    offset,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """exp(left[rows] . right[columns]), float32; 0 outside of the matrix and of a row with itself.

    Row r is column r + offset. A width is a constant: models have few of them.
    """
    has_row, has_column = rows < num_rows, columns < num_columns
    scores = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, WIDTH, DEPTH):
        at = start + tl.arange(0, DEPTH)
        of_rows = tl.load(
            left + rows[:, None] * WIDTH + at[None, :],
            mask=has_row[:, None] & (at < WIDTH)[None, :],
            other=0.0,
        )
        of_columns = tl.load(
            right + columns[None, :] * WIDTH + at[:, None],
            mask=has_column[None, :] & (at < WIDTH)[:, None],
            other=0.0,
        )
        scores = tl.dot(of_rows, of_columns, scores, input_precision=PRECISION)
    is_other = has_row[:, None] & has_column[None, :]
    is_other = is_other & (rows[:, None] + offset != columns[None, :])
    return tl.where(is_other, tl.exp(scores), 0.0)


@triton.jit
def _sums_kernel(
    left,
    right,
    row_sums,
    column_sums,
    num_rows,
    num_columns,
    offset,
    WIDTH: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    IS_MIRRORED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Sums of a block's exponentials: by rows, and for its mirror image by columns."""
    row_block, column_block = tl.program_id(0), tl.program_id(1)
    # Left is right: what lies below the diagonal is the mirror image of what lies above.
    if IS_WHOLE and column_block < row_block:
        return
    rows = row_block * BLOCK + tl.arange(0, BLOCK)
    columns = column_block * BLOCK + tl.arange(0, BLOCK)
    found = _exponentials(
        left, right, rows, columns, num_rows, num_columns, offset, WIDTH, PRECISION, BLOCK, DEPTH
    )
    # A place for each block, so that sums are added up in the same order each time.
    by_row = row_sums + column_block * num_rows + rows
    tl.store(by_row, tl.sum(found, axis=1), mask=rows < num_rows)
    if IS_MIRRORED or (IS_WHOLE and column_block > row_block):
        by_column = column_sums + row_block * num_columns + columns
        tl.store(by_column, tl.sum(found, axis=0), mask=columns < num_columns)


@triton.jit
def _shares_kernel(
    left,
    right,
    row_scales,
    column_scales,
    shares,
    num_rows,
    num_columns,
    offset,
    WIDTH: tl.constexpr,
    IS_MIRRORED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """A block's exponentials times the scales of its rows, and for its mirror image of columns."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    found = _exponentials(
        left, right, rows, columns, num_rows, num_columns, offset, WIDTH, PRECISION, BLOCK, DEPTH
    )
    scales = tl.load(row_scales + rows, mask=rows < num_rows, other=0.0)[:, None]
    if IS_MIRRORED:
        of_columns = tl.load(column_scales + columns, mask=columns < num_columns, other=0.0)
        scales = scales + of_columns[None, :]
    tl.store(
        shares + rows[:, None] * num_columns + columns[None, :],
        (found * scales).to(shares.dtype.element_ty),
        mask=(rows < num_rows)[:, None] & (columns < num_columns)[None, :],
    )


def sums(
    left: Tensor,
    right: Tensor,
    offset: int,
    is_whole: bool,
    is_mirrored: bool,
    allow_tf32: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Sums of exp(left . right), each pair of blocks of a symmetric matrix computed once.

    Args:
        left: (R, D), contiguous; float32, float16 or bfloat16. Products add up in float32.
        right: (C, D), likewise.
        offset: row r of ``left`` is row r + offset of ``right``, if there is one: left out.
        is_whole: ``left`` is ``right``.
        is_mirrored: the tile stands for its mirror image as well.
        allow_tf32: of float32 factors.

    Returns:
        (R,) over the columns and, if mirrored, (C,) over the rows, float32.
    """
    block = _block()
    grid = triton.cdiv(len(left), block), triton.cdiv(len(right), block)
    of_rows = torch.zeros(grid[1], len(left), device=left.device)
    is_by_column = is_whole or is_mirrored
    of_columns = torch.zeros(grid[0], len(right), device=left.device) if is_by_column else of_rows
    with torch.cuda.device_of(left):
        _sums_kernel[grid](
            left, right, of_rows, of_columns, len(left), len(right), offset, WIDTH=left.size(1),
            IS_WHOLE=is_whole, IS_MIRRORED=is_mirrored, **_how(allow_tf32),
        )  # fmt: skip
    if is_whole:
        return of_rows.sum(dim=0) + of_columns.sum(dim=0), None
    return of_rows.sum(dim=0), of_columns.sum(dim=0) if is_mirrored else None


def shares(
    left: Tensor,
    right: Tensor,
    row_scales: Tensor,
    column_scales: Tensor | None,
    allow_tf32: bool = False,
) -> Tensor:
    """exp(left . right) times (row's scale + column's scale), own pairs included.

    Args:
        left: (R, D), contiguous; float32, float16 or bfloat16.
        right: (C, D), likewise.
        row_scales: (R,), float32.
        column_scales: (C,), or None for none.
        allow_tf32: of float32 factors.

    Returns:
        (R, C), of the factors' type.
    """
    block = _block()
    grid = triton.cdiv(len(left), block), triton.cdiv(len(right), block)
    found = left.new_empty(len(left), len(right))
    nobody = -len(left) - len(right)
    of_columns = row_scales if column_scales is None else column_scales
    with torch.cuda.device_of(left):
        _shares_kernel[grid](
            left, right, row_scales.contiguous(), of_columns.contiguous(), found,
            len(left), len(right), nobody, WIDTH=left.size(1),
            IS_MIRRORED=column_scales is not None, **_how(allow_tf32),
        )  # fmt: skip
    return found


def _block() -> int:
    return SMALL_BLOCK if is_interpreted() else BLOCK


def _how(allow_tf32: bool) -> dict[str, object]:
    precision = "tf32" if allow_tf32 else "ieee"
    return {"PRECISION": precision, "BLOCK": _block(), "DEPTH": DEPTH, "num_warps": WARPS}
