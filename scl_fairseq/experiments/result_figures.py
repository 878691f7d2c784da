"""Every figure that the results of a sweep allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from scl_fairseq.experiments import published
from scl_fairseq.experiments.heat_map import heat_map
from scl_fairseq.experiments.learning_curves import learning_curves
from scl_fairseq.experiments.plot_style import render, save
from scl_fairseq.experiments.published import PublishedTable
from scl_fairseq.experiments.result_places import BATCH_SIZE, comparable, make_places
from scl_fairseq.experiments.results import Result
from scl_fairseq.experiments.size_figures import accuracy_by_batch_size, accuracy_by_size
from scl_fairseq.experiments.sweep_config import SweepConfig

__all__ = [
    "accuracy_by_batch_size",
    "accuracy_by_size",
    "figures_for",
    "heat_map",
    "learning_curves",
    "named_table",
    "render",
    "save",
]


def figures_for(
    results: Sequence[Result],
    configs: Sequence[SweepConfig | None] | None = None,
    top: int = 3,
) -> dict[str, Figure]:
    """Draw accuracy against N and batch size, heat maps and learning curves, as far as they go.

    Args:
        results: of one sweep or of several.
        configs: of these sweeps, for further keys that name the data, and for the published table
            that stands beside; without any, published numbers are shown where there are some.
        top: how many runs count for the choice of hyper-parameters, and for test accuracies.

    Returns:
        Title to figure, accuracies first.
    """
    places = make_places(results, configs or ())
    figures = []
    for key, draw, table in (
        ("N", accuracy_by_size, published.FEW_SHOT),
        (BATCH_SIZE, accuracy_by_batch_size, published.BATCH_SIZE),
    ):
        beside = table if configs is None else named_table(table, configs)
        figures += [
            draw(group, top, beside)
            for group in comparable(places, key)
            if len({place.number(key) for place in group}) > 1
        ]
    figures += [heat_map(place, top=top) for place in places if max(map(len, place.grid())) > 1]
    figures += [learning_curves(place, top) for place in places]
    return {title_of(figure): figure for figure in figures}


def named_table(
    table: PublishedTable, configs: Iterable[SweepConfig | None]
) -> PublishedTable | None:
    """The published table if a config says that it stands beside the results."""
    return table if any(one and one.published == table.name for one in configs) else None


def title_of(figure: Figure) -> str:
    """The title over all axes, in one line."""
    return " ".join(figure.subfigs[0].get_suptitle().split())
