"""Products of float matrices, by the fastest exact way that this build of torch has.

On a CPU torch multiplies float32 matrices by MKL, which on other makers' processors leaves a tenth
to a fifth of the speed unused that oneDNN, also within torch, reaches with the same precision
(measured on an AMD EPYC). Only :func:`affine` and :func:`linear` have gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def times_transposed(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """``left @ right.T + bias``.

    Args:
        left: (…, K), floating point.
        right: (C, K), of the same type and device.
        bias: (C,), likewise.

    Returns:
        (…, C).
    """
    if _onednn_takes(left) and left.dtype == right.dtype:
        return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return F.linear(left, right, bias)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right``, in place.

    Args:
        total: (R, C), floating point.
        left: (R, K), of the same type and device.
        right: (K, C), likewise.
    """
    # A left that is not contiguous oneDNN would copy first.
    if _onednn_takes(left) and left.is_contiguous():
        total += torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
    else:
        total.addmm_(left, right)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x Wᵀ + b``, with gradients.

    Args:
        x: (…, K), floating point.
        weight: (C, K).
        bias: (C,).

    Returns:
        (…, C).
    """
    if not _onednn_takes(x) or x.dtype != weight.dtype or torch.is_autocast_cpu_enabled():
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Affine.apply(x, weight, bias)
    return times_transposed(x, weight, bias)


def linear(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, (…, in) to (…, out), for a module that computes ``x Wᵀ + b``."""
    # Hooks may change weights, and other modules are no plain product.
    if type(module) is not nn.Linear or module._forward_hooks or module._forward_pre_hooks:
        return module(x)
    return affine(x, module.weight, module.bias)


class _Affine(torch.autograd.Function):
    """``x Wᵀ + b`` and its gradients, all by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return times_transposed(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            times_transposed(grad, weight.T) if needs_x else None,
            times_transposed(rows.T, x.flatten(0, -2).T) if needs_weight else None,
            rows.sum(dim=0) if needs_bias else None,
        )


def _onednn_takes(matrix: Tensor) -> bool:
    is_float = matrix.dtype == torch.float32 and matrix.device.type == "cpu"
    return _has_onednn and is_float and matrix.size(-1) > 0  # it makes no sums of nothing


def _onednn_works() -> bool:
    """Whether torch has the operator that its own compiler uses, and it takes plain matrices."""
    if not torch.backends.mkldnn.is_available():
        return False
    left, right, bias = (
        torch.arange(6.0).view(1, 2, 3),
        torch.arange(12.0).view(4, 3),
        torch.ones(4),
    )
    try:
        found = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(found, F.linear(left, right, bias))


_has_onednn = _onednn_works()
