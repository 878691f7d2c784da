"""Where in the model a parameter stands, which fairseq does not tell its optimizers."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor, nn

from scl_fairseq.optim.options import flag, per_parameter

NAME = "fused_adamw"
HEADS = "classification_heads."
LAYER = re.compile(r"(.*?\.)?layers\.\d+(?=\.)")
# The one attribute, of fairseq's composite optimizer, that it copies to the float32 copies that
# --fp16 and --bf16 train in the parameters' stead.
ATTRIBUTE = "param_group"


class Place(NamedTuple):
    """Of one parameter: whether it is of a head, and how many steps below the top layer it lies."""

    is_head: bool
    steps_below: int


def install() -> None:
    """Have fairseq's trainer mark each parameter before it builds the optimizer, once."""
    from fairseq.trainer import Trainer

    original = Trainer._build_optimizer
    if getattr(Trainer, "_scl_marks_places", False):
        return

    @functools.wraps(original)
    def _build_optimizer(self):
        if getattr(self.cfg.optimizer, "_name", None) == NAME:
            _check(self.cfg)
            mark(self.get_model(), self.get_criterion())
        original(self)

    Trainer._build_optimizer, Trainer._scl_marks_places = _build_optimizer, True


def mark(model: nn.Module, criterion: nn.Module) -> None:
    """Note on each parameter where it stands; what a criterion trains is as new as a head."""
    names = [name for name, _ in model.named_parameters()]
    layers = list(dict.fromkeys(filter(None, map(_layer_of, names))))  # from the lowest
    for name, parameter in model.named_parameters():
        layer = _layer_of(name)
        if layer is not None:
            steps = len(layers) - 1 - layers.index(layer)
        else:  # a norm or a projection above the layers, unless it embeds
            steps = len(layers) if "emb" in name else 0
        is_head = name.startswith(HEADS)
        setattr(parameter, ATTRIBUTE, Place(is_head, 0 if is_head else steps))
    for parameter in criterion.parameters():
        setattr(parameter, ATTRIBUTE, Place(is_head=True, steps_below=0))


def _layer_of(name: str) -> str | None:
    found = None if name.startswith(HEADS) else LAYER.match(name)
    return found and found[0]


def groups(params: Iterable[Tensor], cfg: Any) -> list[dict[str, Any]]:
    """Parameters with one factor of the learning rate and one weight decay, together.

    Args:
        params: in the order that numbers them.
        cfg: the options, ``FusedAdamWConfig``.

    Returns:
        For ``Float32AdamW``, with ``decays`` beside it: whether the weight decay is theirs.

    Raises:
        ValueError: options need to know what the parameters do not say, or would change nothing.
    """
    params = list(params)
    found: dict[tuple[float, bool], dict[str, Any]] = {}
    places = _places_for(params, cfg)
    for index, (parameter, place) in enumerate(zip(params, places, strict=True)):
        lr_scale = float(cfg.head_lr_scale) if place.is_head else _decayed(cfg, place)
        decays = parameter.dim() > 1 or not cfg.no_decay_biases_norms
        group = found.setdefault(
            (lr_scale, decays),
            {"params": [], "indices": [], "lr_scale": lr_scale, "decays": decays},
        )
        group["params"].append(parameter)
        group["indices"].append(index)
        group["weight_decay"] = float(cfg.weight_decay) if decays else 0.0
    return list(found.values())


def _decayed(cfg: Any, place: Place) -> float:
    return float(cfg.layer_lr_decay) ** place.steps_below


def _places_for(params: list[Tensor], cfg: Any) -> list[Place]:
    used = per_parameter(cfg)
    marks = [getattr(parameter, ATTRIBUTE, None) for parameter in params]
    places = [mark if isinstance(mark, Place) else None for mark in marks]
    if used and None in places:
        raise ValueError(
            f"{' and '.join(used)}: only fairseq's trainer knows each parameter's place"
        )
    places = [place or Place(is_head=False, steps_below=0) for place in places]
    if cfg.head_lr_scale != 1 and not any(place.is_head for place in places):
        raise ValueError(f"{flag('head_lr_scale')}: no classification head is trained")
    if cfg.layer_lr_decay != 1 and not any(place.steps_below for place in places):
        raise ValueError(f"{flag('layer_lr_decay')}: no layer below another one is trained")
    return places


def _check(cfg: Any) -> None:
    """Refuse what would shard or average the optimizer's states, and one parameter made of all."""
    distributed, common = cfg.distributed_training, cfg.common
    keeps_apart = (
        common.fp16_no_flatten_grads or common.memory_efficient_fp16 or common.bf16 or common.amp
    )
    used = per_parameter(cfg.optimizer)
    if used and common.fp16 and not keeps_apart:
        raise ValueError(
            f"{' and '.join(used)}: --fp16 flattens all parameters into one; add "
            "--fp16-no-flatten-grads, or take --memory-efficient-fp16"
        )
    for is_used, option in (
        (distributed.ddp_backend == "fully_sharded", "--ddp-backend fully_sharded"),
        (distributed.zero_sharding == "os", "--zero-sharding os"),
        (cfg.optimization.use_bmuf, "--use-bmuf"),
    ):
        if is_used:
            raise ValueError(f"--optimizer {NAME} does not go with {option}")
