"""Parts that several tables of a report are made of."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from scl_fairseq.experiments import tables
from scl_fairseq.experiments.results import (
    Failure,
    Result,
)
from scl_fairseq.experiments.selection import (
    CE,
    FIXED,
    FIXED_NAME,
    REPETITION_KEYS,
    SCL,
    Configuration,
    Row,
)
from scl_fairseq.experiments.settings import canonical
from scl_fairseq.experiments.tables import Column, Entry, mean_and_sd


def in_order(keys: Iterable[str]) -> list[str]:
    """Task and N first, sample and seed last."""
    last = REPETITION_KEYS
    return sorted(keys, key=lambda key: (key in last, key != "task", key != "N", key))


def trial_order(trial: Result | Failure) -> list:
    """A key to sort results and failures by their settings."""
    keys = {"task", "N", *trial.setting}
    return [(key, canonical(trial.setting.get(key))) for key in in_order(keys)]


def columns_shown(rows: Sequence[Row]) -> list[str]:
    """CE, CE+SCL, the fixed setting where it has been run beside others, and other systems."""
    found = dict.fromkeys(name for row in rows for name in row.choices)
    others = [name for name in found if name not in (CE, SCL, FIXED_NAME)]
    has_fixed = FIXED_NAME in found and not is_fixed_alone(rows)
    shown = [CE, *([SCL] if SCL in found or not others else [])]
    return [*shown, *([FIXED_NAME] if has_fixed else []), *others]


def losses_heading(rows: Sequence[Row]) -> str:
    """What the columns that are shown are called."""
    return "loss" if set(columns_shown(rows)) <= {CE, SCL, FIXED_NAME} else "system"


def beside_ce(row: Row, rows: Sequence[Row]) -> list[tuple[str, Configuration]]:
    """What was chosen beside CE; the fixed setting unless it is the chosen one anyway."""
    found = [(name, row.chosen(name)) for name in columns_shown(rows) if name != CE]
    tuned = row.chosen(SCL)
    return [(name, one) for name, one in found if one and (name != FIXED_NAME or one is not tuned)]


def is_fixed_alone(rows: Sequence[Row]) -> bool:
    """Whether CE+SCL has been run at the fixed setting and at no other."""
    cells = [row.choices[SCL].cell for row in rows if SCL in row.choices]
    return bool(cells) and all(
        len(cell.having(FIXED)) == len(cell.configurations) for cell in cells
    )


def plain_columns(names: Iterable[str]) -> list[Column]:
    """Columns whose raw value is what they show."""
    return [Column(name, (name,)) for name in names]


def place_entries(row: Row, axes: Sequence[str]) -> list[Entry]:
    """What tells a row from the others."""
    return [tables.setting_value(row.place[axis]) for axis in axes]


def difference_entry(first: float | None, second: float | None) -> Entry:
    """Second minus first, nothing where one is missing."""
    both = first is not None and second is not None
    return tables.number(second - first if both else None, sign="+")


def top_column(name: str, top: int) -> Column:
    """Heading of ``top_entry``."""
    raw = ("mean", "sd", "runs")
    return Column(f"{name}: top {top}", tuple(f"{name} top {part}" for part in raw))


def top_entry(configuration: Configuration, top: int) -> Entry:
    """Mean and standard deviation of test accuracy over the selected runs."""
    values = [run.test_accuracy for run in configuration.top(top)]
    fewer = f" (top {len(values)})" if len(values) < top else ""
    return Entry(mean_and_sd(values) + fewer, (*_mean_sd(values), len(values)))


def all_column(name: str) -> Column:
    """Heading of ``all_entry``."""
    raw = ("mean", "sd", "runs", "expected runs", "collapsed", "failed")
    return Column(f"{name}: all", tuple(f"{name} all {part}" for part in raw))


def all_entry(configuration: Configuration) -> Entry:
    """Mean and standard deviation of test accuracy over all runs, and how many there are."""
    values = [run.test_accuracy for run in configuration.runs]
    expected, collapsed = configuration.num_expected, configuration.num_collapsed
    failed = configuration.num_failed
    counts = [present_of(len(values), expected)]
    counts += [f"{collapsed} collapsed"] if collapsed else []
    counts += [f"{failed} failed"] if failed else []
    raw = (*_mean_sd(values), len(values), expected, collapsed, failed)
    return Entry(f"{mean_and_sd(values)} ({', '.join(counts)})", raw)


def _mean_sd(values: Sequence[float]) -> tuple[float, float | str]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else ""


def present_of(present: int, expected: int) -> str:
    """How many there are, of how many where some are missing."""
    return str(present) if present == expected else f"{present} of {expected}"
