"""``--optimizer fused_adamw``: torch's fused AdamW for fairseq."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fairseq.optim import FairseqOptimizer, register_optimizer
from torch import Tensor

from scl_fairseq.optim import options, places
from scl_fairseq.optim.float32_adamw import Float32AdamW


@register_optimizer(places.NAME, dataclass=options.FusedAdamWConfig)
class FairseqFusedAdamW(FairseqOptimizer):
    """What fairseq's Adam computes, at a fraction of its time on CPUs.

    Groups of parameters may have rates and weight decays of their own. Each group's ``lr_scale`` is
    how many times the scheduled rate its ``lr`` is, whatever schedule sets that.
    """

    def __init__(self, cfg: options.FusedAdamWConfig, params: Iterable[Tensor]):
        super().__init__(cfg)
        config = self.optimizer_config  # checks the options
        self._optimizer = Float32AdamW(places.groups(params, cfg), **config)
        self.set_lr(config["lr"])

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """Settings of a group that has none of its own."""
        lr = self.cfg.lr[0] if isinstance(self.cfg.lr, Collection) else self.cfg.lr
        return {"lr": lr, **options.numbers(self.cfg)}

    def set_lr(self, lr: float) -> None:
        """Give each group its share of the scheduled rate."""
        self._scheduled = lr
        for group in self.param_groups:
            group["lr"] = lr * group["lr_scale"]

    def get_lr(self) -> float:
        """The scheduled rate."""
        group = self.param_groups[0]
        if group["lr"] == self._scheduled * group["lr_scale"]:
            return self._scheduled  # a division might miss by the last bit
        return (
            group["lr"] / group["lr_scale"]
        )  # changed in the groups, as reduce_lr_on_plateau does

    def load_state_dict(
        self, state_dict: Mapping[str, Any], optimizer_overrides: Mapping[str, Any] | None = None
    ) -> None:
        """Take up moments and rates; settings are this training's, after them the overrides."""
        self.optimizer.load_state_dict(state_dict)
        overrides = dict(optimizer_overrides or {})
        if "lr" in overrides:
            self.set_lr(overrides.pop("lr"))
        for group in self.param_groups:
            kept = {} if group["decays"] else {"weight_decay": 0.0}
            group.update({**overrides, **kept})
