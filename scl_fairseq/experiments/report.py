"""The tables of a report on sweeps: ours beside the published, what was chosen, tests, failures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scl_fairseq.checkpoints.embedded import ABOUT_ENCODER
from scl_fairseq.experiments import sweep_config, tables
from scl_fairseq.experiments.published import (
    AVERAGE,
    GLUE,
    IN_SOURCE,
    NONE,
    TABLES,
    PublishedTable,
)
from scl_fairseq.experiments.results import (
    Failure,
    Result,
    Results,
    canonical,
    data_keys,
    join,
    loss_of,
)
from scl_fairseq.experiments.selection import (
    CE,
    FIXED,
    FIXED_NAME,
    REPETITION_KEYS,
    SCL,
    Configuration,
    Row,
    choose_rows,
    make_cells,
    rule,
)
from scl_fairseq.experiments.statistics import Comparison, compare
from scl_fairseq.experiments.sweep_config import EMBEDDED, SweepConfig
from scl_fairseq.experiments.tables import NOTHING, Column, Entry, Table, mean_and_sd
from scl_fairseq.experiments.training import short_path

DEFAULT_TOP = 3


@dataclass(frozen=True)
class ReportSettings:
    """How a report is made.

    Attributes:
        published: name of the published table, ``none``, or None for what the configs name.
        top: how many runs are selected, None for as many as the paper selects in that table.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    published: str | None = None
    top: int | None = None
    resamples: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """A report, not yet in any format.

    Attributes:
        title: its heading.
        summary: sentences on top.
        tables: the accuracies first.
        results: what it is about, in an order that does not depend on the files'.
        configs: of the sweeps, None for one without.
        top: how many runs were selected.
    """

    title: str
    summary: tuple[str, ...]
    tables: tuple[Table, ...]
    results: tuple[Result, ...]
    configs: tuple[SweepConfig | None, ...]
    top: int


def build(parts: Sequence[Results], settings: ReportSettings) -> Report:
    """Select, compare and tabulate.

    Args:
        parts: what ``read_results`` read, of one folder or several.
        settings: how.

    Raises:
        ValueError: there is no result, the parts do not belong together, or the published table is
            not one of the paper's.
        OSError: predictions cannot be read.
    """
    results, failures = join(parts)
    if not results:
        failed = f"; {len(failures)} failed" if failures else ""
        raise ValueError(f"no finished trial in {parts[0].folder}{failed}")
    configs = [part.config for part in parts]
    published = _published(settings.published, configs)
    top = settings.top or (published.top if published else DEFAULT_TOP)
    axes = _axes(published, configs)
    rows = choose_rows(
        make_cells(results, failures, axes, configs), top, published.tasks if published else ()
    )
    grid_keys = sorted({key for result in results for key in result.grid_keys})
    tuned = _tuned_keys(rows, {*grid_keys} - {*axes})
    axes = [key for key in axes if any(row.place[key] is not None for row in rows)] or ["task"]
    made = [
        _accuracies(rows, axes, top, published),
        _choices(rows, axes, top, tuned),
        _tests(rows, axes, settings),
    ]
    if published and published.axis == "batch-size":
        made.append(_speeds(rows, axes, top))
    collapsed = [result for result in results if result.collapsed]
    if collapsed or failures:
        made.append(_problems(collapsed, failures, grid_keys))
    names = dict.fromkeys(config.name for config in configs if config)
    return Report(
        " and ".join(names) or "Results",
        (
            f"Trials: {len(results)} finished, {len(failures)} failed; {len(collapsed)} of the "
            "finished collapsed.",
            *_summary(parts),
        ),
        tuple(made),
        tuple(sorted(results, key=_order)),
        tuple(configs),
        top,
    )


def _published(name: str | None, configs: Iterable[SweepConfig | None]) -> PublishedTable | None:
    if name is None:
        names = {config.published if config else NONE for config in configs}
        if len(names) > 1:
            raise ValueError(
                f"the configs name different published tables ({', '.join(sorted(names))}); "
                "choose with --published"
            )
        (name,) = names
    if name != NONE and name not in TABLES:
        raise ValueError(f"unknown published table {name!r}, expected {', '.join(TABLES)}, {NONE}")
    return TABLES.get(name)


def _axes(published: PublishedTable | None, configs: Iterable[SweepConfig | None]) -> list[str]:
    """Task, N, the published table's axis, and further keys that name data: never a choice."""
    own = [published.axis] if published and published.axis else []
    keys = dict.fromkeys(["task", "N", *own, *data_keys(configs)])
    return [key for key in keys if key not in REPETITION_KEYS]


def _in_order(keys: Iterable[str]) -> list[str]:
    """Task and N first, sample and seed last."""
    last = REPETITION_KEYS
    return sorted(keys, key=lambda key: (key in last, key != "task", key != "N", key))


def _order(trial: Result | Failure) -> list:
    keys = {"task", "N", *trial.setting}
    return [(key, canonical(trial.setting.get(key))) for key in _in_order(keys)]


def _tuned_keys(rows: Sequence[Row], named: set[str]) -> list[str]:
    """Lambda and tau, what else the grids name, and whatever else differs within a cell."""
    keys = named - {*REPETITION_KEYS}
    for cell in (choice.cell for row in rows for choice in row.choices.values()):
        settings = [configuration.setting for configuration in cell.configurations]
        keys |= {
            key
            for key in {key for setting in settings for key in setting}
            if len({canonical(setting.get(key)) for setting in settings}) > 1
        }
    return [*FIXED, *sorted(keys - set(FIXED))]


def _columns_shown(rows: Sequence[Row]) -> list[str]:
    """CE, CE+SCL, and the fixed setting where it has been run beside others."""
    has_fixed = any(FIXED_NAME in row.choices for row in rows)
    return [CE, SCL, FIXED_NAME] if has_fixed and not _is_fixed_alone(rows) else [CE, SCL]


def _is_fixed_alone(rows: Sequence[Row]) -> bool:
    """Whether CE+SCL has been run at the fixed setting and at no other."""
    cells = [row.choices[SCL].cell for row in rows if SCL in row.choices]
    return bool(cells) and all(
        len(cell.having(FIXED)) == len(cell.configurations) for cell in cells
    )


def _plain(names: Iterable[str]) -> list[Column]:
    return [Column(name, (name,)) for name in names]


def _place(row: Row, axes: Sequence[str]) -> list[Entry]:
    return [tables.setting_value(row.place[axis]) for axis in axes]


def _difference(first: float | None, second: float | None) -> Entry:
    both = first is not None and second is not None
    return tables.number(second - first if both else None, sign="+")


def _top_column(name: str, top: int) -> Column:
    raw = ("mean", "sd", "runs")
    return Column(f"{name}: top {top}", tuple(f"{name} top {part}" for part in raw))


def _top(configuration: Configuration, top: int) -> Entry:
    values = [run.test_accuracy for run in configuration.top(top)]
    fewer = f" (top {len(values)})" if len(values) < top else ""
    return Entry(mean_and_sd(values) + fewer, (*_mean_sd(values), len(values)))


def _all_column(name: str) -> Column:
    raw = ("mean", "sd", "runs", "expected runs", "collapsed", "failed")
    return Column(f"{name}: all", tuple(f"{name} all {part}" for part in raw))


def _all(configuration: Configuration) -> Entry:
    values = [run.test_accuracy for run in configuration.runs]
    expected, collapsed = configuration.num_expected, configuration.num_collapsed
    failed = configuration.num_failed
    counts = [_of(len(values), expected)]
    counts += [f"{collapsed} collapsed"] if collapsed else []
    counts += [f"{failed} failed"] if failed else []
    raw = (*_mean_sd(values), len(values), expected, collapsed, failed)
    return Entry(f"{mean_and_sd(values)} ({', '.join(counts)})", raw)


def _mean_sd(values: Sequence[float]) -> tuple[float, float | str]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else ""


def _of(present: int, expected: int) -> str:
    return str(present) if present == expected else f"{present} of {expected}"


def _accuracies(
    rows: Sequence[Row], axes: Sequence[str], top: int, published: PublishedTable | None
) -> Table:
    shown = _columns_shown(rows)
    of_loss = {name: (_top_column(name, top), _all_column(name)) for name in shown}
    beside = _Beside(published)
    columns = [*_plain(axes), *(column for pair in of_loss.values() for column in pair)]
    columns += [Column("difference", ("difference of top means",)), *beside.columns]
    lines = []
    for row in rows:
        line = _place(row, axes)
        for name, pair in of_loss.items():
            chosen = row.chosen(name)
            line += [_top(chosen, top), _all(chosen)] if chosen else map(tables.empty, pair)
        line.append(_difference(row.top_mean(CE, top), row.top_mean(SCL, top)))
        lines.append((*line, *beside.entries(row.place)))
    if published is GLUE and [str(row.place["task"]).casefold() for row in rows] == [
        task.casefold() for task in GLUE.tasks
    ]:
        lines.append(_average(rows, axes, top, of_loss, beside))
    notes = [
        "Test accuracy in percent, mean ± standard deviation (n - 1) over runs; in brackets how "
        "many runs there are, of how many where some are missing.",
        rule(top),
        f"difference: {SCL} minus {CE}, of the means over the top {top}, in percent points.",
    ]
    if FIXED_NAME in shown:
        notes.append(
            f"{FIXED_NAME}: at the lambda and tau that mostly won in the paper, not tuned here."
        )
    elif _is_fixed_alone(rows):
        notes.append(
            f"{SCL}: at lambda {FIXED['scl-lambda']:g} and tau {FIXED['scl-temperature']:g}, which "
            "mostly won in the paper; they were not tuned here."
        )
    return Table(
        "accuracy",
        "Test accuracy",
        tuple(columns),
        tuple(lines),
        (*notes, *beside.notes()),
    )


def _average(
    rows: Sequence[Row],
    axes: Sequence[str],
    top: int,
    of_loss: Mapping[str, tuple[Column, Column]],
    beside: _Beside,
) -> tuple[Entry, ...]:
    """The average over the tasks, which the paper prints too."""
    line = [tables.setting_value(AVERAGE if axis == "task" else None) for axis in axes]
    averages = {}
    for name, (top_column, all_column) in of_loss.items():
        means = [row.top_mean(name, top) for row in rows]
        averages[name] = None if None in means else statistics.mean(means)
        mean = tables.number(averages[name])
        rest = ("",) * (len(top_column.raw) - 1)
        line += [Entry(mean.text, (*mean.raw, *rest)), tables.empty(all_column)]
    line.append(_difference(averages[CE], averages[SCL]))
    return (*line, *beside.entries({"task": AVERAGE}))


class _Beside:
    """Published numbers beside ours, marked where one was not simply read in the sources."""

    def __init__(self, published: PublishedTable | None):
        self._published = published
        self._marks: dict[str, str] = {}

    @property
    def columns(self) -> list[Column]:
        raw = ("mean", "sd", "certainty")
        return [
            Column(f"published {loss}", tuple(f"published {loss} {part}" for part in raw))
            for loss in ((CE, SCL) if self._published else ())
        ]

    def entries(self, place: Mapping[str, object]) -> list[Entry]:
        return [self._entry(place, loss) for loss in ((CE, SCL) if self._published else ())]

    def _entry(self, place: Mapping[str, object], loss: str) -> Entry:
        axis = self._published.axis
        number = None
        # Numbers of whole training sets do not belong beside few-shot samples of the same task.
        if axis == "N" or place.get("N") is None:
            number = self._published.find(
                place.get("task"), place.get(axis) if axis else None, loss
            )
        if number is None:
            return Entry(NOTHING, ("",) * 3)
        text = f"{number.mean:.1f}" + ("" if number.sd is None else f" ± {number.sd:.1f}")
        if number.certainty != IN_SOURCE:
            text += f" [{self._marks.setdefault(number.certainty, 'abc'[len(self._marks)])}]"
        raw = (number.mean, "" if number.sd is None else number.sd, number.certainty)
        return Entry(text, raw)

    def notes(self) -> list[str]:
        if not self._published:
            return []
        marked = "".join(f" [{mark}] {certainty}." for certainty, mark in self._marks.items())
        return [
            f"published: {self._published.about}. Each {IN_SOURCE}"
            f"{' unless marked' if marked else ''}; {NOTHING}: there is none.{marked} "
            "Our encoder is named on top. No test here is about a published number."
        ]


def _choices(rows: Sequence[Row], axes: Sequence[str], top: int, tuned: Sequence[str]) -> Table:
    of_chosen = [
        *_plain(tuned),
        Column(f"validation: top {top}", ("validation accuracy of top",)),
        Column("runs", ("runs", "expected runs")),
        *_plain(("collapsed", "failed")),
    ]
    columns = [
        *_plain((*axes, "loss")),
        *of_chosen,
        Column("chosen from", ("configurations",)),
        Column("runs in all", ("runs in all", "expected runs in all")),
    ]
    lines = []
    for row in rows:
        for name in _columns_shown(rows):
            if name not in row.choices:
                continue
            choice = row.choices[name]
            line = [*_place(row, axes), tables.text(name)]
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
    if any(
        len({row.choices[loss].num_competing for loss in (CE, SCL) if loss in row.choices}) > 1
        for row in rows
    ):
        notes.append(
            f"{CE} and {SCL} were chosen from different numbers of configurations; more to choose "
            "from is an advantage."
        )
    return Table("choice", "Chosen hyper-parameters", tuple(columns), tuple(lines), tuple(notes))


def _chosen(chosen: Configuration, tuned: Sequence[str], top: int) -> list[Entry]:
    # What a setting leaves out is the criterion's default, which CE has no use for.
    setting = {**(FIXED if loss_of(chosen.setting) == SCL else {}), **chosen.setting}
    return [
        *(tables.setting_value(setting.get(key)) for key in tuned),
        tables.number(chosen.validation(top)),
        _counted(len(chosen.runs), chosen.num_expected),
        tables.text(chosen.num_collapsed),
        tables.text(chosen.num_failed),
    ]


def _counted(present: int, expected: int) -> Entry:
    return Entry(_of(present, expected), (present, expected))


def _tests(rows: Sequence[Row], axes: Sequence[str], settings: ReportSettings) -> Table:
    lines = []
    for row in rows:
        first = row.chosen(CE)
        for name, second in _beside_ce(row) if first else ():
            for comparison in compare(first, second, settings.resamples, settings.seed):
                pair = Entry(f"{CE}, {name}", (CE, name))
                lines.append([*_place(row, axes), pair, *_comparison(comparison)])
    notes = (
        f"Between all runs of the chosen configurations; difference: second minus {CE}, in percent "
        "points. Welch's t-test asks whether other samples and seeds would show a difference; the "
        f"paired bootstrap ({settings.resamples} resamples, seed {settings.seed}, percentile "
        "interval) whether other test examples would, for these very runs, paired by sample and "
        "seed.",
        "p is two-sided. It is not corrected for the number of comparisons (of 20 without any "
        "difference, one is expected below 0.05), nor for the choice of hyper-parameters.",
    )
    columns = [
        *_plain(axes),
        Column("compared", ("first", "second")),
        *_plain(("test", "n", "difference")),
        Column("95 % interval", ("low", "high")),
        *_plain(("p",)),
    ]
    if any(line[-1].text for line in lines):
        columns += _plain(("undefined because",))
    rows_shown = tuple(tuple(line[: len(columns)]) for line in lines)
    return Table("tests", "Tests", tuple(columns), rows_shown, notes)


def _beside_ce(row: Row) -> list[tuple[str, Configuration]]:
    """What there is beside CE; the fixed setting unless it is the chosen one anyway."""
    tuned, fixed = row.chosen(SCL), row.chosen(FIXED_NAME)
    found = [(SCL, tuned)] if tuned else []
    return [*found, *([(FIXED_NAME, fixed)] if fixed and fixed is not tuned else [])]


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


def _speeds(rows: Sequence[Row], axes: Sequence[str], top: int) -> Table:
    columns = [
        *_plain((*axes, "loss")),
        Column(f"accuracy: top {top}", ("top mean", "top sd", "top runs")),
        *_plain(("updates per second", "device")),
    ]
    lines = []
    for row in rows:
        first = row.chosen(CE)
        for name, chosen in [*([(CE, first)] if first else []), *_beside_ce(row)]:
            speed = statistics.median(run.updates_per_second for run in chosen.runs)
            devices = ", ".join(sorted({str(run.device) for run in chosen.runs}))
            line = [*_place(row, axes), tables.text(name), _top(chosen, top)]
            lines.append((*line, tables.number(speed, 2), tables.text(devices)))
    notes = (
        "updates per second: median over the chosen configuration's runs. Other trials may have "
        "run on the machine at the same time, and speeds of different devices cannot be compared.",
    )
    return Table("speed", "Accuracy and speed by batch size", tuple(columns), tuple(lines), notes)


def _problems(
    collapsed: Iterable[Result], failures: Iterable[Failure], grid_keys: Iterable[str]
) -> Table:
    keys = _in_order(grid_keys)

    def line(trial: Result | Failure, what: str, message: str) -> tuple[Entry, ...]:
        setting = ", ".join(
            f"{key} {tables.setting_value(trial.setting[key]).text}"
            for key in keys
            if key in trial.setting
        )
        log = short_path(trial.log_path)
        return tuple(map(tables.text, (trial.trial, what, setting, message, log)))

    lines = [line(trial, "failed", trial.error) for trial in sorted(failures, key=_order)]
    for trial in sorted(collapsed, key=_order):
        valid, share = trial.best_valid_accuracy, trial.majority_share
        message = f"validation accuracy {valid:.1f}; one class always: {share:.1f}"
        lines.append(line(trial, "collapsed", message))
    notes = (
        "failed: without a result, and in no mean. collapsed: no better on the validation set than "
        "naming its most frequent class always; such runs count like all others.",
    )
    columns = _plain(("trial", "what", "setting", "message", "log"))
    return Table("problems", "Failed and collapsed trials", tuple(columns), tuple(lines), notes)


def _summary(parts: Sequence[Results]) -> list[str]:
    """Encoders, data, devices and versions; says so where results mix them."""
    results = [result for part in parts for result in part.results]
    lines = sorted({_encoder(part) for part in parts if part.results})
    folders = {(result.data["path"], result.data["sha256"]) for result in results}
    sizes = {(str(result.setting.get("task", "")), result.num_test) for result in results}
    test_sets = ", ".join(f"{task} {size}".strip() for task, size in sorted(sizes))
    found = {"device": {str(result.device) for result in results}}
    found["encoder"] = {str(result.encoder_sha256) for result in results}
    for package, version in {pair for result in results for pair in result.versions.items()}:
        found.setdefault(f"version of {package}", set()).add(str(version))
    versions = [
        f"{name.removeprefix('version of ')} {' and '.join(sorted(values))}"
        for name, values in sorted(found.items())
        if name.startswith("version of ")
    ]
    lines += [
        f"Data: {len(folders)} binarised folder{'s' * (len(folders) > 1)}; test examples: "
        f"{test_sets}.",
        f"Device: {', '.join(sorted(found['device']))}.",
        f"Versions: {', '.join(versions)}.",
    ]
    mixed = sorted(name for name, values in found.items() if len(values) > 1)
    if mixed:
        lines.append(
            f"More than one {', '.join(mixed)}: differences between trials may come from there."
        )
    if any(part.config is None for part in parts):
        lines.append(
            "There is no config.yaml beside the results: how many runs should be there is unknown; "
            "expected are the samples and seeds that any trial of a row has."
        )
    return lines


def _encoder(part: Results) -> str:
    checksums = sorted({str(result.encoder_sha256)[:12] for result in part.results})
    named = set()
    if part.config and part.config.encoder == EMBEDDED:
        return ABOUT_ENCODER
    for setting in sweep_config.settings(part.config) if part.config else ():
        keys = [key for key in ("arch", "finetune-from-model") if key in setting]
        named.add(", ".join(f"{key} {setting[key]}" for key in keys) or "named nowhere")
    names = "; ".join(sorted(named)) or "named nowhere"
    return f"Encoder: {names}; sha256 {', '.join(checksums)}."
