"""What the finished trials say, in numbers: accuracies, costs and paired differences."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.contest.records import Records
from benchmarks.contest.rows import read_rows
from benchmarks.contest.trials import Trial
from scl_fairseq.experiments.paired_difference import Difference, difference


class Outcome(NamedTuple):
    """A finished trial: its record, and whether each test row was predicted rightly."""

    record: Mapping[str, Any]
    correct: np.ndarray


class Outcomes:
    """Those of the trials that are done.

    Args:
        trials: all that were asked for.
        records: what is done of them.
        apart: a second run of some of them, from which costs are taken instead.

    Raises:
        ValueError: a file of predictions does not fit its test set.
    """

    def __init__(self, trials: Sequence[Trial], records: Records, apart: Records | None = None):
        done = records.read()
        costs = apart.read() if apart else done
        self.trials = trials
        self.tasks = _distinct(trials, "task")
        self.sizes = _distinct(trials, "N")
        self.contenders = _distinct(trials, "contender")
        self.wanted = {
            size: len({t.setting["sample"] for t in self._of(size)}) for size in self.sizes
        }
        self._found: dict[tuple, Outcome] = {}
        self._costs: dict[tuple, list[float]] = {}
        tests: dict[Path, list[str]] = {}
        for trial in trials:
            one = trial.setting
            if trial.key in costs:
                place = one["task"], one["N"], one["contender"]
                self._costs.setdefault(place, []).append(costs[trial.key]["cpu_seconds"])
            if trial.key not in done:
                continue
            if trial.sample not in tests:
                order = {"sample": trial.sample, "labels": trial.entrant.task.labels}
                rows = read_rows(order, "test")
                tests[trial.sample] = [order["labels"][place] for place in rows.labels]
            predictions, labels = records.predictions(trial.key), tests[trial.sample]
            if len(predictions) != len(labels):
                raise ValueError(
                    f"{records.folder}: {len(predictions)} predictions of {trial.name}, whose test "
                    f"set has {len(labels)} rows; remove its line to run it again"
                )
            self._found[one["task"], one["N"], one["contender"], one["sample"]] = Outcome(
                done[trial.key], np.array(predictions) == np.array(labels)
            )

    def _of(self, size: int) -> list[Trial]:
        return [trial for trial in self.trials if trial.setting["N"] == size]

    @property
    def records(self) -> list[Mapping[str, Any]]:
        """Of all that is done."""
        return [outcome.record for outcome in self._found.values()]

    def of(self, task: str, size: int, contender: str) -> dict[int, Outcome]:
        """Sample -> outcome."""
        return {
            key[3]: outcome
            for key, outcome in self._found.items()
            if key[:3] == (task, size, contender)
        }

    def accuracies(self, task: str, size: int, contender: str) -> list[float]:
        """In percent."""
        return [100 * one.correct.mean() for one in self.of(task, size, contender).values()]

    def costs(self, task: str, size: int, contender: str) -> list[float]:
        """CPU seconds."""
        return self._costs.get((task, size, contender), [])

    def average(self, size: int, contender: str, of: str = "accuracies") -> float | None:
        """Mean over tasks of the mean over samples; None where a task has nothing yet."""
        values = [getattr(self, of)(task, size, contender) for task in self.tasks]
        return statistics.mean(map(statistics.mean, values)) if all(values) else None

    def gain(self, tasks: Sequence[str], size: int, first: str, second: str) -> Difference | None:
        """Percent points by which the second is ahead, over the samples that both have.

        None where a task has no such sample.
        """
        tables = []
        for task in tasks:
            a, b = self.of(task, size, first), self.of(task, size, second)
            both = sorted(a.keys() & b.keys())
            if not both:
                return None
            rows = [100.0 * b[i].correct - 100.0 * a[i].correct for i in both]
            tables.append(np.stack(rows))
        return difference(tables)


def _distinct(trials: Sequence[Trial], key: str) -> list:
    return list(dict.fromkeys(trial.setting[key] for trial in trials))
