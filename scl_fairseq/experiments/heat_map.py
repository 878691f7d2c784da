"""Heat map of accuracy over lambda and tau."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scl_fairseq.experiments.plot_style import SD, chosen_by, new_figure, relative_luminance, styled
from scl_fairseq.experiments.result_places import LAMBDA, TEMPERATURE, Place, Summary, scl_value
from scl_fairseq.experiments.selection import CE, SCL, Configuration

METRICS = {
    "valid": ("validation", "best_valid_accuracy"),
    "test": ("test", "test_accuracy"),
}
COLOURS = "cividis"  # as even for colour-blind readers, and in grey
GAP = 0.25  # rows, between CE and CE+SCL
TEST_NOTE = " For looking at only: hyper-parameters must not be chosen by test accuracy."


@styled()
def heat_map(place: Place, metric: str = "valid", top: int = 3) -> Figure:
    """Mean accuracy in percent for each lambda and tau, CE as the row of lambda 0.

    Where further hyper-parameters were tried, each cell shows the best by validation accuracy.
    Cells without runs are hatched, and the cell that validation accuracy chooses is framed.

    Args:
        place: of the results.
        metric: ``valid`` or ``test``.
        top: how many runs count for the choice; the cells show all runs.

    Raises:
        ValueError: there is no run of CE+SCL.
    """
    kind, attribute = METRICS[metric]
    lambdas, temperatures = place.grid()
    if not lambdas:
        raise ValueError(f"{place.name}: no run of {SCL}, so no lambda and tau to show")
    shown = {
        (row, column): place.choose(SCL, top, scl_lambda=row, scl_temperature=column)
        for row in lambdas
        for column in temperatures
    }
    summaries = {key: _summary(one, attribute) for key, one in shown.items() if one}
    baseline = place.choose(CE, top)
    if baseline:
        summaries[CE] = _summary(baseline, attribute)

    runs = [run for one in (*shown.values(), baseline) if one for run in one.runs]
    counts = {summary.count for summary in summaries.values()}
    means = [summary.mean for summary in summaries.values()]
    low, high = min(means), max(means)
    norm = Normalize(low, high) if low < high else Normalize(low - 0.5, high + 0.5)
    title = f"Mean {kind} accuracy over λ and τ: {place.name}"
    size = (
        max(5.4, 2.0 + 0.95 * len(temperatures)),
        1.6 + 0.5 * max(2, len(lambdas) + bool(baseline)),
    )
    footnote = _footnote(summaries, None in shown.values(), runs, top, metric)
    figure, axes = new_figure(1, 1, size, title, footnote)
    axis = axes[0, 0]
    for (row, column), one in shown.items():
        corner = (temperatures.index(column), lambdas.index(row))
        _draw_cell(axis, corner, 1, summaries.get((row, column)) if one else None, norm, counts)
    if baseline:
        corner = (0, -1 - GAP)
        _draw_cell(axis, corner, len(temperatures), summaries[CE], norm, counts, f"{CE}: ")
    _frame(axis, place.choose(SCL, top), lambdas, temperatures)

    ticks = [i + 0.5 for i in range(len(lambdas))]
    names = [f"{value:g}" for value in lambdas]
    axis.set(
        xlim=(0, len(temperatures)),
        ylim=(-1 - GAP if baseline else 0, len(lambdas)),
        xticks=[i + 0.5 for i in range(len(temperatures))],
        xticklabels=[f"{value:g}" for value in temperatures],
        yticks=[-0.5 - GAP, *ticks] if baseline else ticks,
        yticklabels=["0", *names] if baseline else names,
        xlabel="temperature τ",
        ylabel="weight λ of SCL",
    )
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.colorbar(
        ScalarMappable(norm, COLOURS), ax=axis, label=f"mean {kind} accuracy (%)", pad=0.02
    ).outline.set_visible(False)
    return figure


def _summary(configuration: Configuration, attribute: str) -> Summary:
    return Summary.of(getattr(run, attribute) for run in configuration.runs)


def _draw_cell(
    axis: Axes,
    corner: tuple[float, float],
    width: int,
    summary: Summary | None,
    norm: Normalize,
    counts: set[int],
    prefix: str = "",
) -> None:
    if summary is None:
        axis.add_patch(Rectangle(corner, width, 1, facecolor="white", hatch="////", linewidth=0))
        return
    colour = colormaps[COLOURS](norm(summary.mean))
    axis.add_patch(Rectangle(corner, width, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
    text = f"{prefix}{summary.mean:.1f}"
    if summary.count > 1:
        text += f" ± {summary.sd:.1f}"
    if len(counts) > 1:
        text += f"\nn = {summary.count}"
    axis.text(
        corner[0] + width / 2,
        corner[1] + 0.5,
        text,
        ha="center",
        va="center",
        fontsize=9,
        color="black" if relative_luminance(colour) > 0.18 else "white",
    )


def _frame(
    axis: Axes,
    chosen: Configuration,
    lambdas: list[float],
    temperatures: list[float],
) -> None:
    row, column = (scl_value(chosen.setting, key) for key in (LAMBDA, TEMPERATURE))
    corner = (temperatures.index(column), lambdas.index(row))
    # White around black is seen on every colour of the map.
    for colour, width in (("white", 6), ("black", 2.5)):
        axis.add_patch(
            Rectangle(
                corner,
                1,
                1,
                fill=False,
                edgecolor=colour,
                linewidth=width,
                joinstyle="miter",
                clip_on=False,
                zorder=3,
            )
        )


def _footnote(
    summaries: Mapping[object, Summary], has_holes: bool, runs: list, top: int, metric: str
) -> str:
    counts = {summary.count for summary in summaries.values()}
    each = str(min(counts)) if len(counts) == 1 else "n"
    footnote = "Single runs" if counts == {1} else f"Mean ± {SD} over {each} runs in each cell"
    footnote += ", best epoch by validation accuracy."
    if CE in summaries:
        footnote += f" λ = 0 is {CE}, which has no τ."
    if has_holes:
        footnote += " Hatched: no runs."
    footnote += f" Framed: {chosen_by(top)}."
    collapsed = sum(run.collapsed for run in runs)
    if collapsed:
        footnote += (
            f" {collapsed} of {len(runs)} runs collapsed: in validation no better than naming one "
            "class always."
        )
    return footnote + (TEST_NOTE if metric == "test" else "")
