"""What came out: accuracy on the judged part of dev, and what each change gains on the base."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from benchmarks.recipes.arms import Arm
from scl_fairseq.experiments.paired_difference import difference
from scl_fairseq.experiments.tables import NOTHING, markdown

# arm -> task -> sample -> which judged rows are right
Judged = dict[str, dict[str, dict[int, np.ndarray]]]


def table(arms: Sequence[Arm], tasks: Sequence[str], judged: Judged) -> str:
    """A line an arm: accuracy by task, mean over tasks, and the gain with its 95 % interval."""
    base = judged.get(arms[0].name, {})
    rows = []
    for arm in arms:
        own = judged.get(arm.name, {})
        cells = [_accuracy(own.get(task, {})) for task in tasks]
        rows.append([arm.name, *cells, *_gain(base, own, tasks)])
    return markdown(["", *tasks, "gain on the base", "samples"], rows)


def _accuracy(samples: dict[int, np.ndarray]) -> str:
    values = [100 * right.mean() for right in samples.values()]
    return f"{statistics.mean(values):.1f}" if values else NOTHING


def _gain(base: dict, own: dict, tasks: Sequence[str]) -> tuple[str, str]:
    tables = []
    for task in tasks:
        both = sorted(base.get(task, {}).keys() & own.get(task, {}).keys())
        if not both:
            return NOTHING, NOTHING
        tables.append(np.stack([100.0 * own[task][i] - 100.0 * base[task][i] for i in both]))
    found = difference(tables)
    if own is base:
        return NOTHING, str(found.samples)
    if found.interval is None:
        return f"{found.mean:+.1f}", str(found.samples)
    low, high = found.interval
    return f"{found.mean:+.1f} ({low:+.1f} to {high:+.1f})", str(found.samples)
