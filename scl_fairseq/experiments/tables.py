"""Tables as data, and small ones for terminals and README files."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass

NOTHING = "—"


@dataclass(frozen=True)
class Column:
    """A column for readers, and the columns of raw values that it is in a CSV file.

    Attributes:
        name: heading.
        raw: names of the raw values.
    """

    name: str
    raw: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """What stands in a row's column: text for readers, and a value for each of the raw columns."""

    text: str
    raw: tuple[object, ...]


@dataclass(frozen=True)
class Table:
    """A table, not yet in any format.

    Attributes:
        name: one word.
        title: heading.
        columns: what its rows have.
        rows: an entry for each column.
        notes: sentences below it.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def header(self) -> list[str]:
        """Headings of the columns."""
        return [column.name for column in self.columns]

    @property
    def texts(self) -> list[list[str]]:
        """The rows for readers."""
        return [[entry.text for entry in row] for row in self.rows]

    @property
    def text_columns(self) -> set[int]:
        """Indices of the columns to align left: the first, and those of words."""
        found = {0}
        for index in range(len(self.columns)):
            values = [value for row in self.rows for value in row[index].raw if value != ""]
            if values and all(isinstance(value, str) for value in values):
                found.add(index)
        return found


def empty(column: Column) -> Entry:
    """The entry of a column where there is nothing to say."""
    return Entry(NOTHING, ("",) * len(column.raw))


def text(value: object) -> Entry:
    """An entry that reads as its value does."""
    return Entry(str(value), (value,))


def setting_value(value: object) -> Entry:
    """A value of a setting, numbers as short as they can be; nothing for None."""
    if value is None:
        return Entry(NOTHING, ("",))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Entry(f"{value:g}" if is_number else str(value), (value,))


def number(value: float | None, decimals: int = 1, sign: str = "") -> Entry:
    """A number, rounded for readers; ``sign="+"`` shows the sign; nothing for None."""
    return (
        Entry(NOTHING, ("",)) if value is None else Entry(f"{value:{sign}.{decimals}f}", (value,))
    )


def mean_and_sd(values: Sequence[float], decimals: int = 1) -> str:
    """``mean ± sd``, with the sample standard deviation (n - 1); the mean alone for one value."""
    mean = f"{statistics.mean(values):.{decimals}f}"
    return f"{mean} ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else mean


def markdown(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)
) -> str:
    """A Markdown table whose columns line up; those of index ``left`` left, the others right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(aligned) + " |"

    rule = ["-" * w if i in left else ("-" * (w - 1) + ":") for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])
