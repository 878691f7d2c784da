"""What all figures share: colours and shapes, title, footnote and legend, and how they are saved.

Styles differ in shape, those of lines in dashes, and the main pairs in lightness too, so that
nothing is lost in grey or to colour-blind readers.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scl_fairseq.files import write_bytes

FORMATS = ("png", "svg")
DPI = 200
FOOTNOTE_SIZE = 7.5
FOOTNOTE_COLOUR = "#444444"
INCHES_PER_POINT = 1 / 72
Colour = str | tuple[float, ...]
SD = "standard deviation (n - 1)"
LINE_SPACING = 1.25


@dataclass(frozen=True)
class Style:
    """How one class of points, or one line, looks."""

    colour: str
    marker: str
    line: str = "-"


# The paper's t-SNE: negative red, positive blue.
TWO_CLASSES = (Style("#EF4136", "x"), Style("#0B3C8C", "o"))
# Okabe and Ito's colours, neighbours in this order far apart in lightness.
MORE_CLASSES = (
    Style("#0072B2", "o"),
    Style("#E69F00", "^"),
    Style("#000000", "x"),
    Style("#CC79A7", "s"),
    Style("#009E73", "D"),
    Style("#D55E00", "v"),
    Style("#56B4E9", "P"),
    Style("#F0E442", "*"),
)
LOSSES = {"CE": Style("#D55E00", "s", "--"), "CE+SCL": Style("#00406B", "o", "-")}

# svg.hashsalt: names inside an SVG are random without it. svg.fonttype: text stays text.
# text.parse_math: a dollar in a name is a dollar.
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scl-fairseq",
    "font.size": 9,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "savefig.dpi": "figure",
    "text.parse_math": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.markersize": 5,
    "hatch.color": "#999999",
    "hatch.linewidth": 0.6,
}


def styled():
    """A context, or decorator, in which matplotlib draws and saves in this project's style.

    It starts from matplotlib's defaults, whatever the user's own settings are.
    """
    return style.context(SETTINGS, after_reset=True)


def chosen_by(top: int) -> str:
    """How hyper-parameters were chosen, for footnotes."""
    runs = "the best run" if top == 1 else f"mean of the top {top} runs"
    return f"chosen by validation accuracy ({runs})"


def class_styles(count: int) -> tuple[Style, ...]:
    """The styles of that many classes.

    Raises:
        ValueError: there are more classes than can be told apart.
    """
    if count > len(MORE_CLASSES):
        raise ValueError(f"{count} classes, more than the {len(MORE_CLASSES)} that can be drawn")
    return TWO_CLASSES[:count] if count <= len(TWO_CLASSES) else MORE_CLASSES[:count]


def new_figure(
    rows: int,
    columns: int,
    size: tuple[float, float],
    title: str,
    footnote: str,
    **subplots: object,
) -> tuple[Figure, np.ndarray]:
    """A figure with a title above and a footnote below, wrapped to its width.

    Args:
        rows: rows of axes.
        columns: columns of axes.
        size: width and height in inches of the figure without the footnote.
        title: over all axes.
        footnote: what is shown.
        **subplots: further arguments of ``Figure.subplots``.

    Returns:
        The figure and its axes, a (rows, columns) array of objects.
    """
    width, height = size
    # A character of DejaVu Sans is about 0.55 of its size wide.
    lines = _wrap(footnote, int(0.97 * width / (0.55 * FOOTNOTE_SIZE * INCHES_PER_POINT)))
    below = (len(lines) * LINE_SPACING + 1) * FOOTNOTE_SIZE * INCHES_PER_POINT
    figure = Figure(figsize=(width, height + below), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, wspace=0.04)
    # Parts of their own: the layout would put a legend over the footnote.
    main, foot = figure.subfigures(2, 1, height_ratios=(height, below))
    set_title(figure, title)
    foot.text(
        0.015,
        0.95,
        "\n".join(lines),
        fontsize=FOOTNOTE_SIZE,
        color=FOOTNOTE_COLOUR,
        linespacing=LINE_SPACING,
        va="top",
    )
    return figure, main.subplots(rows, columns, squeeze=False, **subplots)


@styled()
def set_title(figure: Figure, title: str) -> None:
    """Replace the title over all axes; it is broken into lines where it is too long."""
    figure.subfigs[0].suptitle("\n".join(_wrap(title, int(figure.get_figwidth() * 11))))


def _wrap(text: str, width: int) -> list[str]:
    """Lines that break neither "N = 20" nor "n - 1"."""
    whole = re.sub(r" ([=-]) ", "\u00a0\\1\u00a0", text)
    return [line.replace("\u00a0", " ") for line in textwrap.wrap(whole, width)]


def add_legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """Put one legend for all these axes between them and the footnote."""
    handles = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.subfigs[0].legend(
        handles.values(), handles, loc="outside lower center", ncols=len(handles)
    )


def render(figure: Figure, kind: str) -> bytes:
    """A figure as the content of a file; the same figure gives the same bytes.

    Args:
        figure: from this package.
        kind: ``png`` or ``svg``; in an SVG, text is text.
    """
    buffer = io.BytesIO()
    # A date would make every SVG a new one; a PNG has none.
    metadata = {"Date": None} if kind == "svg" else None
    with styled():
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            # Laid out once for all formats: every drawing would move things by a rounding error.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all.

    Args:
        figure: from this package.
        path: its ending, ``.png`` or ``.svg``, says the format; its folder is made if missing.

    Raises:
        ValueError: the ending is another.
    """
    write_bytes(path, render(figure, format_of(path)))


def format_of(path: Path) -> str:
    """The format that a file's ending names.

    Raises:
        ValueError: it is none of a figure's.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        endings = " or ".join(f".{name}" for name in FORMATS)
        raise ValueError(f"{path}: the name of a figure ends with {endings}")
    return kind


def relative_luminance(colour: Colour) -> float:
    """WCAG's relative luminance of a colour, 0 for black and 1 for white."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
