"""The other tables of a report: what was chosen, tests, speed, failures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from scl_fairseq.experiments import tables
from scl_fairseq.experiments.report_cells import (
    beside_ce,
    columns_shown,
    in_order,
    losses_heading,
    place_entries,
    plain_columns,
    present_of,
    top_entry,
    trial_order,
)
from scl_fairseq.experiments.results import (
    Failure,
    Result,
    is_contrastive,
)
from scl_fairseq.experiments.selection import (
    CE,
    FIXED,
    FIXED_NAME,
    Configuration,
    Row,
)
from scl_fairseq.experiments.statistics import Comparison, compare
from scl_fairseq.experiments.tables import NOTHING, Column, Entry, Table
from scl_fairseq.experiments.training import short_path


def choice_table(rows: Sequence[Row], axes: Sequence[str], top: int, tuned: Sequence[str]) -> Table:
    """What was chosen on validation accuracy, and from how much."""
    of_chosen = [
        *plain_columns(tuned),
        Column(f"validation: top {top}", ("validation accuracy of top",)),
        Column("runs", ("runs", "expected runs")),
        *plain_columns(("collapsed", "failed")),
    ]
    columns = [
        *plain_columns((*axes, losses_heading(rows))),
        *of_chosen,
        Column("chosen from", ("configurations",)),
        Column("runs in all", ("runs in all", "expected runs in all")),
    ]
    lines = []
    for row in rows:
        for name in columns_shown(rows):
            if name not in row.choices:
                continue
            choice = row.choices[name]
            line = [*place_entries(row, axes), tables.text(name)]
            if choice.chosen:
                line += _chosen(choice.chosen, tuned, top)
            else:
                line += map(tables.empty, of_chosen)
            line += [
                tables.text(choice.num_competing),
                _counted(choice.num_runs, choice.num_expected),
            ]
            lines.append(tuple(line))
    notes = [
        "Validation accuracy in percent. runs, collapsed and failed: of the chosen configuration. "
        "chosen from: how many configurations competed. runs in all: theirs."
    ]
    compared = [name for name in columns_shown(rows) if name != FIXED_NAME]
    if any(
        len({row.choices[name].num_competing for name in compared if name in row.choices}) > 1
        for row in rows
    ):
        notes.append(
            f"{', '.join(compared[:-1])} and {compared[-1]} were chosen from different numbers of "
            "configurations; more to choose from is an advantage."
        )
    return Table("choice", "Chosen hyper-parameters", tuple(columns), tuple(lines), tuple(notes))


def _chosen(chosen: Configuration, tuned: Sequence[str], top: int) -> list[Entry]:
    # What a setting leaves out is the criterion's default, which CE has no use for.
    setting = {**(FIXED if is_contrastive(chosen.setting) else {}), **chosen.setting}
    return [
        *(tables.setting_value(setting.get(key)) for key in tuned),
        tables.number(chosen.validation(top)),
        _counted(len(chosen.runs), chosen.num_expected),
        tables.text(chosen.num_collapsed),
        tables.text(chosen.num_failed),
    ]


def _counted(present: int, expected: int) -> Entry:
    return Entry(present_of(present, expected), (present, expected))


def test_table(rows: Sequence[Row], axes: Sequence[str], resamples: int, seed: int) -> Table:
    """CE against each of the others: Welch's test over runs, a paired bootstrap over examples."""
    lines = []
    for row in rows:
        first = row.chosen(CE)
        for name, second in beside_ce(row, rows) if first else ():
            for comparison in compare(first, second, resamples, seed):
                pair = Entry(f"{CE}, {name}", (CE, name))
                lines.append([*place_entries(row, axes), pair, *_comparison(comparison)])
    notes = (
        f"Between all runs of the chosen configurations; difference: second minus {CE}, in percent "
        "points. Welch's t-test asks whether other samples and seeds would show a difference; the "
        f"paired bootstrap ({resamples} resamples, seed {seed}, percentile "
        "interval) whether other test examples would, for these very runs, paired by sample and "
        "seed.",
        "p is two-sided. It is not corrected for the number of comparisons (of 20 without any "
        "difference, one is expected below 0.05), nor for the choice of hyper-parameters.",
    )
    columns = [
        *plain_columns(axes),
        Column("compared", ("first", "second")),
        *plain_columns(("test", "n", "difference")),
        Column("95 % interval", ("low", "high")),
        *plain_columns(("p",)),
    ]
    if any(line[-1].text for line in lines):
        columns += plain_columns(("undefined because",))
    rows_shown = tuple(tuple(line[: len(columns)]) for line in lines)
    return Table("tests", "Tests", tuple(columns), rows_shown, notes)


def _comparison(comparison: Comparison) -> list[Entry]:
    interval, p = Entry(NOTHING, ("", "")), tables.number(comparison.p, 3)
    if comparison.interval:
        low, high = comparison.interval
        interval = Entry(f"{low:+.1f} to {high:+.1f}", (low, high))
    if comparison.p is not None and comparison.p < 0.001:
        p = Entry("<0.001", p.raw)
    return [
        tables.text(comparison.test),
        tables.text(comparison.n),
        tables.number(comparison.difference, sign="+"),
        interval,
        p,
        tables.text(comparison.reason),
    ]


def speed_table(rows: Sequence[Row], axes: Sequence[str], top: int) -> Table:
    """Accuracy and updates per second."""
    columns = [
        *plain_columns((*axes, losses_heading(rows))),
        Column(f"accuracy: top {top}", ("top mean", "top sd", "top runs")),
        *plain_columns(("updates per second", "device")),
    ]
    lines = []
    for row in rows:
        first = row.chosen(CE)
        for name, chosen in [*([(CE, first)] if first else []), *beside_ce(row, rows)]:
            speed = statistics.median(run.updates_per_second for run in chosen.runs)
            devices = ", ".join(sorted({str(run.device) for run in chosen.runs}))
            line = [*place_entries(row, axes), tables.text(name), top_entry(chosen, top)]
            lines.append((*line, tables.number(speed, 2), tables.text(devices)))
    notes = (
        "updates per second: median over the chosen configuration's runs. Other trials may have "
        "run on the machine at the same time, and speeds of different devices cannot be compared.",
    )
    return Table("speed", "Accuracy and speed by batch size", tuple(columns), tuple(lines), notes)


def problem_table(
    collapsed: Iterable[Result], failures: Iterable[Failure], grid_keys: Iterable[str]
) -> Table:
    """Trials without a result, and those no better than one class always."""
    keys = in_order(grid_keys)

    def line(trial: Result | Failure, what: str, message: str) -> tuple[Entry, ...]:
        setting = ", ".join(
            f"{key} {tables.setting_value(trial.setting[key]).text}"
            for key in keys
            if key in trial.setting
        )
        log = short_path(trial.log_path)
        return tuple(map(tables.text, (trial.trial, what, setting, message, log)))

    lines = [line(trial, "failed", trial.error) for trial in sorted(failures, key=trial_order)]
    for trial in sorted(collapsed, key=trial_order):
        valid, share = trial.best_valid_accuracy, trial.majority_share
        message = f"validation accuracy {valid:.1f}; one class always: {share:.1f}"
        lines.append(line(trial, "collapsed", message))
    notes = (
        "failed: without a result, and in no mean. collapsed: no better on the validation set than "
        "naming its most frequent class always; such runs count like all others.",
    )
    columns = plain_columns(("trial", "what", "setting", "message", "log"))
    return Table("problems", "Failed and collapsed trials", tuple(columns), tuple(lines), notes)
