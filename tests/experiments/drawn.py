"""What a drawn figure shows, for the tests."""

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg

from scl_fairseq.experiments.plot_style import styled


def overlaps(figure):
    """Pairs of parts that cover each other, and parts that reach out of the figure.

    The parts are title, axes with their labels, legend and footnote.
    """
    with styled():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        main, foot = figure.subfigs
        parts = {"title": main._suptitle, "footnote": foot.texts[0]}
        parts |= {f"axes {i}": axis for i, axis in enumerate(figure.axes)}
        parts |= {f"legend {i}": legend for i, legend in enumerate(main.legends)}
        boxes = {name: part.get_tightbbox(renderer) for name, part in parts.items()}
    whole = figure.bbox.padded(1)
    found = [
        name
        for name, box in boxes.items()
        if not (whole.contains(box.x0, box.y0) and whole.contains(box.x1, box.y1))
    ]
    for (one, first), (other, second) in itertools.combinations(boxes.items(), 2):
        if first.padded(-1).overlaps(second.padded(-1)):
            found.append((one, other))
    return found


def footnote(figure):
    """The footnote in one line."""
    return " ".join(figure.subfigs[1].texts[0].get_text().split())


def legend(figure):
    """The legend's entries."""
    (one,) = figure.subfigs[0].legends
    return [text.get_text() for text in one.get_texts()]
