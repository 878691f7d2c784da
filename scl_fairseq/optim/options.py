"""Options of ``--optimizer fused_adamw``."""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, List  # noqa: UP035

from fairseq.dataclass import FairseqDataclass
from omegaconf import II

PER_PARAMETER = ("head_lr_scale", "layer_lr_decay", "no_decay_biases_norms")


@dataclass
class FusedAdamWConfig(FairseqDataclass):
    """Those of fairseq's Adam by its names, and what differs from parameter to parameter."""

    adam_betas: Any = field(
        default=(0.9, 0.999),
        metadata={"help": "decay rates of the two moments, each from 0 to below 1"},
    )
    adam_eps: float = field(
        default=1e-8, metadata={"help": "added to the root of the second moment; above 0"}
    )
    weight_decay: float = field(
        default=0.0,
        metadata={"help": "decoupled weight decay: each update takes lr times this of a weight"},
    )
    no_decay_biases_norms: bool = field(
        default=False,
        metadata={"help": "leave biases and layer norms out of the weight decay"},
    )
    head_lr_scale: float = field(
        default=1.0,
        metadata={
            "help": "how many times the scheduled learning rate the heads have (all of the model's "
            "classification_heads); above 0"
        },
    )
    layer_lr_decay: float = field(
        default=1.0,
        metadata={
            "help": "each encoder layer learns at this times the rate of the layer above it, the "
            "embeddings at this times that of the lowest layer; the top layer and all above it "
            "have the full rate; above 0, at most 1. Of an encoder and a decoder, the encoder lies "
            "below"
        },
    )
    lr: List[float] = II("optimization.lr")  # noqa: RUF009, UP006


def numbers(cfg: Any) -> dict[str, Any]:
    """What AdamW calls ``betas``, ``eps`` and ``weight_decay``.

    Raises:
        ValueError: an option's value cannot be, also of those that are no numbers of AdamW.
    """
    for name, is_right, expected in (
        ("adam_eps", lambda value: value > 0, "a number above 0"),
        ("weight_decay", lambda value: value >= 0, "a number from 0"),
        ("head_lr_scale", lambda value: value > 0, "a number above 0"),
        ("layer_lr_decay", lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    ):
        value = getattr(cfg, name)
        if not (math.isfinite(value) and is_right(value)):
            raise ValueError(f"{flag(name)} {value}: expected {expected}")
    return {
        "betas": _betas(cfg.adam_betas),
        "eps": float(cfg.adam_eps),
        "weight_decay": float(cfg.weight_decay),
    }


def _betas(value: Any) -> tuple[float, float]:
    try:
        read = ast.literal_eval(value) if isinstance(value, str) else value
        first, second = map(float, read)
    except (ValueError, TypeError, SyntaxError):
        first = second = math.nan
    if not (0 <= first < 1 and 0 <= second < 1):
        raise ValueError(
            f'--adam-betas {value}: expected two numbers from 0 to below 1, such as "(0.9,0.98)"'
        )
    return first, second


def flag(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


def per_parameter(cfg: Mapping[str, Any] | Any) -> list[str]:
    """Of the options that need to know each parameter by itself, those in use, as typed."""
    off = {f.name: f.default for f in FusedAdamWConfig.__dataclass_fields__.values()}
    return [flag(name) for name in PER_PARAMETER if getattr(cfg, name) != off[name]]
