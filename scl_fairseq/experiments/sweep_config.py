"""The configuration of a sweep as its file says it. Imports neither torch nor fairseq."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.experiments.settings import FIRST, FIRST_STAGE, SYSTEM, Value
from scl_fairseq.experiments.sweep_checks import Fail, check_grid, check_options, is_number

TABLES = ("few-shot", "glue", "batch-size", "noise", "transfer", "none")
EMBEDDED = "embedded"

_KEYS = ("name", "published", "data", "encoder", "warmup-ratio", "grid", "options", "overrides")


@dataclass(frozen=True)
class Override:
    """Options of the trials whose setting agrees with ``when``.

    Attributes:
        when: keys of the grid, and values of which the setting has one.
        options: of the trial.
        first_stage: of the training from whose weights it starts; None where there is none.
    """

    when: Mapping[str, Sequence[Value]]
    options: Mapping[str, Value]
    first_stage: Mapping[str, Value] | None = None

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
        outside: what tells its trials from others that they may not be compared with, in words;
            empty where there are no others.
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
    outside: str = ""

    @property
    def grid_keys(self) -> list[str]:
        """Keys of all grids, in the order of their first appearance."""
        return list(dict.fromkeys(key for grid in self.grids for key in grid))

    def place_of(self, key: str, value: Value) -> str:
        """Where the file says so, for messages; options of a first stage begin with its prefix."""
        if key in self.grid_keys:
            return f"grid.{key}"
        option = key.removeprefix(FIRST)
        for number, override in reversed(list(enumerate(self.overrides))):
            where = f"overrides.{number}"
            if key.startswith(FIRST) and (override.first_stage or {}).get(option) == value:
                return f"{where}.{key}"
            if option == key and override.options.get(key) == value:
                return f"{where}.options.{key}"
        return f"options.{option}"


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
    return config_of(values, str(path))


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
    listed = tables if isinstance(tables, list) else [values.setdefault(top, {})]
    if not all(isinstance(table, dict) for table in listed):
        raise ValueError(f"--set {change}: {top} holds no keys")
    # Of several grids those that have the key; where none has, each.
    for table in [table for table in listed if rest in table] or listed:
        table[rest] = value


def config_of(values: dict[str, Any], source: str) -> SweepConfig:
    """Check a configuration's values.

    Args:
        values: as the file has them.
        source: the file, for messages.

    Raises:
        ValueError: they are malformed.
    """

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
    if ratio is not None and not (is_number(ratio) and 0 <= ratio < 1):
        fail("warmup-ratio", f"expected a number from 0 to below 1, got {ratio!r}")
    options = values.get("options") or {}
    check_options(options, "options.", fail)
    grids = values["grid"] if isinstance(values["grid"], list) else [values["grid"]]
    for grid in grids:
        check_grid(grid, options, fail)
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


def _overrides(listed: Any, grids: Sequence[Mapping], fail: Fail) -> tuple[Override, ...]:
    if not isinstance(listed, list):
        fail("overrides", "expected a list of {when: ..., options: ..., first-stage: ...}")
    known = {key for grid in grids for key in grid}
    found = [_override(item, f"overrides.{n}", known, fail) for n, item in enumerate(listed)]
    named = {value for override in found for value in override.when.get(SYSTEM, ())}
    for system in (value for grid in grids for value in grid.get(SYSTEM, ())):
        if system not in named:  # one that is misspelt there would train as another
            fail(f"grid.{SYSTEM}", f"no override says what {system!r} is")
    return tuple(found)


def _override(item: Any, where: str, known: set[str], fail: Fail) -> Override:
    keys = set(item) if isinstance(item, dict) else set()
    if "when" not in keys or not {"when"} < keys <= {"when", "options", FIRST_STAGE}:
        fail(where, f"expected the keys when and options, {FIRST_STAGE} or both")
    if not isinstance(item["when"], dict) or not item["when"]:
        fail(f"{where}.when", "expected keys of the grid and their values")
    when = {}
    for key, value in item["when"].items():
        if key not in known:
            fail(f"{where}.when.{key}", "is no key of the grid")
        when[key] = value if isinstance(value, list) else [value]
    options, first = item.get("options", {}), item.get(FIRST_STAGE, {})
    check_options(options, f"{where}.options.", fail)
    check_options(first, f"{where}.{FIRST}", fail)
    for key in (*(f"options.{key}" for key in options), *(f"{FIRST}{key}" for key in first)):
        if key.removeprefix("options.") in known:
            fail(f"{where}.{key}", "is a key of the grid")
    return Override(when, options, first if FIRST_STAGE in item else None)
