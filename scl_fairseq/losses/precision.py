"""In which precision the products of similarities are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scl_fairseq import products as exact
from scl_fairseq.kernels.choice import check_runs, takes_triton

FLOAT32, TF32, BF16 = "float32", "tf32", "bf16"
PRODUCTS = (FLOAT32, TF32, BF16)
AUTO, TORCH, TRITON = KERNELS = ("auto", "torch", "triton")


class Arithmetic(NamedTuple):
    """How similarities are computed; rows in float64 are multiplied in float64 whatever it says.

    Attributes:
        products: ``float32``, also where the process has allowed TF32; ``tf32``, which a GPU makes
            of float32 factors (10 bits of mantissa instead of 23), and elsewhere is float32; or
            ``bf16``: factors rounded to 8 bits. All three add up in float32.
        kernel: what computes large batches: ``torch``, ``triton``, or ``auto``: Triton's on cards
            where it was measured to be the faster one, otherwise torch's.
    """

    products: str = FLOAT32
    kernel: str = AUTO


DEFAULT = Arithmetic()


def check_arithmetic(arithmetic: Arithmetic) -> None:
    """Raise ``ValueError`` that names the value unless there is such a way, here too."""
    for name, choices in (("products", PRODUCTS), ("kernel", KERNELS)):
        value = getattr(arithmetic, name)
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if arithmetic.kernel == TRITON:
        check_runs()


def resolved(arithmetic: Arithmetic, rows: Tensor) -> Arithmetic:
    """The same with the kernel that computes large batches of these rows: torch's or Triton's.

    Raises:
        ValueError: Triton's is asked for where it cannot run.
    """
    is_triton = takes_triton(arithmetic.kernel, arithmetic.products, rows)
    return arithmetic._replace(kernel=TRITON if is_triton else TORCH)


def rounded(matrix: Tensor, products: str) -> Tensor:
    """What enters products: float32 numbers in bf16 where that is asked for."""
    is_rounded = products == BF16 and matrix.dtype == torch.float32
    return matrix.bfloat16() if is_rounded else matrix


def times_transposed(left: Tensor, right: Tensor, products: str) -> Tensor:
    """``left @ right.T`` of ``rounded`` matrices, (R, K) and (C, K), in float32 or float64."""
    with tf32_allowed(left.device, products != FLOAT32):
        if left.dtype != torch.bfloat16:
            return exact.times_transposed(left, right)
        if _gives_float32(left.device):
            return torch.mm(left, right.T, out_dtype=torch.float32)
        # Products of 8 bits are exact in float32, and in TF32 too.
        return exact.times_transposed(left.float(), right.float())


def add_product(total: Tensor, left: Tensor, right: Tensor, products: str) -> None:
    """``total += left @ right`` of ``rounded`` matrices, (R, K) and (K, C), in place."""
    with tf32_allowed(left.device, products != FLOAT32):
        if left.dtype != torch.bfloat16:
            exact.add_product(total, left, right)
        elif _gives_float32(left.device):
            total += torch.mm(left, right, out_dtype=torch.float32)
        else:
            exact.add_product(total, left.float(), right.float())


def similarities(left: Tensor, right: Tensor, products: str) -> Tensor:
    """``left @ right.T``, with gradients in the same precision.

    Args:
        left: (A, D), float32 or float64.
        right: (N, D), likewise.
        products: one of ``PRODUCTS``.

    Returns:
        (A, N), of their type.
    """
    is_other = products == BF16 or (
        left.device.type == "cuda" and _is_tf32(left.device) != (products == TF32)
    )
    if is_other and left.dtype == torch.float32:
        return _Similarities.apply(left, right, products)
    return left @ right.T


class _Similarities(torch.autograd.Function):
    """Backward runs when the process's own setting is in force again, so it has to say its own."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, products: str) -> Tensor:
        factors = rounded(left, products), rounded(right, products)
        ctx.save_for_backward(*factors)
        ctx.products = products
        return times_transposed(*factors, products)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        shares = rounded(grad, ctx.products)
        found: list[Tensor | None] = [None, None]
        for index, (own, factor) in enumerate(((shares, right), (shares.T, left))):
            if ctx.needs_input_grad[index]:
                total = grad.new_zeros(len(own), factor.size(1))
                add_product(total, own, factor, ctx.products)
                found[index] = total
        return *found, None


@contextmanager
def tf32_allowed(device: torch.device, is_allowed: bool) -> Iterator[None]:
    """Float32 products on a GPU in TF32 or not, whatever the process has set; elsewhere nothing."""
    if device.type != "cuda" or _is_tf32(device) == is_allowed:
        yield
        return
    matmul = torch.backends.cuda.matmul
    before = getattr(matmul, "fp32_precision", None)
    # This way of setting it is the one that no version of torch complains about.
    matmul.allow_tf32 = is_allowed
    try:
        yield
    finally:
        matmul.allow_tf32 = not is_allowed
        if before is not None and matmul.fp32_precision != before:
            matmul.fp32_precision = before


def _is_tf32(device: torch.device) -> bool:
    """Whether float32 products are in TF32 as the process is set."""
    if device.type != "cuda":
        return False
    matmul = torch.backends.cuda.matmul
    found = getattr(matmul, "fp32_precision", None)  # torch 2.9 and later
    if found == "none":  # not set by itself: what is set for all of torch
        found = torch.backends.fp32_precision
    return matmul.allow_tf32 if found is None else found == "tf32"


def _gives_float32(device: torch.device) -> bool:
    """Whether torch multiplies bf16 matrices into a float32 one."""
    return device.type == "cuda" and "dtype" in torch.ops.aten.mm.overloads()
