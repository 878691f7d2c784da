"""Whether the rows of a binarised split are those of a file, all of them, in its order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.data.binarized import REPORT
from scl_fairseq.data.choices import DROP, OUTPUTS, PAPER
from scl_fairseq.data.tasks import TASKS, TSV_FILES


@dataclass(frozen=True)
class Origin:
    """What ``preprocess.json`` tells of a split.

    Attributes:
        task: name of the task; None where ``fairseq-preprocess`` wrote the data, which leaves no
            row out.
        rows: how many were written; None as above.
        left_out: lines of the file whose rows were left out.
        is_drawn: its rows are a draw from a file, and no longer the file.
    """

    task: str | None = None
    rows: int | None = None
    left_out: tuple[int, ...] = ()
    is_drawn: bool = False


def origin_of(folder: Path, split: str) -> Origin:
    """Where the rows of a split come from.

    Args:
        folder: binarised data.
        split: as fairseq names it.

    Raises:
        ValueError: ``preprocess.json`` is malformed, or tells nothing of the split.
    """
    path = folder / REPORT
    if not path.exists():
        return Origin()
    try:
        report = json.loads(path.read_text("utf-8"))
        is_own_dev = report["split"] != PAPER and report.get("dev_share") is None
        is_drawn = not is_own_dev and split in ("train", "valid")
        sources = {output: name for name, output in OUTPUTS[report["split"]].items()}
        source = "train" if is_drawn else sources[split]
        rows = report["splits"][split]["rows"]
        return Origin(report["task"], rows, tuple(sorted(_left_out(report, source))), is_drawn)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged, or tells nothing of {split}") from error


def _left_out(report: Mapping[str, Any], source: str) -> Iterator[int]:
    official = TASKS[report["task"]].files if report["task"] in TASKS else {}
    own = {official.get(source), TSV_FILES.get(source)}
    # Line-aligned files are listed together, the first input in front; a table's ending says more.
    of_source = [
        name
        for name in report["files"]
        if name in own or (not official and name.split(".")[0] == source)
    ]
    for name in of_source or report["files"]:
        file = report["files"][name]
        yield from file["dropped_lines"]
        if report["on_long"] == DROP:
            yield from file["long_lines"]
