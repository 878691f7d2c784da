"""Accuracy and loss by epoch, CE beside CE+SCL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scl_fairseq.experiments.plot_style import LOSSES, SD, add_legend, chosen_by, new_figure, styled
from scl_fairseq.experiments.result_places import LAMBDA, TEMPERATURE, Place, Summary, scl_value
from scl_fairseq.experiments.selection import CE, SCL, Configuration


@styled()
def learning_curves(place: Place, top: int = 3) -> Figure:
    """Validation accuracy and training loss by epoch: mean and standard deviation over runs.

    Args:
        place: of the results.
        top: how many runs count for the choice of hyper-parameters; the curves are of all runs.
    """
    chosen = {loss: one for loss in LOSSES if (one := place.choose(loss, top))}
    shares = {run.majority_share for one in chosen.values() for run in one.runs}
    title = f"Learning curves: {place.name}"
    figure, axes = new_figure(1, 2, (8.4, 3.7), title, _footnote(chosen, top, shares))
    accuracy, loss_axis = axes[0]
    for loss, one in chosen.items():
        name = loss + (_hyperparameters(one) if loss == SCL else "")
        accuracies = [(run.valid_epochs, run.valid_accuracy) for run in one.runs]
        losses = [(range(1, len(run.train_loss) + 1), run.train_loss) for run in one.runs]
        _draw_band(accuracy, loss, name, accuracies)
        _draw_band(loss_axis, loss, name, losses)
    if len(shares) == 1:
        accuracy.axhline(min(shares), color="#666666", linestyle=":", linewidth=1)
    accuracy.set(ylabel="validation accuracy (%)")
    loss_axis.set(ylabel="training loss (bits per example)")
    loss_axis.set_ylim(bottom=0)
    for axis in axes[0]:
        axis.set(xlabel="epoch")
        _epoch_axis(axis)
        axis.grid(axis="y")
    add_legend(figure, axes[0])
    return figure


def _hyperparameters(configuration: Configuration) -> str:
    weight, temperature = (scl_value(configuration.setting, key) for key in (LAMBDA, TEMPERATURE))
    return f" (λ = {weight:g}, τ = {temperature:g})"


def _epoch_axis(axis: Axes) -> None:
    """Whole numbers, from just before the first epoch to just after the last."""
    first, last = axis.dataLim.intervalx
    margin = max(0.5, 0.03 * (last - first))
    axis.set_xlim(first - margin, last + margin)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def _footnote(chosen: dict[str, Configuration], top: int, shares: set[float]) -> str:
    counts = {loss: len(one.runs) for loss, one in chosen.items()}
    if set(counts.values()) == {1}:
        footnote = "Single runs."
    else:
        runs = " and ".join(f"{count} of {loss}" for loss, count in counts.items())
        footnote = f"Lines: mean over runs ({runs}); bands: ± {SD}."
    footnote += f" Hyper-parameters {chosen_by(top)}."
    if len(shares) == 1:
        footnote += f" Dotted: naming one class always ({min(shares):.1f} %)."
    if len(chosen) > 1:
        footnote += (
            f" {CE} and {SCL} minimise different losses: the levels of these cannot be compared."
        )
    return footnote


def _draw_band(
    axis: Axes,
    loss: str,
    name: str,
    curves: Iterable[tuple[Sequence[int], Sequence[float]]],
) -> None:
    by_epoch: dict[int, list[float]] = {}
    for epochs, values in curves:
        # Of several validations in an epoch the last.
        for epoch, value in dict(zip(epochs, values, strict=True)).items():
            by_epoch.setdefault(epoch, []).append(value)
    epochs = sorted(by_epoch)
    summaries = [Summary.of(by_epoch[epoch]) for epoch in epochs]
    means = np.array([one.mean for one in summaries])
    deviations = np.array([one.sd for one in summaries])
    style = LOSSES[loss]
    axis.plot(
        epochs,
        means,
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markevery=max(1, len(epochs) // 10),
        markersize=4,
        label=name,
    )
    low, high = means - deviations, means + deviations
    axis.fill_between(epochs, low, high, color=style.colour, alpha=0.18, linewidth=0)
    if len(epochs) == 1:  # a band without width is not seen
        axis.vlines(epochs, low, high, color=style.colour)
