"""``python -m benchmarks.contest``: run trials, and report."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest.contenders import CONTENDERS, SETFIT_ENVIRONMENT
from benchmarks.contest.encoders import encoders
from benchmarks.contest.outcomes import Outcomes
from benchmarks.contest.own_data import own_entrant
from benchmarks.contest.records import RESULTS, Records
from benchmarks.contest.report import report
from benchmarks.contest.running import run_all
from benchmarks.contest.samples import Draw, Entrant
from benchmarks.contest.trials import trials_of
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import CUSTOM_OPTIONS, add_custom_options, positive, refuse
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.files import write_text

PROG = "benchmarks.contest"
RESULT = Path(__file__).parent.parent / "results" / "contest.md"
GLUE = ("SST-2", "QNLI", "MRPC", "RTE")
REVIEWS = "Yelp-2"
SIZES = {20: 10, 100: 10, 1000: 5}  # training examples -> samples
DEFAULT_SAMPLES = 10
QUICK = {"num_examples": [20], "num_samples": [2], "most_test": 100}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "What a user would pick instead: logistic regression on frozen vectors, SetFit and\n"
        "Hugging Face's fine-tuning beside CE and CE+SCL of this project, on the same few-shot\n"
        "samples with the same encoder, one thread each. Run again, the command goes on where it\n"
        "was.",
        f"python -m {PROG} --glue-dir glue --yelp-dir yelp --record\n"
        f"  python -m {PROG} --data-dir TREC=trec --num-examples 100 --contenders frozen scl",
    )
    add = parser.add_argument
    add("--glue-dir", type=Path, metavar="DIR", help=f"holds {', '.join(GLUE)}; what is missing "
        "is left out")  # fmt: skip
    add("--yelp-dir", type=Path, metavar="DIR", help="train.csv and test.csv of Yelp-2")
    add(
        "--data-dir", nargs="+", default=[], metavar="[NAME=]DIR",
        help="tasks of your own, each a folder of tables; what they share is told below, and "
        "labels are found in train where --labels does not name them",
    )  # fmt: skip
    add("--tasks", nargs="+", metavar="TASK", help="only these of them")
    add("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
        help=f"only these of {', '.join(CONTENDERS)}")  # fmt: skip
    add("--num-examples", nargs="+", type=positive, default=list(SIZES), metavar="N",
        help=f"training examples ({' '.join(map(str, SIZES))})")  # fmt: skip
    add("--num-samples", nargs="+", type=positive, metavar="S", help="of all sizes, or of each "
        f"({', '.join(f'{count} of N = {size}' for size, count in SIZES.items())})")  # fmt: skip
    add("--most-test", type=positive, default=1000, metavar="M", help="test rows at most (1000)")
    add("--seed", type=positive, default=1, help="of the draw (1)")
    add("--workers", type=positive, default=1, metavar="W", help="trials at a time, each of one "
        "thread (1)")  # fmt: skip
    add("--out", type=Path, default=Path("outputs/contest"), metavar="DIR", help="receives "
        "results.jsonl, predictions and samples (outputs/contest)")  # fmt: skip
    add("--costs-from", type=Path, metavar="DIR", help="take CPU seconds from the trials in this "
        "--out of another run, as of one sample on an idle machine")  # fmt: skip
    add("--only-report", action="store_true", help="run nothing, tell what is done")
    add("--quick", action="store_true", help="few small trials, to see that it works")
    add("--record", action="store_true", help=f"write {RESULT.name} in results/")
    add_custom_options(parser, "--data-dir")
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args(argv)


def entrants_of(options: argparse.Namespace) -> list[Entrant]:
    """The tasks that the options name.

    Raises:
        ValueError, OSError: there are none, or one cannot be read.
    """
    if not options.data_dir:
        refuse(options, CUSTOM_OPTIONS, "goes with --data-dir")
    found = []
    if options.glue_dir:
        there = [name for name in GLUE if (options.glue_dir / name).is_dir()]
        if not there:
            raise FileNotFoundError(f"{options.glue_dir} has none of {', '.join(GLUE)}")
        found += [Entrant(name, TASKS[name], options.glue_dir / name) for name in there]
    if options.yelp_dir:
        found.append(Entrant(REVIEWS, TASKS[REVIEWS], options.yelp_dir))
    found += [own_entrant(named, options) for named in options.data_dir]
    names = [entrant.name for entrant in found]
    if not found:
        raise ValueError("no task: name --glue-dir, --yelp-dir or --data-dir")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two tasks are called {name}; name one NAME=DIR")
    for name in options.tasks or ():
        if name not in names:
            raise ValueError(f"--tasks {name}: expected {', '.join(names)}")
    return [one for one in found if options.tasks is None or one.name in options.tasks]


def draws_of(options: argparse.Namespace) -> list[Draw]:
    """The sizes that the options name, with their numbers of samples.

    Raises:
        ValueError: there are not as many numbers as sizes.
    """
    sizes = list(dict.fromkeys(options.num_examples))
    counts = options.num_samples or [SIZES.get(size, DEFAULT_SAMPLES) for size in sizes]
    if len(counts) == 1:
        counts = counts * len(sizes)
    if len(counts) != len(sizes):
        raise ValueError(
            f"--num-samples: {len(counts)} numbers, expected one, or one for each of {len(sizes)} N"
        )
    return [
        Draw(size, count, options.seed, options.most_test)
        for size, count in zip(sizes, counts, strict=True)
    ]


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, 1 where a trial failed, 2 for bad input)."""
    options = parse(argv)
    draws = draws_of(options)
    if options.costs_from and not (options.costs_from / RESULTS).is_file():
        raise FileNotFoundError(f"--costs-from {options.costs_from}: there is no {RESULTS} in it")
    entrants = entrants_of(options)
    for name in options.contenders:
        python = CONTENDERS[name].python
        if not options.only_report and not python.exists():
            raise FileNotFoundError(
                f"{name} needs an environment in {SETFIT_ENVIRONMENT}: run scripts/setup_setfit.sh "
                "or leave it out with --contenders"
            )
    trials = trials_of(entrants, draws, options.contenders, options.out)
    records, failed = Records(options.out), 0
    if not options.only_report:
        failed = run_all(trials, encoders(options.out), records, options.workers)
    words = sys.argv[1:] if argv is None else argv
    line = f"python -m {PROG} {shlex.join(words)}".strip()
    apart = Records(options.costs_from) if options.costs_from else None
    outcomes = Outcomes(trials, records, apart)
    text = report(outcomes, line, options.most_test, costs_apart=apart is not None)
    print(f"\n{text}")
    if options.record:
        write_text(RESULT, f"# The contest\n\n{text}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
