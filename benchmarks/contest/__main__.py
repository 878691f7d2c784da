"""``python -m benchmarks.contest``: run trials, and report."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest.contenders import CONTENDERS
from benchmarks.contest.records import Records
from benchmarks.contest.running import run_all
from benchmarks.contest.samples import Draw, Entrant
from benchmarks.contest.trials import trials_of
from scl_fairseq.checkpoints.embedded import find_encoder
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.data.tasks import TASKS

PROG = "benchmarks.contest"
GLUE = ("SST-2", "QNLI", "MRPC", "RTE")
REVIEWS = "Yelp-2"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Logistic regression on frozen vectors, SetFit, Hugging Face's fine-tuning, CE and CE+SCL\n"
        "on the same few-shot samples with the same encoder, one thread each.",
        f"python -m {PROG} --glue-dir glue --yelp-dir yelp --out outputs/contest",
    )
    add = parser.add_argument
    add("--glue-dir", type=Path, metavar="DIR", help=f"holds {', '.join(GLUE)}")
    add("--yelp-dir", type=Path, metavar="DIR", help="train.csv and test.csv in Yelp-2's layout")
    add("--tasks", nargs="+", metavar="TASK", help="only these")
    add("--num-examples", nargs="+", type=positive, default=[20, 100, 1000], metavar="N")
    add("--num-samples", nargs="+", type=positive, default=[10, 10, 5], metavar="S")
    add("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    add("--seed", type=positive, default=1, help="of the draw (1)")
    add("--most-test", type=positive, default=1000, metavar="M", help="test rows at most (1000)")
    add("--workers", type=positive, default=1, metavar="W", help="trials at a time (1)")
    add("--out", type=Path, default=Path("outputs/contest"), metavar="DIR")
    return parser.parse_args(argv)


def entrants_of(options: argparse.Namespace) -> list[Entrant]:
    """The tasks that the options name."""
    found = []
    if options.glue_dir:
        found += [Entrant(name, TASKS[name], options.glue_dir / name) for name in GLUE]
    if options.yelp_dir:
        found.append(Entrant(REVIEWS, TASKS[REVIEWS], options.yelp_dir))
    wanted = options.tasks or [entrant.name for entrant in found]
    return [entrant for entrant in found if entrant.name in wanted]


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 1 where a trial failed)."""
    options = parse(argv)
    draws = [
        Draw(size, number, options.seed, options.most_test)
        for size, number in zip(options.num_examples, options.num_samples, strict=True)
    ]
    trials = trials_of(entrants_of(options), draws, options.contenders, options.out)
    encoder = {"encoder": str(find_encoder())}
    return int(run_all(trials, encoder, Records(options.out), options.workers) > 0)


if __name__ == "__main__":
    sys.exit(main())
