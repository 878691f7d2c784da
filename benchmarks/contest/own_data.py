"""Tasks of one's own: any folder of tables that ``scl-sample`` reads."""

import argparse
from pathlib import Path

from benchmarks.contest.samples import Entrant
from scl_fairseq.data.blocks import read_blocks
from scl_fairseq.data.choices import AUTO
from scl_fairseq.data.records import parse
from scl_fairseq.data.sources import open_source
from scl_fairseq.data.table_files import EXPECTED, FIRST_INPUT, find_table
from scl_fairseq.data.tasks import custom_task, text_task

MOST_CLASSES = 200


def own_entrant(named: str, options: argparse.Namespace) -> Entrant:
    """The task of a folder, named ``DIR`` or ``NAME=DIR``.

    Raises:
        ValueError, OSError: it cannot be read, or its labels are no classes.
    """
    name, equals, place = named.partition("=")
    folder = Path(place if equals else named)
    name = name if equals else folder.resolve().name
    if not name or "/" in name:
        raise ValueError(f"--data-dir {named}: expected DIR or NAME=DIR")
    if not folder.is_dir():
        raise FileNotFoundError(f"--data-dir {named}: {folder} is no folder")
    column = options.label_column or "label"
    how = (options.columns or (), options.quoting or AUTO)
    labels = options.labels or labels_of(folder, column, *how)
    task = custom_task(labels, column, options.sentence_columns or ["sentence"], *how)
    return Entrant(name, task, folder, options.dev_share)


def labels_of(folder: Path, column: str, columns: list[str], quoting: str) -> list[str]:
    """What stands in the label column of train, sorted.

    Raises:
        ValueError, OSError: it cannot be read, or there are too few or too many.
    """
    path = find_table(folder, "train")
    if path is None:
        raise FileNotFoundError(f"{folder} has no train{EXPECTED}")
    if path.suffix == f".{FIRST_INPUT}":  # line-aligned files
        path = path.with_suffix(".label")
        found = {line.strip() for line in path.read_text("utf-8").splitlines()}
    else:
        source = open_source(text_task([column], columns, quoting), path, "input")
        found = {texts[0] for block in read_blocks(source) for texts in parse(block).sentences}
    if not 2 <= len(found) <= MOST_CLASSES:
        raise ValueError(f"{path}: {len(found)} different labels in {column}; name --labels")
    return sorted(found)
