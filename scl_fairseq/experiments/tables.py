"""Small tables for terminals and README files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_and_sd(values: Sequence[float], decimals: int = 1) -> str:
    """``mean ± sd``, with the sample standard deviation (n - 1); the mean alone for one value."""
    mean = f"{statistics.mean(values):.{decimals}f}"
    return f"{mean} ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else mean


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; the first is left-aligned, the others right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(aligned) + " |"

    rule = [("-" * (w - 1) + ":") if i else "-" * w for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])
