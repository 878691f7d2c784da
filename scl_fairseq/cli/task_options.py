"""Options by which commands name a task and its data."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser
from scl_fairseq.data.choices import AUTO, QUOTINGS
from scl_fairseq.data.tasks import CUSTOM, TASKS, Task, custom_task, find_task

# What goes with a custom task; --labels are first.
CUSTOM_OPTIONS = (
    "labels", "label_column", "sentence_columns", "columns", "quoting", "dev_share",
)  # fmt: skip


def add_task_options(parser: Parser, further: str = "") -> None:
    """Add ``--task``, ``--data-dir`` and what a custom task needs.

    Args:
        parser: receives them.
        further: tells of other tasks that the command takes.
    """
    parser.add_argument(
        "--task",
        metavar="TASK",
        help=f"{', '.join(TASKS)}, or {CUSTOM} with the options below{further}",
    )
    parser.add_argument(
        "--data-dir",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder with the official files (train.tsv, dev.tsv, ...), or a few-shot sample; of a "
        f"{CUSTOM} task also one file, train",
    )
    parser.add_argument(
        "--workers", type=positive, metavar="W", help="processes (as many as there are cores)"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse malformed rows also in QQP, whose official files have some",
    )
    add_custom_options(parser, f"--task {CUSTOM}")


def add_custom_options(parser: Parser, title: str) -> None:
    """Add how the tables of a task of one's own are read: ``CUSTOM_OPTIONS``."""
    custom = parser.add_argument_group(
        title,
        "train, dev and perhaps test as .tsv, .csv or .jsonl (an object a line), perhaps packed\n"
        "(.tsv.gz), with a header or --columns; or, line by line, train.label, train.input0,\n"
        "train.input1, dev.label, ... A label of -1 in test says that there is none",
    )
    custom.add_argument(
        "--labels", nargs="+", metavar="LABEL", help="in the order of their indices"
    )
    custom.add_argument("--label-column", metavar="NAME", help="column of the label (label)")
    custom.add_argument(
        "--sentence-columns",
        nargs="+",
        metavar="NAME",
        help="column of the sentence, or two for pairs (sentence)",
    )
    add_table_options(custom)
    custom.add_argument(
        "--dev-share",
        type=share,
        metavar="SHARE",
        help="where there is no dev, draw this part of train as dev, e.g. 0.2; it follows the "
        "labels' distribution, and --seed",
    )


def add_table_options(group: argparse._ArgumentGroup) -> None:
    """Add how a table is read."""
    group.add_argument(
        "--columns",
        nargs="+",
        metavar="NAME",
        help="names of all columns in their order, of tables without a header",
    )
    group.add_argument(
        "--quoting",
        choices=QUOTINGS,
        help=f"of .tsv: {AUTO} (default) takes it for CSV where every field is in quotes (numbers "
        "may be without), the header's too, or where each field in quotes holds a tab, a newline "
        'or a doubled quote ("" or \\"), otherwise for text; csv and text say which. A .csv is '
        "always CSV, plain lines never",
    )


def task_of(options: argparse.Namespace, further: Sequence[str] = ()) -> Task:
    """The task that the options name.

    Args:
        options: as parsed.
        further: what the command takes besides; errors name it.

    Raises:
        ValueError: there is no such task, or an option is missing or out of place.
    """
    if options.task is None:
        raise ValueError(f"--task is required: {', '.join([*TASKS, *further])} or {CUSTOM}")
    if options.task.casefold() == CUSTOM:
        if not options.labels:
            raise ValueError(f"--task {CUSTOM} needs --labels, e.g. --labels negative positive")
        return custom_task(
            options.labels,
            options.label_column or "label",
            options.sentence_columns or ["sentence"],
            options.columns or (),
            options.quoting or AUTO,
        )
    task = find_task(options.task, further)
    refuse(options, CUSTOM_OPTIONS, f"goes with --task {CUSTOM}; {task.name} has its own")
    return task


def refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Refuse options that would be ignored.

    Raises:
        ValueError: one of them was given.
    """
    for name in names:
        if getattr(options, name) is not None and getattr(options, name) is not False:
            raise ValueError(f"--{name.replace('_', '-')} {why}")


def share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number between 0 and 1")
    return share


def positive(text: str) -> int:
    """A whole number of 1 or more, for ``type=``."""
    return at_least(1)(text)


def at_least(least: int) -> Callable[[str], int]:
    """A ``type=`` for whole numbers from ``least`` on."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from {least} on")
        return int(text)

    return convert
