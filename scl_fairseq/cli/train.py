"""``scl-train``: from a table of texts to a classifier, in one command."""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import add_table_options, at_least, positive, share
from scl_fairseq.training.choices import CE_SCL, DEV_SHARE, EMBEDDED, LOSSES

if TYPE_CHECKING:
    from scl_fairseq.training.train import Job, Trained

PROG = "scl-train"


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Train a classifier of texts from a table, a folder of tables, GLUE's files or binarised\n"
        "data: reads, splits where there is no dev set, chooses the settings by what it sees,\n"
        "trains by fairseq-train's own code, evaluates. Every option of fairseq-train may follow.\n"
        "The same command goes on where it was interrupted.",
        f"{PROG} reviews.csv --text review --label opinion --out model\n"
        f"  {PROG} pairs.tsv --text question answer --label fits --out model --loss ce\n"
        f"  {PROG} glue/SST-2 --task SST-2 --out model --encoder roberta-base --max-epoch 3",
    )
    parser.allow_abbrev = False  # what follows may be fairseq-train's
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help=".csv, .tsv or .jsonl (perhaps .gz); a folder with train, dev and test of these; a "
        "folder of GLUE's files, with --task; or one that scl-preprocess wrote",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="the folder of the result"
    )
    parser.add_argument(
        "--text", nargs="+", default=(), metavar="COLUMN", help="of the texts, or two for pairs"
    )
    parser.add_argument("--label", metavar="COLUMN", help="of the classes")
    parser.add_argument("--task", metavar="TASK", help="of GLUE: SST-2, MRPC, RTE, ...")
    parser.add_argument(
        "--encoder",
        default=EMBEDDED,
        metavar="ENCODER",
        help=f"{EMBEDDED} (default: all-MiniLM-L6-v2 from its package); a folder or file that "
        "scl-convert made; a folder of Hugging Face or sentence-transformers, converted once",
    )
    parser.add_argument("--loss", choices=LOSSES, default=CE_SCL, help=f"({CE_SCL})")
    parser.add_argument("--seed", type=at_least(0), default=1, help="of draw and training (1)")
    parser.add_argument(
        "--dev-share",
        type=share,
        metavar="SHARE",
        help=f"part of train that becomes dev where there is none ({DEV_SHARE})",
    )
    parser.add_argument(
        "--folds",
        type=at_least(2),
        metavar="K",
        help="cross-validate too: K more trainings, each scored on rows that it has not seen",
    )
    parser.add_argument(
        "--max-length",
        type=at_least(5),
        metavar="N",
        help="positions to which longer texts are cut (those of the encoder)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="T",
        help="to compute with (OMP_NUM_THREADS; else half of the cores)",
    )
    parser.add_argument("--dry-run", action="store_true", help="check, tell the plan, and stop")
    parser.add_argument(
        "--cpu", action="store_true", help="train on the CPU although there is a GPU"
    )
    add_table_options(parser.add_argument_group("how tables are read"))
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options, further = _parser().parse_known_args(argv)
    threads = _threads(options)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is there: as the printed line says
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    from scl_fairseq.training.inputs import look_at
    from scl_fairseq.training.result import check_place

    inputs = look_at(
        options.data, options.text, options.label, options.task, options.dev_share,
        options.columns or (), options.quoting,
    )  # fmt: skip
    out = options.out.absolute()
    check_place(out)

    from scl_fairseq.cli.train_display import Display
    from scl_fairseq.training import running  # noqa: F401 (imports fairseq)
    from scl_fairseq.training.plan import Wanted
    from scl_fairseq.training.train import Job, plan_only, train

    gc.freeze()  # what is imported stays: no collection need look at it
    wanted = Wanted(options.loss, options.seed, threads, _on_cpu(options), tuple(further))
    job = Job(inputs, wanted, out, options.encoder, options.max_length, folds=options.folds)
    with Display() as display:
        watch = display.watch(further)
        if options.dry_run:
            with tempfile.TemporaryDirectory() as scratch:
                plan_only(job, watch, Path(scratch))
            return 0
        trained = train(job, watch)
    _report(options, job, trained)
    return 0


def _threads(options: argparse.Namespace) -> int:
    from scl_fairseq.data.parallel import available_cores

    told = os.environ.get("OMP_NUM_THREADS", "")
    # Half of them: threads wait for each other busily, at great cost where anything else runs.
    usual = max(1, available_cores() // 2)
    return options.threads or (int(told) if told.isdigit() and int(told) else usual)


def _on_cpu(options: argparse.Namespace) -> bool:
    import torch

    return options.cpu or not torch.cuda.is_available()


def _report(options: argparse.Namespace, job: Job, trained: Trained) -> None:
    scores: dict[str, Any] = trained.record["scores"]
    if trained.was_there:
        print(f"{options.out} was trained by an earlier call of this command\n")
    if scores["split"] == "valid":
        print("there is no labelled test set: these are scores on dev, by which the epoch was "
              "chosen, so that they are a little too high\n")  # fmt: skip
    print(scores["table"])
    if "folds_summary" in trained.record:
        from scl_fairseq.training.folds import told

        print(told(trained.record["folds_summary"]) + "\n")
    folder = shlex.quote(str(options.out))
    print("to go on:")
    print(f"  scl-predict {folder} --input new.csv --format jsonl    (a table like that of train)")
    print(f"  scl-embed {folder} < sentences.txt > vectors.npy")
    print(f"  scl-evaluate {folder} --data {shlex.quote(str(trained.data.folder))}")
    print(f'  python: import scl_fairseq; scl_fairseq.load("{options.out}").predict(["..."])')


if __name__ == "__main__":
    sys.exit(main())
