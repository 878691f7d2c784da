"""``scl-evaluate``: checkpoints side by side, on a binarised split or on sentence similarity."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scl_fairseq.cli.common import Parser, bar_of, command, part_of
from scl_fairseq.cli.evaluate_sts import STS_OPTIONS, add_sts_options, evaluate_sts
from scl_fairseq.cli.task_options import at_least, positive, refuse
from scl_fairseq.cli.text_model import SPLIT_HELP
from scl_fairseq.text.assets import CHECKPOINT_HELP, find_checkpoint

if TYPE_CHECKING:
    from scl_fairseq.data.binarized import BinarizedData
    from scl_fairseq.inference.split_evaluation import SplitEvaluation
    from scl_fairseq.inference.submission import Submission

PROG = "scl-evaluate"


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Accuracy, F1, MCC, calibration and confusion matrix of fine-tuned checkpoints on a\n"
        "split, each against the first by a paired bootstrap and McNemar's test; files for the\n"
        "GLUE leaderboard. With --sts, how well their sentence vectors tell similarity.",
        f"{PROG} ce/checkpoint_best.pt scl/checkpoint_best.pt --data SST-2-bin --split valid\n"
        f"  {PROG} rte/checkpoint_best.pt --data RTE-bin --glue-submission glue --task RTE\n"
        f"  {PROG} simcse/checkpoint_best.pt --sts SentEval/data/downstream --embedding cls mean",
    )
    parser.add_argument(
        "checkpoints",
        nargs="+",
        type=Path,
        metavar="CHECKPOINT",
        help=f"{CHECKPOINT_HELP}; the others are compared with the first",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="OUT",
        help="binarised data, of scl-preprocess or fairseq-preprocess, with the dictionaries that "
        "the checkpoints were trained with",
    )
    parser.add_argument(
        "--split",
        help=SPLIT_HELP,
    )
    parser.add_argument(
        "--name",
        nargs="+",
        metavar="NAME",
        help="one for each checkpoint (FOLDER/FILE of the checkpoint)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (a GPU where there is one)")
    parser.add_argument(
        "--bootstrap", type=positive, default=10_000, metavar="B", help="resamples (10000)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the bootstrap (0)")
    parser.add_argument(
        "--f1-label",
        metavar="NAME",
        help="label whose F1 is shown (of two labels: 1 of 0 and 1, the greater of other numbers, "
        "the alphabetically later of words; of more than two: the mean over all, macro F1)",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="write every example's prediction and probabilities, tab-separated",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write all scores, the whole confusion table, settings and checksums",
    )
    parser.add_argument(
        "--glue-submission",
        type=Path,
        metavar="FOLDER",
        help="write the leaderboard's file of --task there; labels are not looked at",
    )
    parser.add_argument(
        "--task",
        metavar="TASK",
        help="of the submission: CoLA, SST-2, MRPC, QQP, QNLI, RTE, WNLI, MNLI-m, MNLI-mm, AX "
        "(the diagnostic set); MNLI is one of its two by the split: test or test1",
    )
    add_sts_options(parser)
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)
    options.checkpoints = [find_checkpoint(path) for path in options.checkpoints]
    names = _names(options)
    if options.sts:
        with _quiet():
            evaluate_sts(options, names)
        return 0
    refuse(options, STS_OPTIONS, "goes with --sts")
    if options.data is None:
        raise ValueError("--data OUT is required, or --sts DIR")
    if (options.glue_submission is None) != (options.task is None):
        raise ValueError("--glue-submission and --task go together")
    if options.glue_submission and len(options.checkpoints) > 1:
        raise ValueError("--glue-submission takes one checkpoint")

    from scl_fairseq.data.binarized import default_split, has_labels, open_binarized
    from scl_fairseq.inference.submission import plan_submission
    from scl_fairseq.metrics import f1_class

    needs_labels = not (options.predictions or options.glue_submission)
    options.split = options.split or default_split(options.data, needs_labels)
    data = open_binarized(options.data, (options.split,), needs_labels=False)
    f1_class(data.labels, options.f1_label)  # or an error, before models run
    submission = None
    if options.glue_submission:
        submission = plan_submission(data, options.split, options.task)
    elif not (options.predictions or has_labels(options.data, options.split)):
        raise ValueError(
            f"{options.data}: {options.split} has no labels to score against; --predictions or "
            "--glue-submission need none"
        )
    with _quiet():
        evaluation = _evaluate(options, data, names)
    _report(options, evaluation, submission)
    return 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the configuration of each model that fairseq logs, and its libraries' warnings."""
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _names(options: argparse.Namespace) -> list[str]:
    paths = options.checkpoints
    names = options.name or [f"{path.resolve().parent.name}/{path.name}" for path in paths]
    if len(names) != len(paths):
        raise ValueError(f"{len(names)} --name for {len(paths)} checkpoints")
    if len(set(names)) < len(names):
        raise ValueError("two checkpoints have the same name: tell them apart with --name")
    for name in names:
        if not name.isprintable() or not name.strip():
            raise ValueError(f"--name {name!r} cannot be a heading")
    return names


def _evaluate(
    options: argparse.Namespace, data: BinarizedData, names: Sequence[str]
) -> SplitEvaluation:
    from scl_fairseq.inference.devices import find_device
    from scl_fairseq.inference.split_evaluation import evaluate
    from scl_fairseq.inference.split_predictions import predict_split

    device = find_device(options.device)
    found = []
    with bar_of("examples") as show:
        for place, (name, path) in enumerate(zip(names, options.checkpoints, strict=True)):
            advance = part_of(show, place, len(names))
            predictions = predict_split(path, data, options.split, device, advance)
            found.append((name, path, predictions))
    numbers = options.bootstrap, options.seed
    return evaluate(data, options.split, found, str(device), *numbers, options.f1_label)


def _report(
    options: argparse.Namespace, evaluation: SplitEvaluation, submission: Submission | None
) -> None:
    from scl_fairseq.experiments.evaluation_tables import text
    from scl_fairseq.files import write_text

    if evaluation.has_labels:
        print(text(evaluation), end="")
    else:
        print(f"{options.data}: {options.split} has no labels, so there are no scores")
    written = []
    if options.predictions:
        written.append((options.predictions, evaluation.predictions_tsv()))
    if options.json:
        written.append((options.json, evaluation.as_json()))
    if submission:
        content = submission.text(evaluation.checkpoints[0].predictions.predictions)
        written.append((options.glue_submission / submission.name, content))
    for path, content in written:
        write_text(path, content)
        print(f"wrote {path}")
    if submission and submission.note:
        print(f"note: {submission.note}")


if __name__ == "__main__":
    sys.exit(main())
