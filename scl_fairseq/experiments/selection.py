"""The paper's selection: hyper-parameters and runs are chosen by validation accuracy alone.

A *configuration* is a setting without sample and seed: its runs are repetitions of one another. A
*cell* of a table is a task, an N and a loss; all configurations in it compete. Test accuracies are
carried along and never looked at.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scl_fairseq.experiments.results import (
    DEFAULT_LAMBDA,
    DEFAULT_TEMPERATURE,
    Failure,
    Result,
    loss_of,
)
from scl_fairseq.experiments.settings import canonical, identity, settings
from scl_fairseq.experiments.sweep_config import SweepConfig

REPETITION_KEYS = ("sample", "seed")
# What the paper found best in most cases.
FIXED = {"scl-lambda": DEFAULT_LAMBDA, "scl-temperature": DEFAULT_TEMPERATURE}
CE, SCL = "CE", "CE+SCL"
FIXED_NAME = f"{SCL} {DEFAULT_LAMBDA:g}/{DEFAULT_TEMPERATURE:g}"


def rule(top: int) -> str:
    """The rule of selection in words."""
    chosen = "the hyper-parameters with the best run, then that run. Of equals, "
    if top > 1:
        chosen = (
            f"the hyper-parameters with the best mean over the top {top}, then the top {top} runs. "
            f"A configuration of fewer than {top} competes only where all are. Of equals, "
        )
    return (
        f"Chosen by validation accuracy alone: {chosen}the first counts: of configurations by "
        "their settings (keys in alphabetical order, smaller numbers first), of runs by sample, "
        "then by seed."
    )


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in sample and seed alone.

    Attributes:
        setting: without sample and seed.
        runs: finished ones, the best validation accuracy first; equals by sample, then by seed.
        num_failed: runs that failed and have no result.
        num_expected: runs that the config names, or as many as there are signs of.
    """

    setting: Mapping[str, object]
    runs: tuple[Result, ...]
    num_failed: int
    num_expected: int

    @property
    def num_collapsed(self) -> int:
        """Runs that are no better than naming one class always."""
        return sum(run.collapsed for run in self.runs)

    def top(self, count: int) -> tuple[Result, ...]:
        """The ``count`` runs of the highest validation accuracy, or all where there are fewer."""
        return self.runs[:count]

    def by_repetition(self) -> dict[tuple, Result]:
        """The runs by sample and seed, in their order."""
        return dict(
            sorted(((_repetition(run.setting), run) for run in self.runs), key=lambda one: one[0])
        )

    def validation(self, count: int) -> float:
        """Mean validation accuracy of ``top(count)``, percent."""
        return statistics.mean(run.best_valid_accuracy for run in self.top(count))


@dataclass(frozen=True)
class Cell:
    """All configurations of a place in a table.

    Attributes:
        place: task, N and the table's other axes; None where the settings have no such key.
        loss: ``CE``, ``CE+SCL`` or the name of another system.
        configurations: in the order in which equals count, some perhaps without a finished run.
        num_expected: runs of all configurations that the config names.
    """

    place: Mapping[str, object]
    loss: str
    configurations: tuple[Configuration, ...]
    num_expected: int

    @property
    def num_runs(self) -> int:
        """Finished runs of all configurations."""
        return sum(len(configuration.runs) for configuration in self.configurations)

    def having(self, fixed: Mapping[str, float]) -> list[Configuration]:
        """The configurations that have these hyper-parameters."""
        return [one for one in self.configurations if _has(one.setting, fixed)]

    def choose(self, top: int, fixed: Mapping[str, float] | None = None) -> Configuration | None:
        """The configuration of the highest mean validation accuracy over its top runs.

        Args:
            top: how many runs count.
            fixed: hyper-parameters that are given; only the others are chosen.

        Returns:
            None where no run has finished.
        """
        # Rounded, or the order in which equal sums were added up would decide. min keeps the first.
        return min(
            (one for one in self.having(fixed or {}) if one.runs),
            key=lambda one: (len(one.runs) < top, -round(one.validation(top), 6)),
            default=None,
        )


def _has(setting: Mapping[str, object], fixed: Mapping[str, float]) -> bool:
    # The criterion's defaults are the same numbers.
    return all(
        canonical(setting.get(key, FIXED.get(key))) == canonical(value)
        for key, value in fixed.items()
    )


@dataclass(frozen=True)
class Choice:
    """What a column of a table shows in a place.

    Attributes:
        cell: the configurations that there were.
        chosen: the one that was chosen, None where none has a finished run.
        num_competing: among how many that have a finished run.
        num_runs: finished runs of these.
        num_expected: runs that they should have.
    """

    cell: Cell
    chosen: Configuration | None
    num_competing: int
    num_runs: int
    num_expected: int


@dataclass(frozen=True)
class Row:
    """A place in the tables.

    Attributes:
        place: task, N and the table's other axes.
        choices: of ``CE``, ``CE+SCL``, ``FIXED_NAME`` and other systems, those that have a trial.
    """

    place: Mapping[str, object]
    choices: Mapping[str, Choice]

    def chosen(self, column: str) -> Configuration | None:
        """The chosen configuration, if any."""
        return self.choices[column].chosen if column in self.choices else None

    def top_mean(self, column: str, top: int) -> float | None:
        """Mean test accuracy of the chosen configuration's top runs, percent, if any."""
        chosen = self.chosen(column)
        return chosen and statistics.mean(run.test_accuracy for run in chosen.top(top))


def choose_rows(cells: Iterable[Cell], top: int, tasks: Sequence[str] = ()) -> list[Row]:
    """Choose in every cell.

    Args:
        cells: from ``make_cells``, with the axis ``task`` first.
        top: how many runs count.
        tasks: these come first, in this order.

    Returns:
        Rows sorted by place.
    """
    first = [task.casefold() for task in tasks]
    places: dict[tuple, Row] = {}
    for cell in cells:
        key = tuple(canonical(value) for value in cell.place.values())
        row = places.setdefault(key, Row(cell.place, {}))
        num_competing = sum(bool(one.runs) for one in cell.configurations)
        row.choices[cell.loss] = Choice(
            cell, cell.choose(top), num_competing, cell.num_runs, cell.num_expected
        )
        fixed = cell.having(FIXED)
        if cell.loss == SCL and fixed:
            row.choices[FIXED_NAME] = Choice(
                cell,
                cell.choose(top, FIXED),
                sum(bool(one.runs) for one in fixed),
                sum(len(one.runs) for one in fixed),
                sum(one.num_expected for one in fixed),
            )

    def order(key: tuple) -> tuple:
        task = key[0][2].casefold()
        return (first.index(task) if task in first else len(first), key)

    return [places[key] for key in sorted(places, key=order)]


def make_cells(
    results: Iterable[Result],
    failures: Iterable[Failure],
    axes: Sequence[str],
    configs: Iterable[SweepConfig | None] = (),
) -> list[Cell]:
    """Group trials by place and loss, whatever their order.

    Args:
        results: finished trials.
        failures: trials without a result.
        axes: keys of a place, ``("task", "N")`` and what else a table has.
        configs: of the sweeps, for the number of runs there should be. Without one, a configuration
            is expected to have the samples and seeds that are seen anywhere in its place.

    Returns:
        Cells sorted by place, CE first, CE+SCL second.
    """
    configs = list(configs)
    planned: dict[tuple, list[_Planned]] = {}
    for setting in (one for config in configs if config for one in settings(config)):
        key = (_place(setting, axes), loss_of(setting))
        planned.setdefault(key, []).append(_Planned(setting))
    trials: dict[tuple, list[Result | Failure]] = {}
    for trial in (*results, *failures):
        trials.setdefault((_place(trial.setting, axes), trial.loss), []).append(trial)
    seen: dict[tuple, set] = {}
    if None in configs or not configs:
        for (place, _), found in trials.items():
            seen.setdefault(place, set()).update(_repetition(trial.setting) for trial in found)
    cells = []
    # CE first, then CE+SCL, other systems as the configs list them.
    named = dict.fromkeys(
        (CE, SCL, *(loss for _, loss in planned), *sorted({k[1] for k in trials}))
    )
    order = {loss: index for index, loss in enumerate(named)}
    for place, loss in sorted(trials, key=lambda key: (key[0], order[key[1]])):
        found = trials[place, loss]
        of_place = planned.get((place, loss), [])
        configurations = _configurations(found, of_place, seen.get(place, set()))
        missing = len(
            {
                (trial.configuration, _repetition(trial.setting))
                for trial in of_place
                if not any(trial.is_of(one.setting) for one in configurations)
            }
        )
        cells.append(
            Cell(
                {axis: found[0].setting.get(axis) for axis in axes},
                loss,
                configurations,
                sum(one.num_expected for one in configurations) + missing,
            )
        )
    return cells


def _configurations(
    trials: Iterable[Result | Failure], planned: Sequence[_Planned], seen: set
) -> tuple[Configuration, ...]:
    groups: dict[tuple, list[Result | Failure]] = {}
    for trial in trials:
        groups.setdefault(identity(_without_repetition(trial.setting)), []).append(trial)
    configurations = []
    for _, group in sorted(groups.items()):
        runs = [trial for trial in group if isinstance(trial, Result)]
        runs.sort(key=lambda run: (-run.best_valid_accuracy, _repetition(run.setting)))
        setting = _without_repetition(group[0].setting)
        expected = seen | {_repetition(trial.setting) for trial in group}
        expected |= {_repetition(trial.setting) for trial in planned if trial.is_of(setting)}
        configurations.append(
            Configuration(setting, tuple(runs), len(group) - len(runs), len(expected))
        )
    return tuple(configurations)


def _without_repetition(setting: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in setting.items() if key not in REPETITION_KEYS}


def _place(setting: Mapping[str, object], axes: Sequence[str]) -> tuple:
    return tuple(canonical(setting.get(axis)) for axis in axes)


def _repetition(setting: Mapping[str, object]) -> tuple:
    return tuple(canonical(setting.get(key)) for key in REPETITION_KEYS)


@dataclass(frozen=True)
class _Planned:
    """A trial that a config names."""

    setting: Mapping[str, object]

    @functools.cached_property
    def configuration(self) -> tuple:
        # The encoder's path is no part of a finished trial's setting.
        left_out = (*REPETITION_KEYS, "finetune-from-model")
        return identity({k: value for k, value in self.setting.items() if k not in left_out})

    def is_of(self, setting: Mapping[str, object]) -> bool:
        # That has more than the config says, such as the length of a warm-up.
        return all(canonical(setting.get(key)) == value for key, value in self.configuration)
