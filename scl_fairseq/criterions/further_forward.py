"""More to compute within a model's own forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn


@contextlib.contextmanager
def further_forward(model: nn.Module, compute: Callable[[], dict[str, Tensor]]) -> Iterator[None]:
    """Run ``compute`` at the end of each forward pass, inside of the wrappers for several workers.

    Those see one forward, and what was computed among its outputs: by these they find out which
    parameters will have gradients.

    Args:
        model: a RoBERTa of fairseq, with its wrappers.
        compute: what else there is to return.
    """
    while hasattr(model, "module"):
        model = model.module
    original = model.forward

    def forward(**net_input: Any) -> tuple[Tensor, dict]:
        output, extra = original(**net_input)
        return output, {**extra, **compute()}

    model.forward = forward  # hides the class's method
    try:
        yield
    finally:
        del model.forward
