"""Tasks of one's own: any folder of tables that ``scl-sample`` reads."""

import argparse
from pathlib import Path

from benchmarks.contest.samples import Entrant
from scl_fairseq.data.choices import AUTO
from scl_fairseq.data.folders import open_folder
from scl_fairseq.data.records import read_rows
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
    as_text = text_task([column], columns, quoting)
    path = open_folder(as_text, folder, splits=("train",)).sources["train"].path
    found = sorted({row.sentences[0] for row in read_rows(as_text, path)})
    if not 2 <= len(found) <= MOST_CLASSES:
        raise ValueError(f"{path}: {len(found)} different labels in {column}; name --labels")
    return found
