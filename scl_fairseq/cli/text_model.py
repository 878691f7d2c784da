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
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from scl_fairseq.cli.common import Parser, byte_bar
from scl_fairseq.cli.task_options import add_table_options, positive, refuse
from scl_fairseq.data.table_files import kind_of
from scl_fairseq.inference.choices import DTYPES, ONNX, ONNX_FILES, TORCH
from scl_fairseq.refusals import NotFiniteError
from scl_fairseq.text.assets import CHECKPOINT_HELP, RULE
from scl_fairseq.text.choices import BPES

if TYPE_CHECKING:
    from scl_fairseq.data.text_tables import TableOptions
    from scl_fairseq.inference.hub import SentenceModel
    from scl_fairseq.inference.onnx_model import OnnxModel

Block = Sequence[tuple[str, ...]]
Found = TypeVar("Found")

_FILES = ", ".join(ONNX_FILES.values())
TABLE_OPTIONS = ("sentence_columns", "columns", "quoting")
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
        help="sentences, UTF-8, one a line or two with a tab between them (standard input); or a "
        "table: .csv, .jsonl, or .tsv whose first line names its columns; each may end in .gz",
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
    table = parser.add_argument_group(
        "an --input that is a table",
        "A .tsv is one if an option below is given, or its first line has the names of sentence\n"
        "columns; otherwise its lines are sentences, or two with a tab between them.",
    )
    table.add_argument(
        "--sentence-columns",
        nargs="+",
        metavar="NAME",
        help="column of the sentence, or two for pairs (those of the training; else sentence, "
        "text, or sentence1 and sentence2)",
    )
    add_table_options(table)


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

    _check_input(options)
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
def loaded_classifier(options: argparse.Namespace) -> Iterator[SentenceModel | OnnxModel]:
    """The same, or an ONNX model: what ``--backend`` says, or else what the path is for."""
    from scl_fairseq.inference.onnx_model import is_onnx, load

    backend = options.backend or (ONNX if is_onnx(options.checkpoint) else TORCH)
    if backend == TORCH:
        if options.checkpoint.suffix == ".onnx":
            raise ValueError(f"--backend torch: {options.checkpoint} is a model for --backend onnx")
        with loaded(options) as model:
            yield model
        return
    _check_input(options)
    refuse(options, ("dtype",), f"goes with --backend torch; of ONNX models name {_FILES}")
    refuse(options, ("data_dir", "bpe"), "goes with --backend torch; ONNX models have it inside")
    yield load(options.checkpoint, options.bpe_dir, options.device)


def _check_input(options: argparse.Namespace) -> None:
    """Refuse it before seconds of loading."""
    _table_options(options)
    if options.input is not None and not options.input.exists():
        raise FileNotFoundError(f"--input {options.input}: no such file")
    if options.input is not None and options.input.is_dir():
        raise IsADirectoryError(f"--input {options.input} is a folder; name a file in it")


@contextlib.contextmanager
def sentence_blocks(
    prog: str,
    options: argparse.Namespace,
    model: SentenceModel | OnnxModel,
    num_inputs: int | None = None,
) -> Iterator[Iterator[list[tuple[str, ...]]]]:
    """Blocks of sentences, with a progress bar over the bytes of the input.

    What was special about a table is said on standard error when the block has ended.
    """
    from scl_fairseq.data.file_report import FileReport
    from scl_fairseq.data.streams import open_bytes
    from scl_fairseq.data.text_tables import open_texts, read_texts

    table = _table_options(options)
    with byte_bar() as show:
        file = sys.stdin.buffer.fileno() if options.input is None else options.input
        status, done = os.stat(file), 0
        total = status.st_size if stat.S_ISREG(status.st_mode) else None

        def read(count: int) -> None:
            nonlocal done
            done += count
            show(done, total)

        def on_bytes(path: Path, data: bytes) -> None:
            read(len(data))

        if options.input is None:
            yield _lines(sys.stdin.buffer, "standard input", num_inputs, read)
            return
        source = open_texts(
            options.input, table, model.sentence_columns, num_inputs, model.num_inputs
        )
        if source is None:
            with open_bytes(options.input, on_bytes) as file:
                yield _lines(file, str(options.input), num_inputs)
            return
        report = FileReport.of(source)
        yield read_texts(source, report, on_bytes)
    for line in report.lines():
        print(f"{prog}: note: {line}", file=sys.stderr)


def _lines(
    file: BinaryIO,
    name: str,
    num_inputs: int | None,
    on_count: Callable[[int], None] = lambda count: None,
) -> Iterator[list[tuple[str, ...]]]:
    from scl_fairseq.inference.lines import read_blocks

    try:
        for block, count in read_blocks(file, name, num_inputs):
            yield block
            on_count(count)
    except ValueError as error:
        if name.removesuffix(".gz").endswith(".tsv"):
            raise ValueError(f"{error}; --sentence-columns reads a table with a header") from None
        raise


def _table_options(options: argparse.Namespace) -> TableOptions:
    from scl_fairseq.data.text_tables import TableOptions

    if options.input is None:
        why = "goes with a table, a file that --input names; standard input is lines"
        refuse(options, TABLE_OPTIONS, why)
    return TableOptions(
        tuple(options.sentence_columns or ()), tuple(options.columns or ()), options.quoting
    )


def run_blocks(
    run: Callable[[Block], Found], blocks: Iterator[Block], options: argparse.Namespace, end: str
) -> Iterator[Found]:
    """What the model makes of each block.

    Args:
        run: the model.
        blocks: of lines, or of rows of a table.
        options: of the command.
        end: what becomes of the output where the model breaks down; ``{}`` is the last line or row
            of the block before.

    Raises:
        ValueError: outputs for a line or row are not finite.
    """
    unit = "line" if options.input is None or kind_of(options.input) is None else "row"
    lines = 0
    for block in blocks:
        try:
            found = run(block)
        except NotFiniteError as error:
            kind = f" in {options.dtype}" if options.dtype else ""
            place = f"{unit} {lines + error.index + 1}"
            raise ValueError(
                f"{options.checkpoint}: what the model makes of {place} is not finite{kind}: its "
                "training has diverged, or numbers are too large for its --dtype; "
                f"{end.format(f'{unit} {lines}')}"
            ) from error
        yield found
        lines += len(block)


def tell_truncated(prog: str, count: int, model: SentenceModel | OnnxModel) -> None:
    """Say on standard error how many examples were cut."""
    if count:
        print(
            f"{prog}: note: {count} inputs were cut to the {model.positions} positions "
            "of the model",
            file=sys.stderr,
        )
