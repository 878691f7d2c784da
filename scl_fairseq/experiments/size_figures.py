"""Accuracy against the number of labelled examples and against batch size, CE beside CE+SCL."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scl_fairseq.experiments import published
from scl_fairseq.experiments.plot_style import LOSSES, SD, add_legend, new_figure, styled
from scl_fairseq.experiments.published import PublishedTable
from scl_fairseq.experiments.result_places import BATCH_SIZE, Place, Summary
from scl_fairseq.experiments.selection import CE, SCL, Configuration

# By which factor points stand left or right of their place on a log axis, not to hide each other.
SHIFTS = {CE: 0.95, SCL: 1.05}
PUBLISHED_SHIFTS = {CE: 0.84, SCL: 1.19}


class Point(NamedTuple):
    """A point and how far its bar reaches."""

    x: float
    y: float
    below: float
    above: float


@styled()
def accuracy_by_size(
    places: Sequence[Place], top: int = 3, table: PublishedTable | None = published.FEW_SHOT
) -> Figure:
    """Test accuracy against N, a panel for each task, published numbers as hollow markers.

    Args:
        places: of any tasks and N that differ in nothing else, none of a whole training set.
        top: how many runs count, for the choice of hyper-parameters and for the mean.
        table: with the axis N; None to show no published numbers.
    """
    title = _title("Test accuracy by number of labelled examples", places, "N")
    tasks = _by_task(places, published.BATCH_SIZE)
    figure, axes = new_figure(
        1, len(tasks), _size(tasks, 3.7), title, _footnote(places, top, table)
    )
    for axis, (task, of_task) in zip(axes[0], tasks.items(), strict=True):
        _draw_accuracies(axis, task, of_task, "N", top, table)
        _size_axis(axis, of_task, "N")
        axis.set(title=task, xlabel="labelled training examples N")
    axes[0, 0].set(ylabel="test accuracy (%)")
    add_legend(figure, axes[0])
    return figure


@styled()
def accuracy_by_batch_size(
    places: Sequence[Place], top: int = 3, table: PublishedTable | None = published.BATCH_SIZE
) -> Figure:
    """Test accuracy above, updates per second below, against batch size; a column for each task.

    Args:
        places: of any tasks and batch sizes that differ in nothing else.
        top: how many runs count, for the choice of hyper-parameters and for the mean accuracy.
        table: with the axis batch size; None to show no published numbers. They are of whole
            training sets, and shown beside such results alone.
    """
    if places[0].size is not None:
        table = None
    title = _title("Accuracy and speed by batch size", places, BATCH_SIZE)
    tasks = _by_task(places, published.BATCH_SIZE)
    devices = {str(run.device) for one in _all_chosen(places, top) for run in one.runs}
    footnote = (
        f"{_footnote(places, top, table)} Speed: median over all runs with these hyper-parameters, "
        f"bars from the slowest to the fastest; {', '.join(sorted(devices))}."
    )
    figure, axes = new_figure(2, len(tasks), _size(tasks, 5.6), title, footnote, sharex="col")
    for (upper, lower), (task, of_task) in zip(axes.T, tasks.items(), strict=True):
        _draw_accuracies(upper, task, of_task, BATCH_SIZE, top, table)
        _draw_speeds(lower, of_task, top)
        for axis in (upper, lower):
            _size_axis(axis, of_task, BATCH_SIZE)
        upper.set(title=task)
        lower.set(xlabel="batch size (examples)")
        lower.set_ylim(bottom=0)
    axes[0, 0].set(ylabel="test accuracy (%)")
    axes[1, 0].set(ylabel="updates per second")
    add_legend(figure, axes[0])
    return figure


def _title(title: str, places: Sequence[Place], axis: str) -> str:
    return ", ".join([title, *places[0].details(without=(axis,))])


def _by_task(places: Iterable[Place], table: PublishedTable) -> dict[str, list[Place]]:
    """The places of each task, those of the paper first and in its order."""
    tasks: dict[str, list[Place]] = {}
    for place in places:
        tasks.setdefault(place.task, []).append(place)
    first = [task.casefold() for task in table.tasks]

    def rank(task: str) -> int:
        return first.index(task.casefold()) if task.casefold() in first else len(first)

    return {task: tasks[task] for task in sorted(tasks, key=rank)}


def _size(tasks: Mapping[str, object], height: float) -> tuple[float, float]:
    return max(5.5, 1.0 + 2.9 * len(tasks)), height


def _draw_accuracies(
    axis: Axes,
    task: str,
    places: Sequence[Place],
    key: str,
    top: int,
    table: PublishedTable | None,
) -> None:
    for loss in LOSSES:
        points = []
        for place, chosen in _chosen(places, loss, top):
            one = Summary.of(run.test_accuracy for run in chosen.top(top))
            points.append(Point(place.number(key), one.mean, one.sd, one.sd))
        _draw_line(axis, loss, points)
    for loss in LOSSES if table else ():
        points = []
        for x in (place.number(key) for place in places):
            number = table.find(task, x, loss)
            if number:
                points.append(Point(x, number.mean, number.sd or 0, number.sd or 0))
        _draw_published(axis, loss, points)


def _draw_speeds(axis: Axes, places: Sequence[Place], top: int) -> None:
    for loss in LOSSES:
        points = []
        for place, chosen in _chosen(places, loss, top):
            speeds = [run.updates_per_second for run in chosen.runs]
            y = statistics.median(speeds)
            points.append(Point(place.number(BATCH_SIZE), y, y - min(speeds), max(speeds) - y))
        _draw_line(axis, loss, points)


def _chosen(places: Iterable[Place], loss: str, top: int) -> Iterator[tuple[Place, Configuration]]:
    for place in places:
        chosen = place.choose(loss, top)
        if chosen:
            yield place, chosen


def _all_chosen(places: Sequence[Place], top: int) -> list[Configuration]:
    return [one for loss in LOSSES for _, one in _chosen(places, loss, top)]


def _draw_line(axis: Axes, loss: str, points: Sequence[Point]) -> None:
    if points:
        look = {"linestyle": LOSSES[loss].line, "capsize": 3, "label": loss}
        _draw_points(axis, loss, points, SHIFTS[loss], **look)


def _draw_published(axis: Axes, loss: str, points: Sequence[Point]) -> None:
    if points:
        look = {"linestyle": "none", "markerfacecolor": "white", "elinewidth": 0.8}
        name = f"{loss}, published"
        _draw_points(axis, loss, points, PUBLISHED_SHIFTS[loss], label=name, **look)


def _draw_points(
    axis: Axes, loss: str, points: Sequence[Point], shift: float, **look: object
) -> None:
    x, y, below, above = zip(*points, strict=True)
    style = LOSSES[loss]
    axis.errorbar(
        [one * shift for one in x],
        y,
        (below, above),
        color=style.colour,
        marker=style.marker,
        **look,
    )


def _size_axis(axis: Axes, places: Iterable[Place], key: str) -> None:
    ticks = sorted({place.number(key) for place in places})
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{size:g}" for size in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    margin = max(1.5, (ticks[-1] / ticks[0]) ** 0.12)
    axis.set_xlim(ticks[0] / margin, ticks[-1] * margin)
    axis.grid(axis="y")


def _footnote(places: Sequence[Place], top: int, table: PublishedTable | None) -> str:
    counts = {len(one.runs) for one in _all_chosen(places, top)}
    of = str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    if counts == {1}:
        shown = "single runs"
    elif top == 1:
        shown = f"the best of {of} runs by validation accuracy"
    elif max(counts) <= top:
        shown = f"mean over {of} runs, bars: ± {SD}"
    else:
        shown = f"mean over the top {top} of {of} runs by validation accuracy, bars: ± {SD}"
    name = "Filled" if table else "Points"
    footnote = (
        f"{name}: {shown}; hyper-parameters chosen by validation accuracy for every point. Points "
        "are shifted sideways a little to stay apart."
    )
    return f"{footnote} Hollow, published: {table.about}." if table else footnote
