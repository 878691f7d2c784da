"""``scl-preprocess``: a task's text files, encoded and binarised for fairseq."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser, byte_bar, command
from scl_fairseq.cli.task_options import (
    CUSTOM_OPTIONS,
    add_task_options,
    at_least,
    refuse,
    task_of,
)
from scl_fairseq.data.choices import GLUE, ON_LONG, SPLITS, TRUNCATE
from scl_fairseq.data.tasks import LINES, Task
from scl_fairseq.files import check_unsplit
from scl_fairseq.text.choices import BPES

PROG = "scl-preprocess"
FEWEST_POSITIONS = 8


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Encode and binarise the official files of a task, or a few-shot sample, into what\n"
        "fairseq's sentence_prediction task reads: input0, input1 for pairs, label. Text without\n"
        "labels becomes what masked_lm and this package's sentence_embedding read.",
        f"{PROG} --task RTE --data-dir glue/RTE --bpe gpt2 --bpe-dir gpt2_bpe --destdir RTE-bin\n"
        f"  {PROG} --task {LINES} --data-dir text --bpe gpt2 --bpe-dir gpt2_bpe --destdir text-bin",
    )
    add_task_options(
        parser,
        f"; {LINES}: train.txt and perhaps valid.txt and test.txt, a sentence a line, or with tabs "
        "between them a sentence, one that means the same and one that does not",
    )
    parser.add_argument("--bpe", required=True, choices=BPES, help="encoding of the sentences")
    parser.add_argument(
        "--bpe-dir",
        required=True,
        type=Path,
        metavar="DIR",
        help="dict.txt and the encoding's files: encoder.json and vocab.bpe (gpt2), vocab.txt\n"
        "(wordpiece), sentencepiece.bpe.model (sentencepiece), bpecodes (fastbpe)",
    )
    parser.add_argument(
        "--destdir",
        required=True,
        type=Path,
        metavar="OUT",
        help="the folder to write; an earlier result there is replaced whole",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default=GLUE,
        help="glue (default): train, dev as valid, test; paper: valid is drawn from train with the "
        "size of dev, dev is test",
    )
    parser.add_argument(
        "--seed",
        type=at_least(0),
        default=0,
        help="of the draw of --split paper or --dev-share (0)",
    )
    parser.add_argument(
        "--max-positions",
        type=at_least(FEWEST_POSITIONS),
        default=512,
        metavar="N",
        help="positions of the model (512); <s>, </s> and the separator of a pair count",
    )
    parser.add_argument(
        "--on-long",
        choices=ON_LONG,
        default=TRUNCATE,
        help="longer rows: cut the longer sentence (default), leave them out, or refuse them",
    )
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)
    check_unsplit(options.destdir)
    task = _task_of(options)

    from scl_fairseq.data.encode import Settings
    from scl_fairseq.data.file_report import LISTED, told_repeated
    from scl_fairseq.data.preprocess import REPORT, preprocess

    if options.workers == 1:  # tokenizers would otherwise use all cores
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    settings = Settings(options.bpe, options.bpe_dir, options.max_positions, options.on_long)
    there_was_one = (options.destdir / REPORT).exists()
    started = time.monotonic()
    with byte_bar() as show:
        report = preprocess(
            task,
            options.data_dir,
            options.destdir,
            settings,
            split=options.split,
            seed=options.seed,
            strict=options.strict,
            workers=options.workers,
            on_progress=show,
            dev_share=options.dev_share,
        )
    for name, split in report.splits.items():
        counts = ", ".join(f"{label} {count}" for label, count in split.label_counts.items())
        print(
            f"{name}: {split.rows} rows ({counts or 'no labels'}), {split.tokens} tokens, "
            f"{split.unknown_tokens} unknown, longest row {split.longest} positions"
        )
    for file in report.files.values():
        for line in file.lines(options.on_long, options.max_positions):
            print(f"note: {line}")
    for name, count in report.repeated.items():
        print(f"note: {told_repeated(count, 'dev' if name == 'valid' else name)}")
    if any(len(lines) > LISTED for file in report.files.values() for lines in file.lists()):
        print(f"note: {options.destdir / REPORT} lists every line")
    if report.absent:
        print(f"note: {options.data_dir} has no {', '.join(report.absent)}")
    did = "replaced" if there_was_one else "wrote"
    seconds = time.monotonic() - started
    print(f"{did} {options.destdir} in {seconds:.1f} s; fairseq-train needs:")
    # fairseq's default of 8 leaves the last, smaller batch out, in validation too.
    flags = [*_flags(task, settings.has_separator), "--required-batch-size-multiple", "1"]
    print(f"  {shlex.join([str(options.destdir), *flags])}")
    return 0


def _task_of(options: argparse.Namespace) -> Task:
    if (options.task or "").casefold() != LINES:
        return task_of(options, [LINES])
    refuse(options, CUSTOM_OPTIONS, f"goes with --task custom; {LINES} has no labels")
    from scl_fairseq.data.sources import open_lines

    return open_lines(options.data_dir)


def _flags(task: Task, has_separator: bool) -> list[str]:
    """The options by which fairseq-train reads the data as it was written."""
    if not task.labels:
        columns = ["--text-columns", str(task.num_inputs)] if task.num_inputs > 1 else []
        return ["--task", "sentence_embedding", *columns]
    separator = ["--separator-token", "2"] if task.num_inputs == 2 and has_separator else []
    flags = ["--task", "sentence_prediction", "--num-classes", str(len(task.labels))]
    return [*flags, "--init-token", "0", *separator]


if __name__ == "__main__":
    sys.exit(main())
