"""What ``scl-embed`` and ``scl-predict`` share: a checkpoint, and sentences that stream in."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from scl_fairseq.cli.common import Parser, byte_bar
from scl_fairseq.cli.task_options import positive
from scl_fairseq.inference.choices import DTYPES
from scl_fairseq.refusals import NotFiniteError
from scl_fairseq.text.assets import CHECKPOINT_HELP, RULE
from scl_fairseq.text.choices import BPES

if TYPE_CHECKING:
    from scl_fairseq.inference.hub import SentenceModel

Block = Sequence[tuple[str, ...]]
Found = TypeVar("Found")

SPLIT_HELP = (
    "of the data, as fairseq names it (test; valid where there is no test set that can be scored)"
)


def add_model_options(parser: Parser) -> None:
    """Add the checkpoint, what it needs, where it runs, and the input."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=CHECKPOINT_HELP)
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="sentences, UTF-8, one a line or two with a tab between them (standard input)",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N (a GPU where there is one)")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="what the model computes in (as it was trained; fp16 needs a GPU)",
    )
    parser.add_argument(
        "--batch-tokens",
        type=positive,
        metavar="N",
        help="sentences times longest length of a batch (1024, on a GPU 16384)",
    )
    add_text_options(parser)


def add_text_options(parser: Parser, data_dir: bool = True) -> None:
    """Add the options by which files are named that are not where the rule finds them.

    Args:
        parser: receives them.
        data_dir: add ``--data-dir`` too; otherwise the command's own ``--data`` does what it does.
    """
    where = parser.add_argument_group("what text needs", RULE)
    if data_dir:
        where.add_argument(
            "--data-dir", type=Path, metavar="DIR", help="binarised data with its dictionaries"
        )
    where.add_argument("--bpe", choices=BPES, help="encoding of the sentences")
    where.add_argument("--bpe-dir", type=Path, metavar="DIR", help="the encoding's files")


@contextlib.contextmanager
def loaded(options: argparse.Namespace) -> Iterator[SentenceModel]:
    """The model that the options name; fairseq's log, which is all of its settings, stays quiet."""
    import scl_fairseq

    if options.input is not None and not options.input.exists():  # before seconds of loading
        raise FileNotFoundError(f"--input {options.input}: no such file")
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hydra, about how fairseq calls it
            model = scl_fairseq.load(
                options.checkpoint,
                options.data_dir,
                options.bpe,
                options.bpe_dir,
                options.device,
                options.dtype,
            )
        yield model
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def sentence_blocks(
    options: argparse.Namespace, num_inputs: int | None = None
) -> Iterator[Iterator[list[tuple[str, ...]]]]:
    """Blocks of lines, with a progress bar over the bytes of the input."""
    from scl_fairseq.inference.lines import read_blocks

    with contextlib.ExitStack() as stack:
        file, name = sys.stdin.buffer, "standard input"
        if options.input is not None:
            file, name = stack.enter_context(options.input.open("rb")), str(options.input)
        status = os.fstat(file.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        show, done = stack.enter_context(byte_bar()), 0

        def blocks() -> Iterator[list[tuple[str, ...]]]:
            nonlocal done
            for block, count in read_blocks(file, name, num_inputs):
                yield block
                done += count
                show(done, total)

        yield blocks()


def run_blocks(
    run: Callable[[Block], Found], blocks: Iterator[Block], options: argparse.Namespace, end: str
) -> Iterator[Found]:
    """What the model makes of each block.

    Args:
        run: the model.
        blocks: of lines.
        options: of the command.
        end: what becomes of the output where the model breaks down; ``{}`` is the last line of the
            block before.

    Raises:
        ValueError: outputs for a line are not finite.
    """
    lines = 0
    for block in blocks:
        try:
            found = run(block)
        except NotFiniteError as error:
            kind = f" in {options.dtype}" if options.dtype else ""
            raise ValueError(
                f"{options.checkpoint}: what the model makes of line {lines + error.index + 1} is "
                f"not finite{kind}: its training has diverged, or numbers are too large for its "
                f"--dtype; {end.format(lines)}"
            ) from error
        yield found
        lines += len(block)


def tell_truncated(prog: str, count: int, model: SentenceModel) -> None:
    """Say on standard error how many examples were cut."""
    if count:
        print(
            f"{prog}: note: {count} inputs were cut to the {model.model.max_positions()} positions "
            "of the model",
            file=sys.stderr,
        )
