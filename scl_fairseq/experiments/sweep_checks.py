"""What is wrong with the options and grids of a sweep's configuration."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from scl_fairseq.experiments.settings import (
    DATA_KEYS,
    FIRST,
    FIRST_CRITERION,
    OF_SELECTION,
    SYSTEM,
    canonical,
)

# Numbers that training would fail on, or take in silence: what they must be, by the option's name.
_ABOVE_0 = (
    *("lr", "head-lr-scale", "adam-eps"),
    *("max-update", "total-num-update", "update-freq", "max-tokens"),
)
_FROM_0 = ("clip-norm", "warmup-updates", "weight-decay")
_SHARES = (
    *("dropout", "attention-dropout", "activation-dropout", "pooler-dropout"),
    *("encoder-layerdrop", "label-smoothing"),
)
_RANGES = {
    **dict.fromkeys(_ABOVE_0, ("a number greater than 0", lambda number: number > 0)),
    **dict.fromkeys(_FROM_0, ("a number from 0", lambda number: number >= 0)),
    "layer-lr-decay": ("a number above 0 and at most 1", lambda number: 0 < number <= 1),
    **dict.fromkeys(_SHARES, ("a number from 0 to below 1", lambda number: 0 <= number < 1)),
}

Fail = Callable[[str, str], None]
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")

# What a sweep decides itself, so that a trial leaves what it should and can be compared.
MANAGED = {
    "best-checkpoint-metric": "a sweep selects on accuracy",
    "continue-once": "a trial starts from finetune-from-model",
    "cpu": "the sweep's --workers decides",
    "data": "it is the top-level key data",
    "disable-validation": "a sweep selects on validation accuracy",
    "distributed-world-size": "a trial runs on one device",
    "fixed-validation-seed": "validation draws no random numbers",
    "log-file": "a trial's log is train.log in its folder",
    "log-format": "a trial's log is train.log in its folder",
    "maximize-best-checkpoint-metric": "a sweep selects on accuracy",
    "no-epoch-checkpoints": "the sweep's --keep decides",
    "no-last-checkpoints": "the sweep's --keep decides",
    "no-save": "the sweep's --keep decides",
    "no-save-optimizer-state": "the sweep's --keep decides",
    "regression-target": "a sweep selects on accuracy",
    "reset-dataloader": "a trial starts from finetune-from-model",
    "reset-lr-scheduler": "a trial starts from finetune-from-model",
    "reset-meters": "a trial starts from finetune-from-model",
    "reset-optimizer": "a trial starts from finetune-from-model",
    "restore-file": "a trial starts from finetune-from-model",
    "save-dir": "it is the trial's folder",
    "train-subset": "it is train",
    "user-dir": "it is this package",
    "valid-subset": "it is valid",
}


def check_options(options: Any, where: str, fail: Fail) -> None:
    """Look at options of ``fairseq-train``.

    Args:
        options: name to value.
        where: they stand, with what separates it from their names.
        fail: is told where something is wrong, and what; raises.
    """
    if not isinstance(options, dict):
        fail(where.removesuffix("."), "expected fairseq options and their values")
    for key, value in options.items():
        _check_name(key, f"{where}{key}", fail)
        if isinstance(value, (list, dict)):
            fail(f"{where}{key}", "expected one value; several to try belong under grid")
        _check_key(key, f"{where}{key}", fail)
        _check_value(key, value, f"{where}{key}", fail)


def _check_name(key: Any, where: str, fail: Fail) -> None:
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        fail(where, "no option's name (write it without --)")


def _check_key(key: str, where: str, fail: Fail) -> None:
    if key in MANAGED:
        fail(where, f"cannot be set: {MANAGED[key]}")
    if key in DATA_KEYS and where != f"grid.{key}":
        fail(where, "names the data and belongs under grid")
    if key == SYSTEM and where != f"grid.{key}":
        fail(where, "names what overrides make of a trial and belongs under grid")
    if FIRST in where and key in OF_SELECTION:
        fail(where, "a first stage is not validated: its last weights are kept")
    if FIRST in where and key == "finetune-from-model":
        fail(where, "a first stage starts from the trial's")


def _check_value(key: str, value: Any, where: str, fail: Fail) -> None:
    if not isinstance(value, (str, int, float, bool, type(None))):
        fail(where, f"expected a number, text, true or false, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        fail(where, f"expected a finite number, got {value!r}")
    kind, number, _ = canonical(value)
    if key in _RANGES and kind == 0 and not _RANGES[key][1](number):
        fail(where, f"expected {_RANGES[key][0]}, got {value!r}")
    if key == "lr" and (value is None or isinstance(value, bool)):  # or fairseq's default, 0.25
        fail(where, f"expected {_RANGES[key][0]}, got {value!r}")
    if key == "adam-betas" and not _is_pair(value):
        fail(where, f'expected two numbers below 1, such as "(0.9,0.98)", got {value!r}')
    if key == "scl-lambda" and not (is_number(value) and 0 <= value <= 1):
        fail(where, f"expected a number from 0 to 1, got {value!r}")
    if key == "scl-lambda" and value == 1 and "grid." not in where and FIRST not in where:
        fail(where, "1 trains no classifier to select by: it belongs in a grid or a first-stage")
    if key == "scl-temperature" and not (is_number(value) and 0 < value < float("inf")):
        fail(where, f"expected a number greater than 0, got {value!r}")
    if key in ("batch-size", "max-epoch", "N") and not (_is_integer(value) and value > 0):
        fail(where, f"expected a positive integer, got {value!r}")
    if key == "noise" and not (is_number(value) and 0 <= value < float("inf")):
        fail(where, f"expected a temperature, or 0 for the original, got {value!r}")
    if key in ("seed", "sample") and not (_is_integer(value) and value >= 0):
        fail(where, f"expected an integer from 0, got {value!r}")
    if key == "f1-label" and isinstance(value, bool):  # YAML's yes and no
        fail(where, "expected a label's name; write it in quotes")
    if key == SYSTEM and not (isinstance(value, str) and value.strip()):
        fail(where, f"expected a name, got {value!r}")
    if key == "criterion" and value == FIRST_CRITERION and FIRST not in where:
        fail(where, f"{value} has no accuracy to select on; it is the criterion of a first-stage")


def _is_pair(value: Any) -> bool:
    try:
        pair = ast.literal_eval(str(value))
    except (ValueError, SyntaxError):
        return False
    return (
        isinstance(pair, tuple)
        and len(pair) == 2
        and all(is_number(n) and 0 <= n < 1 for n in pair)
    )


def is_number(value: Any) -> bool:
    """Whether it is a number, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_grid(grid: Any, options: Mapping[str, Any], fail: Fail) -> None:
    """Look at a grid, beside the options that all trials have; ``fail`` as above."""
    if not isinstance(grid, dict) or not grid:
        fail("grid", "expected keys, each with a list of values")
    for key, listed in grid.items():
        where = f"grid.{key}"
        option = key.removeprefix(FIRST) if isinstance(key, str) else key
        _check_name(option, where, fail)
        _check_key(option, where, fail)
        if not isinstance(listed, list):
            fail(where, f"expected a list of values, got {listed!r}")
        if not listed:
            fail(where, "the list of values is empty")
        for index, value in enumerate(listed):
            if isinstance(value, (list, dict)):
                fail(where, f"expected plain values, got {value!r}")
            if canonical(value) in map(canonical, listed[:index]):
                fail(where, f"{value!r} is listed twice: its trials would be duplicates")
            _check_value(option, value, where, fail)
        if key in options:
            fail(where, "is also among options")
