"""How far a sweep is: a bar and the best settings on a terminal, elsewhere a line a trial."""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scl_fairseq.experiments.trial import Trial

ROWS = 8
# What tells runs of one configuration apart.
_REPETITIONS = ("sample", "seed")


class SweepDisplay:
    """A watcher of a sweep that prints to standard error.

    Best settings are those of the highest mean validation accuracy: test accuracies play no part,
    and are not shown while there is something to choose.
    """

    def __init__(self):
        self._records: list[Mapping[str, Any]] = []
        self._total = self._found = self._failed = 0
        self._epochs: dict[str, float] = {}
        self._started = time.monotonic()
        self._live = None

    def __enter__(self) -> SweepDisplay:
        return self

    def __exit__(self, *exc_info) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Print it."""
        self._print(text)

    def start(self, trials: Sequence[Trial], known: Sequence[Mapping[str, Any]]) -> None:
        """Begin to show."""
        self._total, self._found = len(trials), len(known)
        self._records = list(known)
        self._started = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._render,
                console=Console(stderr=True),
                refresh_per_second=2,
                transient=True,
            )
            self._live.start()
        elif known:
            self._print(f"{len(known)} of {len(trials)} trials have a result already")

    def epoch(self, trial: Trial, epoch: int) -> None:
        """Take note of an epoch."""
        # What follows its last epoch, evaluation, counts as one more.
        self._epochs[trial.id] = epoch / ((trial.max_epoch or epoch) + 1)

    def done(self, trial: Trial, record: Mapping[str, Any]) -> None:
        """Take note of a result."""
        self._epochs.pop(trial.id, None)
        self._records.append(record)
        note = ", no better than one class for all" if record["collapsed"] else ""
        self._say(
            f"{trial.name}: validation {record['best_valid_accuracy']:.1f} %{note}, "
            f"{record['wall_seconds']:.0f} s",
            matters=record["collapsed"],
        )

    def failed(self, trial: Trial, error: str) -> None:
        """Take note of a failure."""
        self._epochs.pop(trial.id, None)
        self._failed += 1
        self._say(f"{trial.name}: FAILED, {error}", matters=True)

    def _say(self, text: str, matters: bool) -> None:
        if self._live is None:
            self._print(f"{self._count()}: {text}; {self._time_left()}")
        elif matters:  # above the bar, where it stays
            self._live.console.print(text, markup=False, highlight=False)

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _count(self) -> str:
        finished = len(self._records)
        left = self._total - finished - self._failed
        return f"{finished} done, {self._failed} failed, {left} left"

    def _time_left(self) -> str:
        finished = len(self._records) + self._failed
        left = self._total - finished - sum(self._epochs.values())
        worked = finished - self._found + sum(self._epochs.values())
        if finished == self._total:
            return "no trial left"
        if worked <= 0:
            return "time left unknown"
        seconds = int((time.monotonic() - self._started) / worked * left)
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f"about {hours} h {minutes:02d} min {seconds % 60:02d} s left"

    def _render(self):
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        finished = len(self._records) + self._failed + sum(self._epochs.values())
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=self._total, completed=finished, width=40),
            f"{self._count()}; {self._time_left()}",
        )
        table = Table(title="best settings so far, by validation accuracy", title_justify="left")
        for heading in ("setting", "runs", "validation accuracy"):
            table.add_column(heading)
        for named, accuracies in best_settings(self._records)[:ROWS]:
            mean = statistics.mean(accuracies)
            table.add_row(named, str(len(accuracies)), f"{mean:.1f} %")
        return Group(table, line)


def best_settings(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[float]]]:
    """Settings and the best validation accuracies of their runs, the highest mean of a task first.

    Runs that differ in sample and seed alone are of one setting.
    """
    runs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        setting, keys = record["setting"], record["grid_keys"]
        place = [f"{setting[key]}" for key in ("task", "N") if key in keys]
        rest = [k for k in keys if k not in (*_REPETITIONS, "task", "N")]
        name = " ".join([*place, *(f"{key}={setting[key]}" for key in rest)])
        runs[" ".join(place), name].append(record["best_valid_accuracy"])
    best = sorted(runs.items(), key=lambda item: -statistics.mean(item[1]))
    # The best of every task and size first, then the second best of each.
    rank: dict[str, int] = defaultdict(int)
    ordered = []
    for (place, name), accuracies in best:
        ordered.append((rank[place], name, accuracies))
        rank[place] += 1
    return [(name, found) for _, name, found in sorted(ordered, key=lambda item: item[0])]
