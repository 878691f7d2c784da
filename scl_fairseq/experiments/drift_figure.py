"""Embedding drift against the temperature of the back-translation, CE beside CE+SCL."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from scl_fairseq.experiments.drift import Drift
from scl_fairseq.experiments.plot_style import LOSSES, SD, add_legend, new_figure, styled
from scl_fairseq.experiments.result_places import Summary

SHIFT = 0.01  # of the second loss, to the right, not to hide the first
ROOM = 0.1  # beside the temperatures: where there is one, the shift is not all of the axis
PANELS = (
    ("cosine", "mean of 1 − cosine"),
    ("cka", "1 − linear CKA"),
)


@styled()
def drift_figure(drifts: Sequence[Drift], title: str) -> Figure:
    """Two panels, by cosine and by CKA: drift against T, a line for each loss.

    Args:
        drifts: from ``drift.measure``.
        title: says of which task and N.
    """
    footnote = (
        "Drift: between the embeddings of the same test sentences by the model of the original "
        "training set and by that of the noisy one, both from the same pre-trained weights, sample "
        f"and settings. Means over samples, bars: ± {SD}. Cosine: of a sentence's two embeddings. "
        "CKA: between all embeddings, blind to rotation and scale."
    )
    figure, axes = new_figure(1, len(PANELS), (8, 3.6), title, footnote)
    noises = sorted({one.noise for one in drifts})
    losses = [loss for loss in LOSSES if any(one.loss == loss for one in drifts)]
    for axis, (name, label) in zip(axes[0], PANELS, strict=True):
        for place, loss in enumerate(losses):
            found = {
                noise: [
                    getattr(one, name) for one in drifts if (one.loss, one.noise) == (loss, noise)
                ]
                for noise in noises
            }
            points = [(noise, Summary.of(values)) for noise, values in found.items() if values]
            look = LOSSES[loss]
            axis.errorbar(
                [noise + place * SHIFT for noise, _ in points],
                [one.mean for _, one in points],
                [one.sd for _, one in points],
                color=look.colour,
                marker=look.marker,
                linestyle=look.line,
                capsize=3,
                label=loss,
            )
        axis.set(xlabel="temperature T of the back-translation", ylabel=label, xticks=noises)
        axis.set_xlim(noises[0] - ROOM, noises[-1] + ROOM)
        axis.set_ylim(bottom=0)
        axis.grid(axis="y")
    add_legend(figure, axes[0, :1])
    return figure
