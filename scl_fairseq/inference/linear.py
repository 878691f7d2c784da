"""Linear layers without gradients, by the fastest way that this build of torch has.

On a CPU torch multiplies float32 matrices by MKL; oneDNN, also within torch, is a tenth faster on
the matrices of an encoder (measured on an AMD EPYC) at the same precision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, (…, in) to (…, out), for a module that computes ``x Wᵀ + b``."""
    if (
        _has_onednn
        and type(module) is nn.Linear
        and not (module._forward_hooks or module._forward_pre_hooks)  # which may change weights
        and x.dtype == module.weight.dtype == torch.float32
        and x.device.type == "cpu"
    ):
        return torch.ops.mkldnn._linear_pointwise(x, module.weight, module.bias, "none", [], "")
    return module(x)


def _onednn_works() -> bool:
    """Whether torch has the operator that its own compiler uses, and it takes plain matrices."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias = torch.arange(12.0).view(2, 2, 3), torch.arange(12.0).view(4, 3), torch.ones(4)
    try:
        found = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(found, F.linear(x, weight, bias))


_has_onednn = _onednn_works()
