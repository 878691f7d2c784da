"""The tables of a report on sweeps: ours beside the published, what was chosen, tests, failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scl_fairseq.checkpoints.embedded import ABOUT_ENCODER
from scl_fairseq.experiments.accuracy_table import accuracy_table
from scl_fairseq.experiments.outside_grid import told_apart
from scl_fairseq.experiments.published import (
    NONE,
    TABLES,
    PublishedTable,
)
from scl_fairseq.experiments.report_cells import columns_shown, trial_order
from scl_fairseq.experiments.report_systems import system_table
from scl_fairseq.experiments.report_tables import (
    choice_table,
    problem_table,
    speed_table,
    test_table,
)
from scl_fairseq.experiments.results import (
    Result,
    Results,
    data_keys,
    join,
)
from scl_fairseq.experiments.selection import (
    FIXED,
    REPETITION_KEYS,
    Row,
    choose_rows,
    make_cells,
)
from scl_fairseq.experiments.settings import OUTSIDE, SYSTEM, canonical
from scl_fairseq.experiments.settings import settings as settings_of
from scl_fairseq.experiments.sweep_config import EMBEDDED, SweepConfig
from scl_fairseq.experiments.tables import Table

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
    published = _published(settings.published, [part.config for part in parts])
    parts = told_apart(parts, [published.axis] if published and published.axis else ())
    configs = [part.config for part in parts]
    results, failures = join(parts)
    if not results:
        failed = f"; {len(failures)} failed" if failures else ""
        raise ValueError(f"no finished trial in {parts[0].folder}{failed}")
    top = settings.top or (published.top if published else DEFAULT_TOP)
    axes = _axes(published, configs)
    rows = choose_rows(
        make_cells(results, failures, axes, configs), top, published.tasks if published else ()
    )
    grid_keys = sorted({key for result in results for key in result.grid_keys})
    tuned = _tuned_keys(rows, {*grid_keys} - {*axes, SYSTEM})
    axes = [key for key in axes if any(row.place[key] is not None for row in rows)] or ["task"]
    made = [
        accuracy_table(rows, axes, top, published),
        choice_table(rows, axes, top, tuned),
        test_table(rows, axes, settings.resamples, settings.seed),
    ]
    if any(SYSTEM in result.setting for result in results):
        made.insert(1, system_table(results, columns_shown(rows)))
    if published and published.axis == "batch-size":
        made.append(speed_table(rows, axes, top))
    collapsed = [result for result in results if result.collapsed]
    if collapsed or failures:
        made.append(problem_table(collapsed, failures, grid_keys))
    names = dict.fromkeys(config.name for config in configs if config)
    return Report(
        " and ".join(names) or "Results",
        (
            f"Trials: {len(results)} finished, {len(failures)} failed; {len(collapsed)} of the "
            "finished collapsed.",
            *_summary(parts),
        ),
        tuple(made),
        tuple(sorted(results, key=trial_order)),
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
    outside = sorted({str(one.setting[OUTSIDE]) for one in results if OUTSIDE in one.setting})
    if outside:
        lines.append(
            f"Settings outside the grid differ ({'; '.join(outside)}): trials compete and are "
            "compared only with those of the same settings."
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
    for setting in settings_of(part.config) if part.config else ():
        keys = [key for key in ("arch", "finetune-from-model") if key in setting]
        named.add(", ".join(f"{key} {setting[key]}" for key in keys) or "named nowhere")
    names = "; ".join(sorted(named)) or "named nowhere"
    return f"Encoder: {names}; sha256 {', '.join(checksums)}."
