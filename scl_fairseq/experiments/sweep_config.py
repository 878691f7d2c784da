"""The configuration of a sweep: which settings it tries. Imports neither torch nor fairseq."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# They name the data; every other key is a fairseq option. noise is the sampling temperature of an
# augmented training set, 0 for the original.
DATA_KEYS = ("task", "N", "noise", "sample")
TABLES = ("few-shot", "glue", "batch-size", "noise", "transfer", "none")
EMBEDDED = "embedded"
CE_LAMBDA = 0
# Without an effect on training at lambda 0.
_INERT = ("scl-temperature", "scl-embedding", "scl-reduction")

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
_KEYS = ("name", "published", "data", "encoder", "warmup-ratio", "grid", "options", "overrides")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
Value = str | int | float | bool | None
Setting = dict[str, Value]


@dataclass(frozen=True)
class Override:
    """Options of the trials whose setting agrees with ``when``."""

    when: Mapping[str, Sequence[Value]]
    options: Mapping[str, Value]

    def applies_to(self, setting: Mapping[str, Value]) -> bool:
        """Whether each key of ``when`` has one of its values in ``setting``."""
        return all(setting.get(key) in values for key, values in self.when.items())


@dataclass(frozen=True)
class SweepConfig:
    """A sweep as its YAML file describes it.

    Attributes:
        name: heading of its report.
        published: which published table stands beside the results.
        data: folder of a trial's binarised data, with ``{key}`` for keys of its setting.
        encoder: ``embedded``, or None where an option names the checkpoint.
        warmup_ratio: share of the updates, or None where options give both numbers.
        grids: each is key to values; a sweep is their union.
        options, overrides: what is the same for all trials, and for some.
        source: the file, for messages.
        values: all of it as read, to keep beside the results.
    """

    name: str
    published: str
    data: str
    encoder: str | None
    warmup_ratio: float | None
    grids: tuple[Mapping[str, Sequence[Value]], ...]
    options: Mapping[str, Value]
    overrides: tuple[Override, ...]
    source: str
    values: Mapping[str, Any]

    @property
    def grid_keys(self) -> list[str]:
        """Keys of all grids, in the order of their first appearance."""
        return list(dict.fromkeys(key for grid in self.grids for key in grid))


def read_config(path: Path, changes: Sequence[str] = ()) -> SweepConfig:
    """Read and check a configuration.

    Args:
        path: YAML.
        changes: ``key=value`` with dots between levels, such as ``options.max-epoch=3``; values
            are YAML.

    Raises:
        ValueError: it is malformed; the message names file and key.
        FileNotFoundError: there is no such file.
    """
    import yaml
    from omegaconf import OmegaConf  # its YAML reads 1e-5 as a number and refuses repeated keys

    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    except Exception as error:  # omegaconf's own, for what it cannot hold
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected keys and values ({', '.join(_KEYS)})")
    for change in changes:
        _change(values, change)
    return _checked(values, str(path))


def _change(values: dict[str, Any], change: str) -> None:
    from omegaconf import OmegaConf

    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {change}: expected key=value, such as options.max-epoch=3")
    try:
        value = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))["value"]
    except Exception as error:
        raise ValueError(f"--set {change}: {text} is not YAML: {error}") from None
    top, dot, rest = key.partition(".")
    if not dot:
        values[top] = value
        return
    tables = values.get(top)
    # A list of grids: the change is for each of them.
    for table in tables if isinstance(tables, list) else [values.setdefault(top, {})]:
        if not isinstance(table, dict):
            raise ValueError(f"--set {change}: {top} holds no keys")
        table[rest] = value


def _checked(values: dict[str, Any], source: str) -> SweepConfig:
    def fail(key: str, message: str) -> None:
        raise ValueError(f"{source}: {key}: {message}")

    for key in values:
        if key not in _KEYS:
            fail(str(key), f"unknown key, expected one of {', '.join(_KEYS)}")
    for key in ("data", "grid"):
        if not values.get(key):
            fail(key, "is missing or empty")
    if not isinstance(values["data"], str):
        fail("data", "expected a path")
    published = values.get("published") or "none"
    if published not in TABLES:
        fail("published", f"expected one of {', '.join(TABLES)}, got {published!r}")
    if values.get("encoder") not in (None, EMBEDDED):
        fail("encoder", f"expected {EMBEDDED}, or options.finetune-from-model instead of it")
    ratio = values.get("warmup-ratio")
    if ratio is not None and not (_is_number(ratio) and 0 <= ratio < 1):
        fail("warmup-ratio", f"expected a number from 0 to below 1, got {ratio!r}")
    options = values.get("options") or {}
    _check_options(options, "options", fail)
    grids = values["grid"] if isinstance(values["grid"], list) else [values["grid"]]
    for grid in grids:
        _check_grid(grid, options, fail)
    overrides = _overrides(values.get("overrides") or [], grids, fail)
    return SweepConfig(
        name=str(values.get("name") or Path(source).stem),
        published=published,
        data=values["data"],
        encoder=values.get("encoder"),
        warmup_ratio=ratio,
        grids=tuple(grids),
        options=options,
        overrides=overrides,
        source=source,
        values=values,
    )


def _check_options(options: Any, where: str, fail: Any) -> None:
    if not isinstance(options, dict):
        fail(where, "expected fairseq options and their values")
    for key, value in options.items():
        if not isinstance(key, str) or not _NAME.fullmatch(key):
            fail(f"{where}.{key}", "no option's name (write it without --)")
        if isinstance(value, (list, dict)):
            fail(f"{where}.{key}", "expected one value; several to try belong under grid")
        _check_key(key, f"{where}.{key}", fail)
        _check_value(key, value, f"{where}.{key}", fail)


def _check_key(key: str, where: str, fail: Any) -> None:
    if key in MANAGED:
        fail(where, f"cannot be set: {MANAGED[key]}")
    if key in DATA_KEYS and not where.startswith("grid."):
        fail(where, "names the data and belongs under grid")


def _check_value(key: str, value: Any, where: str, fail: Any) -> None:
    if key == "scl-lambda" and not (_is_number(value) and 0 <= value <= 1):
        fail(where, f"expected a number from 0 to 1, got {value!r}")
    if key == "scl-temperature" and not (_is_number(value) and 0 < value < float("inf")):
        fail(where, f"expected a number greater than 0, got {value!r}")
    if key in ("batch-size", "max-epoch", "N") and not (_is_integer(value) and value > 0):
        fail(where, f"expected a positive integer, got {value!r}")
    if key == "noise" and not (_is_number(value) and 0 <= value < float("inf")):
        fail(where, f"expected a temperature, or 0 for the original, got {value!r}")
    if key in ("seed", "sample") and not (_is_integer(value) and value >= 0):
        fail(where, f"expected an integer from 0, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_grid(grid: Any, options: Mapping[str, Any], fail: Any) -> None:
    if not isinstance(grid, dict) or not grid:
        fail("grid", "expected keys, each with a list of values")
    for key, listed in grid.items():
        where = f"grid.{key}"
        if not isinstance(key, str) or not _NAME.fullmatch(key):
            fail(where, "no option's name (write it without --)")
        _check_key(key, where, fail)
        if not isinstance(listed, list):
            fail(where, f"expected a list of values, got {listed!r}")
        if not listed:
            fail(where, "the list of values is empty")
        for index, value in enumerate(listed):
            if isinstance(value, (list, dict)):
                fail(where, f"expected plain values, got {value!r}")
            if canonical(value) in map(canonical, listed[:index]):
                fail(where, f"{value!r} is listed twice: its trials would be duplicates")
            _check_value(key, value, where, fail)
        if key in options:
            fail(where, "is also among options")


def _overrides(listed: Any, grids: Sequence[Mapping], fail: Any) -> tuple[Override, ...]:
    if not isinstance(listed, list):
        fail("overrides", "expected a list of {when: ..., options: ...}")
    known = {key for grid in grids for key in grid}
    found = []
    for number, item in enumerate(listed):
        where = f"overrides.{number}"
        if not isinstance(item, dict) or set(item) != {"when", "options"}:
            fail(where, "expected the keys when and options")
        if not isinstance(item["when"], dict) or not item["when"]:
            fail(f"{where}.when", "expected keys of the grid and their values")
        when = {}
        for key, value in item["when"].items():
            if key not in known:
                fail(f"{where}.when.{key}", "is no key of the grid")
            when[key] = value if isinstance(value, list) else [value]
        _check_options(item["options"], f"{where}.options", fail)
        for key in item["options"]:
            if key in known:
                fail(f"{where}.options.{key}", "is a key of the grid")
        found.append(Override(when, item["options"]))
    return tuple(found)


def settings(config: SweepConfig) -> list[Setting]:
    """The setting of every trial: keys of its grid, then options, those with value None left out.

    At lambda 0 temperature, embedding and reduction do nothing: the baseline is one setting
    whatever of them the grid lists, and has none.

    Raises:
        ValueError: two grids hold the same trial.
    """
    found: dict[tuple, Setting] = {}
    for grid in config.grids:
        of_this_grid = {identity(setting): setting for setting in _expand(config, grid)}
        for key, setting in of_this_grid.items():
            if key in found:
                named = ", ".join(f"{name}={setting[name]}" for name in grid if name in setting)
                raise ValueError(f"{config.source}: grid: duplicate trial {named}")
            found[key] = setting
    return list(found.values())


def _expand(config: SweepConfig, grid: Mapping[str, Sequence[Value]]) -> Iterator[Setting]:
    for values in itertools.product(*grid.values()):
        setting: Setting = {**dict(zip(grid, values, strict=True)), **config.options}
        inert = _INERT if setting.get("scl-lambda") == CE_LAMBDA else ()
        setting = {key: value for key, value in setting.items() if key not in inert}
        for override in config.overrides:
            if override.applies_to(setting):
                changes = override.options.items()
                setting.update({key: value for key, value in changes if key not in inert})
        yield {key: value for key, value in setting.items() if value is not None}


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
