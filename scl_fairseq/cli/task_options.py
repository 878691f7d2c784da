"""Options by which commands name a task and its data."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser
from scl_fairseq.data.tasks import CUSTOM, TASKS, Task, custom_task, find_task

CUSTOM_OPTIONS = ("labels", "label_column", "sentence_columns")


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
        help="folder with the official files (train.tsv, dev.tsv, ...), or a few-shot sample",
    )
    parser.add_argument(
        "--workers", type=positive, metavar="W", help="processes (as many as there are cores)"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse malformed rows also in QQP, whose official files have some",
    )
    custom = parser.add_argument_group(
        f"--task {CUSTOM}",
        "train.tsv, dev.tsv and perhaps test.tsv, tab-separated, unquoted, with a header; or,\n"
        "line by line, train.label, train.input0, train.input1, dev.label, ...",
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
        columns = options.sentence_columns or ["sentence"]
        return custom_task(options.labels, options.label_column or "label", columns)
    task = find_task(options.task, further)
    refuse(options, CUSTOM_OPTIONS, f"goes with --task {CUSTOM}; {task.name} has its own")
    return task


def refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Refuse options that would be ignored.

    Raises:
        ValueError: one of them was given.
    """
    for name in names:
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} {why}")


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
