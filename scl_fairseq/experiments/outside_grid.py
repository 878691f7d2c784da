"""Trials of one folder, or of several, whose settings outside the grid differ.

The grid says what is tried and compared; all else is the same for every trial of a sweep. A folder
that is used again with another ``max-epoch`` holds trials of two kinds, which must not compete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from scl_fairseq.experiments.results import Failure, Result, Results
from scl_fairseq.experiments.settings import (
    DATA_KEYS,
    FIRST,
    OUTSIDE,
    SYSTEM,
    Setting,
    canonical,
    comparable,
    expand,
    identity,
    settings,
)
from scl_fairseq.experiments.sweep_config import SweepConfig
from scl_fairseq.experiments.trial import ENCODER_OPTION
from scl_fairseq.experiments.trial_schedule import of_ratio

# They say where in a table a trial stands, or which of several repetitions it is.
_OF_PLACE = {*DATA_KEYS, SYSTEM, "seed"}
# They follow from other settings and from the size of the training set.
_DERIVED = {"total-num-update", "warmup-updates"}

Trial = Result | Failure
Group = tuple


def told_apart(parts: Sequence[Results], axes: Iterable[str] = ()) -> list[Results]:
    """Say which trials may not be compared, where there are such.

    Args:
        parts: what ``read_results`` read.
        axes: keys of which different values stand in different places anyway.

    Returns:
        The same. Where trials of a folder or of a place differ outside the grid, each setting has
        a further key, ``outside-grid``: what differs, in words. So have those that a config names.
    """
    groups = _Groups(parts, axes)
    trials = [(part, trial) for part in parts for trial in (*part.results, *part.failures)]
    members: dict[Group, list[Mapping[str, object]]] = {}
    together: dict[tuple, set[Group]] = {}
    for part, trial in trials:
        group = groups.of(trial.setting, part)
        members.setdefault(group, []).append(trial.setting)
        place = tuple(canonical(trial.setting.get(key)) for key in ("task", "N", "noise"))
        for where in (place, (id(part),)):
            together.setdefault(where, set()).add(group)
    if all(len(found) == 1 for found in together.values()):
        return list(parts)
    for part in parts:
        if part.config is not None:
            members.setdefault(groups.planned(part), settings(part.config))
    names = _names(members)

    def marked(part: Results, trial: Trial) -> Trial:
        name = names[groups.of(trial.setting, part)]
        return replace(trial, setting={**trial.setting, OUTSIDE: name})

    return [
        replace(
            part,
            results=tuple(marked(part, result) for result in part.results),
            failures=tuple(marked(part, failure) for failure in part.failures),
            config=part.config and replace(part.config, outside=names[groups.planned(part)]),
        )
        for part in parts
    ]


def _names(members: Mapping[Group, Sequence[Mapping[str, object]]]) -> dict[Group, str]:
    """What each group has for the keys in which groups differ."""
    keys = sorted({key for group in members for key, _ in group})
    names: dict[Group, str] = {}
    for group, found in members.items():
        own = dict(group)
        said = []
        for key in keys:
            values = {own[key]} if key in own else {canonical(one.get(key)) for one in found}
            said.append(f"{key} {'/'.join(map(_shown, sorted(values)))}")
        name = ", ".join(said)
        taken = list(names.values())
        names[group] = name if name not in taken else f"{name} ({len(taken) + 1})"
    return names


def _shown(value: tuple[int, float, str]) -> str:
    """A value in its canonical form."""
    kind, number, text = value
    return f"{number:g}" if kind == 0 else text or "none"


class _Groups:
    """Trials of a group may be compared.

    Args:
        parts: their configs are what trials are held against; where a folder has none, another's,
            or where nobody has one, the other trials of the same place and system.
        axes: keys that play no part.
    """

    def __init__(self, parts: Sequence[Results], axes: Iterable[str]):
        self._axes = set(axes)
        self._configs = {id(part): part.config for part in parts}
        known = [config for config in self._configs.values() if config is not None]
        self._fallback = known[0] if known else None
        in_grids = {key for config in known for key in config.grid_keys}
        self._base = {id(config): _base(config, in_grids) for config in known}
        first = self._base[id(known[0])] if known else {}
        self._varying = {
            key
            for base in self._base.values()
            for key in {*base, *first}
            if canonical(base.get(key)) != canonical(first.get(key))
        }
        self._unexplained = set() if known else _unexplained(parts)
        self._known: dict[tuple, Group] = {}

    def of(self, setting: Mapping[str, object], part: Results) -> Group:
        """The group of a trial: keys, and their values in the order of size."""
        config = self._configs[id(part)] or self._fallback
        if config is None:
            return self._group({key: setting.get(key) for key in self._unexplained})
        key = (id(config), identity(setting))
        if key not in self._known:
            found = {**self._of_config(config), **differences(setting, config)}
            self._known[key] = self._group(found)
        return self._known[key]

    def planned(self, part: Results) -> Group:
        """That of what its config, which it must have, names."""
        return self._group(self._of_config(part.config))

    def _of_config(self, config: SweepConfig) -> dict[str, object]:
        base = self._base[id(config)]
        return {key: base.get(key) for key in self._varying}

    def _group(self, values: Mapping[str, object]) -> Group:
        items = sorted(values.items())
        return tuple((key, canonical(value)) for key, value in items if key not in self._axes)


def _base(config: SweepConfig, in_grids: Iterable[str]) -> dict[str, object]:
    """What a config says for all of its trials; what any of the grids varies is a choice."""
    base = {**config.options, "warmup-ratio": config.warmup_ratio}
    return {key: base[key] for key in base.keys() - {*in_grids, ENCODER_OPTION}}


def differences(setting: Mapping[str, object], config: SweepConfig) -> Setting:
    """What of a trial's setting a config would have made otherwise, or not at all.

    Args:
        setting: of any trial.
        config: keys of its grid are left out: they are what is tried.

    Returns:
        The trial's own values by key; None where it lacks one that it would have.
    """
    own = comparable(setting)
    (expected,) = expand(config, {key: [own[key]] for key in config.grid_keys if key in own})
    for prefix in ("", FIRST) if config.warmup_ratio is not None else ():
        updates = own.get(f"{prefix}total-num-update")
        if updates is not None:
            scheduler = expected.get(f"{prefix}lr-scheduler")
            planned = of_ratio(scheduler, config.warmup_ratio, updates)
            expected.update({f"{prefix}{key}": value for key, value in planned.items()})
    keys = {*own, *expected} - {*config.grid_keys, *_OF_PLACE, ENCODER_OPTION}
    return {
        key: own.get(key) for key in keys if canonical(own.get(key)) != canonical(expected.get(key))
    }


def _unexplained(parts: Sequence[Results]) -> set[str]:
    """Keys outside all grids that differ between trials of the same place and system."""
    results = [result for part in parts for result in part.results]
    left_out = {key for result in results for key in result.grid_keys} | _OF_PLACE | _DERIVED
    seen: dict[tuple, set] = {}
    keys = {key for result in results for key in result.setting} - left_out
    for result in results:
        place = tuple(canonical(result.setting.get(key)) for key in ("task", "N", "noise", SYSTEM))
        for key in keys:
            seen.setdefault((key, place), set()).add(canonical(result.setting.get(key)))
    return {key for (key, _), values in seen.items() if len(values) > 1}
