"""The main table of a report: test accuracies, ours beside the published ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from scl_fairseq.experiments import tables
from scl_fairseq.experiments.published import (
    AVERAGE,
    GLUE,
    IN_SOURCE,
    NOISE,
    PublishedTable,
)
from scl_fairseq.experiments.report_cells import (
    all_column,
    all_entry,
    columns_shown,
    difference_entry,
    is_fixed_alone,
    place_entries,
    plain_columns,
    top_column,
    top_entry,
)
from scl_fairseq.experiments.selection import (
    CE,
    FIXED,
    FIXED_NAME,
    SCL,
    Row,
    rule,
)
from scl_fairseq.experiments.settings import OUTSIDE
from scl_fairseq.experiments.tables import NOTHING, Column, Entry, Table


def accuracy_table(
    rows: Sequence[Row], axes: Sequence[str], top: int, published: PublishedTable | None
) -> Table:
    """Test accuracies, ours beside the published ones."""
    shown = columns_shown(rows)
    of_loss = {name: (top_column(name, top), all_column(name)) for name in shown}
    beside = _Beside(published)
    columns = [*plain_columns(axes), *(column for pair in of_loss.values() for column in pair)]
    compared = _compared(shown)
    columns += [*_difference_columns(compared), *beside.columns]
    lines = []
    for row in rows:
        line = place_entries(row, axes)
        for name, pair in of_loss.items():
            chosen = row.chosen(name)
            line += (
                [top_entry(chosen, top), all_entry(chosen)] if chosen else map(tables.empty, pair)
            )
        line += _differences({name: row.top_mean(name, top) for name in shown})
        lines.append((*line, *beside.entries(row.place)))
        if published is NOISE and _is_last_noise(row, rows):
            place = {**row.place, NOISE.axis: AVERAGE}
            augmented = [one for one in _of_task(row, rows) if one.place[NOISE.axis]]
            lines.append(_average(augmented, axes, place, top, of_loss, beside))
    is_of_one = len({row.place.get(OUTSIDE) for row in rows}) == 1
    of_tasks = [str(row.place["task"]).casefold() for row in rows]
    if published is GLUE and is_of_one and of_tasks == [task.casefold() for task in GLUE.tasks]:
        lines.append(_average(rows, axes, {"task": AVERAGE}, top, of_loss, beside))
    differences = "Differences: the others"
    if len(compared) == 1:
        differences = f"difference: {compared[0]}"
    notes = [
        "Test accuracy in percent, mean ± standard deviation (n - 1) over runs; in brackets how "
        "many runs there are, of how many where some are missing.",
        rule(top),
        f"{differences} minus {CE}, of the means over the top {top}, in percent points.",
    ]
    if FIXED_NAME in shown:
        notes.append(
            f"{FIXED_NAME}: at the lambda and tau that mostly won in the paper, not tuned here."
        )
    elif is_fixed_alone(rows):
        notes.append(
            f"{SCL}: at lambda {FIXED['scl-lambda']:g} and tau {FIXED['scl-temperature']:g}, which "
            "mostly won in the paper; they were not tuned here."
        )
    if published and published.axis_note:
        notes.append(published.axis_note)
    return Table(
        "accuracy",
        "Test accuracy",
        tuple(columns),
        tuple(lines),
        (*notes, *beside.notes()),
    )


def _compared(names: Iterable[str]) -> list[str]:
    """What is compared with CE."""
    return [name for name in names if name not in (CE, FIXED_NAME)]


def _difference_columns(compared: Sequence[str]) -> list[Column]:
    raw = "difference of top means"
    if len(compared) == 1:
        return [Column("difference", (raw,))]
    return [Column(f"{name} − {CE}", (f"{raw}: {name}",)) for name in compared]


def _differences(means: Mapping[str, float | None]) -> list[Entry]:
    return [difference_entry(means[CE], means[name]) for name in _compared(means)]


def _of_task(row: Row, rows: Sequence[Row]) -> list[Row]:
    """The rows that differ from this one in noise alone."""

    def rest(one: Row) -> dict[str, object]:
        return {key: value for key, value in one.place.items() if key != NOISE.axis}

    return [one for one in rows if rest(one) == rest(row)]


def _is_last_noise(row: Row, rows: Sequence[Row]) -> bool:
    """Whether it ends a task of which all the published table's augmented sets are there."""
    of_task = _of_task(row, rows)
    found = {one.place[NOISE.axis] for one in of_task}
    wanted = {value for _, value, _ in NOISE.numbers if value != AVERAGE}
    return of_task[-1] is row and found - {0} == wanted - {0}


def _average(
    rows: Sequence[Row],
    axes: Sequence[str],
    place: Mapping[str, object],
    top: int,
    of_loss: Mapping[str, tuple[Column, Column]],
    beside: _Beside,
) -> tuple[Entry, ...]:
    """The average over these rows, which the paper prints too; ``place`` names it."""
    line = [tables.setting_value(place.get(axis)) for axis in axes]
    averages = {}
    for name, (of_top, of_all) in of_loss.items():
        means = [row.top_mean(name, top) for row in rows]
        averages[name] = None if None in means else statistics.mean(means)
        mean = tables.number(averages[name])
        rest = ("",) * (len(of_top.raw) - 1)
        line += [Entry(mean.text, (*mean.raw, *rest)), tables.empty(of_all)]
    return (*line, *_differences(averages), *beside.entries(place))


class _Beside:
    """Published numbers beside ours, marked where one was not simply read in the sources."""

    def __init__(self, published: PublishedTable | None):
        self._published = published
        self._marks: dict[str, str] = {}

    @property
    def columns(self) -> list[Column]:
        raw = ("mean", "sd", "certainty")
        return [
            Column(f"published {loss}", tuple(f"published {loss} {part}" for part in raw))
            for loss in ((CE, SCL) if self._published else ())
        ]

    def entries(self, place: Mapping[str, object]) -> list[Entry]:
        return [self._entry(place, loss) for loss in ((CE, SCL) if self._published else ())]

    def _entry(self, place: Mapping[str, object], loss: str) -> Entry:
        axis = self._published.axis
        number = None
        # Numbers of whole training sets do not belong beside few-shot samples of the same task.
        if axis == "N" or place.get("N") == self._published.num_examples:
            number = self._published.find(
                place.get("task"), place.get(axis) if axis else None, loss
            )
        if number is None:
            return Entry(NOTHING, ("",) * 3)
        text = f"{number.mean:.1f}" + ("" if number.sd is None else f" ± {number.sd:.1f}")
        if number.certainty != IN_SOURCE:
            text += f" [{self._marks.setdefault(number.certainty, 'abc'[len(self._marks)])}]"
        raw = (number.mean, "" if number.sd is None else number.sd, number.certainty)
        return Entry(text, raw)

    def notes(self) -> list[str]:
        if not self._published:
            return []
        marked = "".join(f" [{mark}] {certainty}." for certainty, mark in self._marks.items())
        return [
            f"published: {self._published.about}. Each {IN_SOURCE}"
            f"{' unless marked' if marked else ''}; {NOTHING}: there is none.{marked} "
            "Our encoder is named on top. No test here is about a published number."
        ]
