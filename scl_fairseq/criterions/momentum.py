"""A copy of the model that follows it slowly, and computes keys."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

LARGEST_PART = (
    2**24
)  # numbers of a model in half precision whose float32 copies are there at a time


class MomentumCopy:
    r"""All of a model once more, as :math:`\theta_k \leftarrow m \theta_k + (1 - m) \theta_q`.

    It is made when it is first asked for, equal to the model, and is always in evaluation mode. Of
    a model in half precision, parameters are kept in float32 beside the half ones that compute:
    a step of 0.001 would vanish in half precision.

    Args:
        momentum: m, 0 <= m < 1.

    References:
        He et al., *Momentum Contrast for Unsupervised Visual Representation Learning* (arXiv
        1911.05722), equation 2.
    """

    def __init__(self, momentum: float):
        self._momentum = momentum
        self._module: nn.Module | None = None
        self._wide: dict[str, Tensor] = {}
        self._update_num = 0
        self._loaded: dict[str, Any] | None = None

    def follow(self, model: nn.Module, update_num: int) -> nn.Module:
        """The copy, which has taken a step if there was an update since it was last asked for.

        Args:
            model: what is trained, with its wrappers.
            update_num: how many updates there were.

        Returns:
            The bare copy; it has no gradients.
        """
        while hasattr(model, "module"):
            model = model.module
        if self._module is None:
            self._make(model, update_num)
        if update_num != self._update_num:
            self._step(model)
            self._update_num = update_num
        return self._module

    def state(self) -> dict[str, Any] | None:
        """Parameters in float32 or wider, and the update that they are of; None without a copy."""
        if self._module is None:
            return self._loaded
        return {"weights": dict(self._wide), "update_num": self._update_num}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state when the copy is made."""
        self._loaded = state

    def _make(self, model: nn.Module, update_num: int) -> None:
        self._module = copy.deepcopy(model).eval().requires_grad_(False)
        self._wide = {
            # Wide ones are the copy's own, so that a step reaches it.
            name: tensor.data if tensor.dtype.itemsize >= 4 else tensor.data.float()
            for name, tensor in self._module.named_parameters()
        }
        self._update_num = update_num
        state, self._loaded = self._loaded, None
        if state is None:
            return
        weights = state["weights"]
        shapes = {name: tensor.shape for name, tensor in self._wide.items()}
        if {name: tensor.shape for name, tensor in weights.items()} != shapes:
            logger.warning("the checkpoint's momentum copy is of another model: beginning afresh")
            return
        for name, tensor in self._wide.items():
            tensor.copy_(weights[name])
        self._update_num = state["update_num"]
        self._narrow()

    @torch.no_grad()
    def _step(self, model: nn.Module) -> None:
        # Many tensors at once: a GPU would otherwise wait for each one's launch.
        for part in _parts(model.named_parameters()):
            keys = [self._wide[name] for name, _ in part]
            queries = [p.detach().to(key.dtype) for (_, p), key in zip(part, keys, strict=True)]
            torch._foreach_lerp_(keys, queries, 1 - self._momentum)
        self._narrow()

    @torch.no_grad()
    def _narrow(self) -> None:
        """Round the float32 parameters to those that compute, where they are not the same."""
        halves = [
            (parameter, self._wide[name])
            for name, parameter in self._module.named_parameters()
            if parameter.dtype != self._wide[name].dtype
        ]
        if halves:
            torch._foreach_copy_(*map(list, zip(*halves, strict=True)))


def _parts(named: Iterable[tuple[str, Tensor]]) -> Iterator[list[tuple[str, Tensor]]]:
    """Parameters of one type, as many as are taken at a time."""
    part: list[tuple[str, Tensor]] = []
    size = 0
    for name, parameter in named:
        is_other = bool(part) and parameter.dtype != part[0][1].dtype
        if part and (is_other or size + parameter.numel() > LARGEST_PART):
            yield part
            part, size = [], 0
        part.append((name, parameter))
        size += parameter.numel()
    if part:
        yield part
