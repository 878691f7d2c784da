"""What came out: accuracy on the judged part of dev, and what each change gains on the base."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scl_fairseq.experiments.paired_difference import difference
from scl_fairseq.experiments.result_files import RESULTS
from scl_fairseq.experiments.settings import SYSTEM
from scl_fairseq.experiments.tables import NOTHING, markdown

# arm -> task -> sample -> which judged rows are right
Judged = dict[str, dict[str, dict[int, np.ndarray]]]


def table(names: Sequence[str], tasks: Sequence[str], judged: Judged) -> str:
    """A line an arm: accuracy by task, and the gain on the first with its 95 % interval."""
    base = judged.get(names[0], {})
    rows = []
    for name in names:
        own = judged.get(name, {})
        cells = [_accuracy(own.get(task, {})) for task in tasks]
        rows.append([name, *cells, *_gain(base, own, tasks)])
    return markdown(["", *tasks, "gain on the first", "samples"], rows)


def judged_of(folder: Path) -> Judged:
    """What is done in a sweep's folder, whose settings have names."""
    found: Judged = {}
    if not (folder / RESULTS).exists():
        return found
    for line in (folder / RESULTS).read_text("utf-8").splitlines():
        record = json.loads(line)
        setting = record["setting"]
        rows = (folder / record["predictions"]).read_text("utf-8").split("\n")[1:-1]
        right = np.array([row.split("\t")[3] == "1" for row in rows])
        own = found.setdefault(setting[SYSTEM], {}).setdefault(setting["task"], {})
        own[setting["sample"]] = right
    return found


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
