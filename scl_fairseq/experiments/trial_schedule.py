"""The length of a training in updates, and what fairseq would find out late about its options."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scl_fairseq.experiments.settings import Setting, Value

ENDS = ("max-epoch", "max-update", "stop-time-hours", "patience")
SIZES = ("batch-size", "max-sentences", "max-tokens")


def check_complete(options: Mapping[str, Value], where: str) -> None:
    """What fairseq would find out late, or never.

    Raises:
        ValueError: training would not end, or its batches have no size.
    """
    for keys, why in ((ENDS, "training would not end"), (SIZES, "fairseq needs one")):
        if not any(key in options for key in keys):
            raise ValueError(f"{where}: none of {', '.join(keys)}: {why}")


def schedule(
    options: Mapping[str, Value], warmup_ratio: float, num_examples: int, source: str, where: str
) -> Setting:
    """Scheduler, updates and warm-up of a training whose warm-up is a share of it.

    Args:
        options: of the training.
        warmup_ratio: the share.
        num_examples: of its training set.
        source: the configuration, for messages.
        where: the part of it that holds the options.

    Raises:
        ValueError: the options do not say how many updates there are, or say it twice.
    """
    for key in ("max-epoch", "batch-size"):
        if key not in options:
            raise ValueError(f"{source}: warmup-ratio: needs {where}.{key}")
    for key in ("total-num-update", "warmup-updates"):
        if key in options:
            raise ValueError(f"{source}: {where}.{key}: warmup-ratio sets it")
    for key in ("max-tokens", "max-sentences", "max-update", "skip-remainder-batch"):
        if key in options:
            raise ValueError(f"{source}: {where}.{key}: warmup-ratio cannot count with it")
    if options.get("required-batch-size-multiple", 1) != 1:
        raise ValueError(f"{source}: {where}.required-batch-size-multiple: warmup-ratio needs 1")
    update_freq = options.get("update-freq", 1)
    if not isinstance(update_freq, int):
        raise ValueError(f"{source}: {where}.update-freq: warmup-ratio needs one number")
    batches = math.ceil(num_examples / options["batch-size"])
    updates = options["max-epoch"] * math.ceil(batches / update_freq)
    return of_ratio(options.get("lr-scheduler"), warmup_ratio, updates)


def of_ratio(scheduler: Value, warmup_ratio: float, updates: int) -> Setting:
    """Scheduler and warm-up of so many updates."""
    return {
        "lr-scheduler": scheduler or "polynomial_decay",
        "total-num-update": updates,
        "warmup-updates": round(warmup_ratio * updates),
    }
