"""The settings of a sweep's trials: options by name, those of a first stage with a prefix."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scl_fairseq.experiments.sweep_config import SweepConfig

Value = str | int | float | bool | None
Setting = dict[str, Value]

# They name the data. noise is the sampling temperature of an augmented training set, 0 for the
# original.
DATA_KEYS = ("task", "N", "noise", "sample")
# What a report adds to settings of trials that may not be compared (see outside_grid).
OUTSIDE = "outside-grid"
# A name for what overrides make of a trial. Every other key is a fairseq option.
SYSTEM = "system"
# A training from whose last weights the trial starts, and what its options have before them.
FIRST_STAGE = "first-stage"
FIRST = f"{FIRST_STAGE}."
FIRST_CRITERION = "supcon"
CE_LAMBDA = 0
# Without an effect on training at lambda 0.
_INERT = (
    *("scl-temperature", "scl-embedding", "scl-reduction"),
    *("scl-queue-size", "scl-momentum", "scl-products", "scl-kernel"),
)
# Trials of before there was the option are the same ones.
_AS_BEFORE = {"head-pooling": "cls"}
# What chooses an epoch: a first stage is not validated, its last weights are the ones.
OF_SELECTION = (
    *("patience", "save-interval", "save-interval-updates"),
    *("validate-interval", "validate-interval-updates", "validate-after-updates"),
)
# A first stage has the other options that all trials have.
_OWN = (
    *("criterion", "finetune-from-model", "freeze-encoder", "scl-lambda", "scl-reduction"),
    *("report-mcc", "report-acc-and-f1", "f1-label", *OF_SELECTION),
)


def settings(config: SweepConfig) -> list[Setting]:
    """The setting of every trial: keys of its grid, then options, those with value None left out.

    At lambda 0 temperature, embedding, reduction and queue do nothing: the baseline is one setting
    whatever of them the grid lists, and has none. The options of a first stage are those of the
    grid and of ``options`` that are not a classifier's own, and over them those of the overrides'
    ``first-stage`` and of grid keys with its prefix.

    Raises:
        ValueError: two grids hold the same trial.
    """
    found: dict[tuple, Setting] = {}
    for grid in config.grids:
        of_this_grid = {identity(setting): setting for setting in expand(config, grid)}
        for key, setting in of_this_grid.items():
            if key in found:
                named = ", ".join(f"{name}={setting[name]}" for name in grid if name in setting)
                raise ValueError(f"{config.source}: grid: duplicate trial {named}")
            found[key] = setting
    marked = {OUTSIDE: config.outside} if config.outside else {}
    return [{**setting, **marked} for setting in found.values()]


def expand(config: SweepConfig, grid: Mapping[str, Sequence[Value]]) -> Iterator[Setting]:
    """The settings of a grid's combinations; of equal ones each."""
    for values in itertools.product(*grid.values()):
        chosen: Setting = {**dict(zip(grid, values, strict=True)), **config.options}
        base = without_inert(chosen)
        setting = {key: value for key, value in base.items() if not key.startswith(FIRST)}
        of_first = first_stage(chosen)
        stages = [of_first] if of_first else []
        for override in config.overrides:
            if override.applies_to(base):
                # One may set lambda, which decides what is inert.
                setting = without_inert({**setting, **override.options})
                stages += [] if override.first_stage is None else [override.first_stage]
        found = {key: value for key, value in setting.items() if value is not None}
        yield comparable({**found, **(_prefixed(chosen, stages) if stages else {})})


def without_inert(setting: Mapping[str, Value]) -> Setting:
    """A setting without what does nothing at its lambda."""
    inert = _INERT if setting.get("scl-lambda") == CE_LAMBDA else ()
    return {key: value for key, value in setting.items() if key not in inert}


def comparable(setting: Mapping[str, Value]) -> Setting:
    """A setting as earlier sweeps have written it down."""
    return {
        key: value
        for key, value in without_inert(setting).items()
        if _AS_BEFORE.get(key.removeprefix(FIRST), ...) != value
    }


def _prefixed(chosen: Setting, stages: Sequence[Mapping[str, Value]]) -> Setting:
    """All options of a first stage; later ones of ``stages`` win."""
    left_out = (*DATA_KEYS, SYSTEM, *_OWN)
    options: Setting = {"criterion": FIRST_CRITERION}
    for key, value in chosen.items():
        if key not in left_out and not key.startswith(FIRST):
            options[key] = value
    for stage in stages:
        options.update(stage)
    return {f"{FIRST}{key}": value for key, value in options.items() if value is not None}


def first_stage(setting: Mapping[str, Value]) -> Setting:
    """Options of a setting's first stage, by their own names; empty where there is none."""
    return {
        key.removeprefix(FIRST): value for key, value in setting.items() if key.startswith(FIRST)
    }


def canonical(value: object) -> tuple[int, float, str]:
    """A setting's value to compare and to sort by: numbers first, by size, however written.

    ``0`` and ``0.0`` are the same, and so are ``5e-05`` and the text ``"5e-5"``, as which YAML
    reads it; absent (None) comes last.
    """
    if value is None:
        return (2, 0.0, "")
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return (0, number, "")
    return (1, 0.0, value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def identity(setting: Mapping[str, object]) -> tuple:
    """What settings have in common that are the same, in whatever order and however written."""
    return tuple(sorted((key, canonical(value)) for key, value in setting.items()))
