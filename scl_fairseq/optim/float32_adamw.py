"""torch's fused AdamW with moments in float32, whatever the parameters' type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

HALVES = (torch.float16, torch.bfloat16)
LARGEST_PART = 2**24  # of halves: elements whose float32 copies (8 bytes each) exist at a time
MOMENTS, COPY = ("exp_avg", "exp_avg_sq"), "param"  # as checkpoints have them


class Float32AdamW(torch.optim.Optimizer):
    """AdamW in one pass over memory.

    torch's own ``AdamW(fused=True)`` keeps the moments of fp16 parameters in fp16, where the second
    one underflows to 0. Here parameters in half precision are updated in float32, and rounded only
    as they are stored, as fairseq's Adam does.

    Args:
        params: groups, each with ``params``; with ``indices``, which number each of them has in the
            whole, checkpoints fit however the parameters are grouped; and ``lr_scale``, how many
            times the scheduled rate ``lr`` is.
        lr, betas, eps, weight_decay: of groups that do not say.

    Attributes:
        trains_copies: the parameters are float32 copies of a model's, which its checkpoints round:
            then they are part of the state.

    References:
        Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (arXiv 1711.05101).
    """

    # What fairseq asks.
    supports_memory_efficient_fp16 = True
    supports_flat_params = True
    disable_mem_eff_fp16_loading_hack = True  # which is for moments that torch would make fp16

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.trains_copies = False
        check_device({p.device for group in self.param_groups for p in group["params"]})

    @property
    def supports_step_with_scale(self) -> bool:
        """Whether fairseq is to leave gradients as they are, and hand over what to divide them by.

        Gradients in half precision would underflow where fairseq divides them. Float32 copies it
        divides itself: with --bf16 it would otherwise multiply the factors of all updates.
        """
        return any(p.dtype in HALVES for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step(self, closure=None, scale: float | Tensor = 1.0):
        """Update every parameter that has a gradient; gradients are ``scale`` times too large."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            for part in _parts(trained):
                self._update(part, group, scale)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any], scale: float | Tensor) -> None:
        is_half = params[0].dtype in HALVES
        values = [p.float() for p in params] if is_half else params
        grads = [_gradient(p, value) for p, value in zip(params, values, strict=True)]
        states = [self._state_of(p, value) for p, value in zip(params, values, strict=True)]
        first, second, steps = ([s[name] for s in states] for name in (*MOMENTS, "step"))
        beta1, beta2 = group["betas"]
        adamw(
            values,
            grads,
            first,
            second,
            [],
            steps,
            fused=True,
            grad_scale=_as_tensor(scale, params[0].device),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        if is_half:
            torch._foreach_copy_(params, values)

    def _state_of(self, param: Tensor, value: Tensor) -> dict[str, Tensor]:
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
            state.update({name: torch.zeros_like(value) for name in MOMENTS})
        return state

    def state_dict(self) -> dict[str, Any]:
        """As torch's; ``indices`` of a group say which parameters those are that it numbers."""
        state_dict = super().state_dict()
        if self.trains_copies:
            for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=True):
                for number, param in zip(saved["params"], group["params"], strict=True):
                    moments = state_dict["state"].get(number, {})
                    state_dict["state"][number] = {**moments, COPY: param.detach()}
        return state_dict

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up moments and rates of a checkpoint; all else is as this optimizer was built.

        Moments go by the parameters' numbers, so that the groups may have changed. That of
        fairseq's Adam has the same moments and one group, numbered as the parameters are.

        Raises:
            ValueError: it is of other parameters.
        """
        saved = {}
        for group in state_dict["param_groups"]:
            ids = group["params"]
            saved.update(zip(group.get("indices", ids), ids, strict=True))
        own = dict(
            pair
            for group in self.param_groups
            for pair in zip(group["indices"], group["params"], strict=True)
        )
        if saved.keys() != own.keys():
            raise ValueError(
                f"the checkpoint's optimizer trained {len(saved)} parameters, and this training "
                f"has {len(own)}: --reset-optimizer begins with new moments"
            )
        for index, param in own.items():
            state = state_dict["state"].get(saved[index], {})
            if MOMENTS[0] in state:  # none where a parameter has had no gradient
                self.state[param] = _moments_for(param, state)
            if self.trains_copies and COPY in state:
                param.copy_(state[COPY])
        rates = {group.get("lr_scale", 1.0): group["lr"] for group in state_dict["param_groups"]}
        scale, rate = next(iter(rates.items()))
        for group in self.param_groups:
            own_scale = group.get("lr_scale", 1.0)
            group["lr"] = rates.get(own_scale, rate / scale * own_scale)


def check_device(devices: Iterable[torch.device]) -> None:
    """Try the fused kernel on each device.

    Raises:
        ValueError: this torch has none there.
    """
    for device in devices:
        zeros = [[torch.zeros(1, device=device)] for _ in range(4)]
        step = [torch.zeros((), device=device)]
        try:
            torch._fused_adamw_(
                *zeros, [], step, lr=0.0, beta1=0.9, beta2=0.9, weight_decay=0.0, eps=1.0,
                amsgrad=False, maximize=False,
            )  # fmt: skip
        except (AttributeError, RuntimeError) as error:  # NotImplementedError is of the latter
            raise ValueError(
                f"--optimizer fused_adamw: torch {torch.__version__} has no fused AdamW for "
                f"{device.type}; on CPUs it came with torch 2.4: take --optimizer adam"
            ) from error


def _parts(params: list[Tensor]) -> Iterator[list[Tensor]]:
    """Wide ones all together; of halves so many that their float32 copies stay small."""
    wide = [p for p in params if p.dtype not in HALVES]
    if wide:
        yield wide
    for dtype in HALVES:
        part, size = [], 0
        for param in (p for p in params if p.dtype == dtype):
            if part and size + param.numel() > LARGEST_PART:
                yield part
                part, size = [], 0
            part.append(param)
            size += param.numel()
        if part:
            yield part


def _gradient(param: Tensor, value: Tensor) -> Tensor:
    """The gradient, in type and layout as the value: the kernel reads both as they lie."""
    if param.grad.is_sparse:
        raise RuntimeError("fused_adamw takes no sparse gradients")
    if param.grad.dtype == value.dtype and param.grad.stride() == value.stride():
        return param.grad
    return torch.empty_like(value).copy_(param.grad)


def _as_tensor(scale: float | Tensor, device: torch.device) -> Tensor | None:
    if not torch.is_tensor(scale) and scale == 1.0:
        return None
    if not torch.is_tensor(scale):  # made on the device: a copy would wait for a GPU
        return torch.full((), scale, dtype=torch.float32, device=device)
    return torch.as_tensor(scale, dtype=torch.float32, device=device).reshape(())


def _moments_for(param: Tensor, state: Mapping[str, Any]) -> dict[str, Tensor]:
    if state["exp_avg"].shape != param.shape:
        raise ValueError(
            f"the checkpoint's optimizer trained a parameter of shape "
            f"{tuple(state['exp_avg'].shape)} where this training has {tuple(param.shape)}: "
            "--reset-optimizer begins with new moments"
        )
    wide = torch.float32 if param.dtype in HALVES else param.dtype
    moments = {name: torch.empty_like(param, dtype=wide).copy_(state[name]) for name in MOMENTS}
    step = torch.as_tensor(state["step"], dtype=torch.float32, device=param.device)
    return {"step": step.clone().reshape(()), **moments}
