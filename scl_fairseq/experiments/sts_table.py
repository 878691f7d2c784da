"""What ``scl-evaluate --sts`` prints: a row for each checkpoint and embedding, a column a set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.experiments.tables import NOTHING, markdown
from scl_fairseq.inference.sts import StsScores
from scl_fairseq.inference.sts_files import STS_B_DEV, ScoredPairs


def text(
    folder: Path,
    sets: Sequence[ScoredPairs],
    missing: Sequence[str],
    found: Sequence[StsScores],
) -> str:
    """Markdown of all scores, and what they are of."""
    names = [one.name for one in sets]
    tests = [name for name in names if name != STS_B_DEV]
    header = ["", "embedding", *tests, *(["average"] if tests else [])]
    header += [STS_B_DEV] if STS_B_DEV in names else []
    rows = [[one.name, one.embedding, *_values(one, header[2:])] for one in found]
    parts = [
        f"{folder}: {', '.join(f'{one.name} {len(one.pairs)} pairs' for one in sets)}",
        markdown(header, rows, left=(0, 1)),
        _note(tests, missing),
    ]
    return "\n\n".join(parts) + "\n"


def _values(one: StsScores, names: Sequence[str]) -> list[str]:
    values = [one.average if name == "average" else one.spearman[name] for name in names]
    return [NOTHING if math.isnan(value) else f"{value:.2f}" for value in values]


def _note(tests: Sequence[str], missing: Sequence[str]) -> str:
    note = (
        "Spearman x 100 between cosines and people's scores; a year's sub-sets are one set (the "
        '"all" setting).'
    )
    if tests and missing:
        note += f" The average is over {len(tests)} of {len(tests) + len(missing)} test sets."
    return note + (f" Missing: {', '.join(missing)}." if missing else "")
