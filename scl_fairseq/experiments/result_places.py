"""Where results stand in figures: a task, an N, and what else is not up to choice."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scl_fairseq.experiments.results import Result, data_keys
from scl_fairseq.experiments.selection import (
    CE,
    FIXED,
    REPETITION_KEYS,
    SCL,
    Cell,
    Configuration,
    make_cells,
)
from scl_fairseq.experiments.settings import canonical
from scl_fairseq.experiments.sweep_config import SweepConfig

LAMBDA, TEMPERATURE = FIXED
BATCH_SIZE = "batch-size"
WHOLE = "whole training set"


@dataclass(frozen=True)
class Place:
    """Results that may be compared: of the same data and, where sweeps vary it, batch size.

    Attributes:
        values: of ``task``, ``N`` and further keys; None where the settings have no such key.
        cells: the configurations of each loss, ``CE`` and ``CE+SCL``, that has any.
    """

    values: Mapping[str, object]
    cells: Mapping[str, Cell]

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.values["task"] or "results")

    @property
    def size(self) -> object:
        """N, or None for a whole training set."""
        return self.values["N"]

    def number(self, key: str) -> float | None:
        """The value of a key, such as N, as a number; None where it is absent or none."""
        kind, number, _ = canonical(self.values.get(key))
        return number if kind == 0 else None

    @property
    def name(self) -> str:
        """What tells it apart, for titles."""
        return ", ".join([self.task, *self.details()])

    def details(self, without: Sequence[str] = ()) -> list[str]:
        """What tells it apart from others of its task, except by some keys."""
        parts = [] if "N" in without else [WHOLE if self.size is None else f"N = {self.size}"]
        for key, value in self.values.items():
            if key not in ("task", "N", *without) and value is not None:
                parts.append(f"{key.replace('-', ' ')} {value}")
        return parts

    def choose(self, loss: str, top: int, **fixed: float) -> Configuration | None:
        """The configuration of a loss that validation accuracy chooses, None without a run.

        Args:
            loss: ``CE`` or ``CE+SCL``.
            top: how many runs count for the choice.
            **fixed: ``scl_lambda`` and ``scl_temperature``, where they are given.
        """
        if loss not in self.cells:
            return None
        return self.cells[loss].choose(top, {k.replace("_", "-"): v for k, v in fixed.items()})

    def grid(self) -> tuple[list[float], list[float]]:
        """The values of lambda and of tau that CE+SCL was tried with, ascending."""
        settings = [one.setting for one in self._contrastive() if one.runs]
        lambdas, temperatures = (
            sorted({scl_value(setting, key) for setting in settings})
            for key in (LAMBDA, TEMPERATURE)
        )
        return lambdas, temperatures

    def _contrastive(self) -> Sequence[Configuration]:
        return self.cells[SCL].configurations if SCL in self.cells else ()


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n - 1; 0 for a single value) of so many values."""

    mean: float
    sd: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Summarise at least one value."""
        values = list(values)
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(statistics.mean(values), sd, len(values))


def scl_value(setting: Mapping[str, object], key: str) -> float:
    """Lambda or tau of a setting, where it leaves it out the criterion's default."""
    return canonical(setting.get(key, FIXED[key]))[1]


def make_places(
    results: Sequence[Result], configs: Iterable[SweepConfig | None] = ()
) -> list[Place]:
    """Group results by place.

    Batch size is a part of the place where a grid varies it; every other hyper-parameter is chosen.

    Args:
        results: of one sweep or of several; those of systems other than CE and CE+SCL, which
            figures do not show, are left out.
        configs: of these sweeps: further keys may name the data.

    Returns:
        Sorted by task, N and the other keys.
    """
    results = [result for result in results if result.loss in (CE, SCL)]
    axes = [key for key in data_keys(configs) if key not in REPETITION_KEYS]
    in_grids = {key for result in results for key in result.grid_keys}
    sizes = {canonical(result.setting.get(BATCH_SIZE)) for result in results}
    if BATCH_SIZE in in_grids and len(sizes) > 1 and BATCH_SIZE not in axes:
        axes.append(BATCH_SIZE)
    cells: dict[tuple, dict[str, Cell]] = {}
    for cell in make_cells(results, (), axes):
        key = tuple(map(canonical, cell.place.values()))
        cells.setdefault(key, {})[cell.loss] = cell
    return [Place(next(iter(of_place.values())).place, of_place) for of_place in cells.values()]


def comparable(places: Sequence[Place], axis: str) -> list[list[Place]]:
    """Groups of places that differ in task and a number alone, without those that lack it."""
    groups: dict[tuple[str, ...], list[Place]] = {}
    for place in places:
        if place.number(axis) is not None:
            groups.setdefault(tuple(place.details(without=(axis,))), []).append(place)
    return list(groups.values())


def find_place(
    places: Sequence[Place],
    task: str | None = None,
    size: object = None,
    where: Mapping[str, object] | None = None,
) -> Place:
    """The one place that fits; arguments as ``matching``.

    Raises:
        ValueError: none fits, or several do.
    """
    fitting = matching(places, task, size, where)
    if len(fitting) > 1:
        raise ValueError(
            f"there are several: {_list(fitting)}; choose with --task, --num-examples or --where"
        )
    return fitting[0]


def matching(
    places: Sequence[Place],
    task: str | None = None,
    size: object = None,
    where: Mapping[str, object] | None = None,
) -> list[Place]:
    """The places that fit.

    Args:
        places: from ``make_places``.
        task: its name, upper or lower case; None for any.
        size: N, ``"full"`` for a whole training set, or None for any.
        where: further keys and their values.

    Raises:
        ValueError: none fits.
    """

    def fits(place: Place) -> bool:
        wanted = {
            **(where or {}),
            **({} if size is None else {"N": None if size == "full" else size}),
        }
        return (task is None or place.task.casefold() == task.casefold()) and all(
            canonical(place.values.get(key)) == canonical(value) for key, value in wanted.items()
        )

    fitting = [place for place in places if fits(place)]
    if not fitting:
        raise ValueError(f"no such results; there are {_list(places)}")
    return fitting


def _list(places: Sequence[Place]) -> str:
    return "; ".join(place.name for place in places)
