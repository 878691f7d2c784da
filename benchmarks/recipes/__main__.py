"""``python -m benchmarks.recipes``: try settings on dev sets, and report."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest.encoders import encoders
from benchmarks.contest.machine import made_on
from benchmarks.contest.samples import Draw, Entrant
from benchmarks.recipes.arms import Arm, arms_of
from benchmarks.recipes.folders import binarised
from benchmarks.recipes.table import judged_of, table
from scl_fairseq.checkpoints.embedded import ABOUT_ENCODER
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.sweep import main as sweep
from scl_fairseq.cli.task_options import positive
from scl_fairseq.data.choices import TRUNCATE
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.experiments.settings import SYSTEM
from scl_fairseq.files import write_text
from scl_fairseq.training.recipes import WARMUP_RATIO

PROG = "benchmarks.recipes"
GLUE = ("SST-2", "QNLI", "MRPC", "RTE", "MNLI")
REVIEWS = "Yelp-2"
RESULT = Path(__file__).parent.parent / "results" / "recipes.md"
NOTES = """\
Accuracy in percent on a part of dev that trained and chose nothing, at most {judged} rows of a \
task; test sets are not read. All trainings of a sample have the same rows and the same seed, and \
are judged after their last epoch. Texts are cut at {length} tokens. A gain is the mean over tasks \
of paired differences to the base, in percent points; its 95 % interval is over samples and rows \
(crossed random effects). Of many intervals some leave 0 out by chance."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Try settings of fine-tuning, one change at a time, on a part of each task's dev set.\n"
        "Run again, the command goes on where it was.",
        f"python -m {PROG} --glue-dir glue --yelp-dir yelp --num-examples 20 --workers 2",
    )
    add = parser.add_argument
    add("--glue-dir", type=Path, metavar="DIR", help=f"holds {', '.join(GLUE)}")
    add("--yelp-dir", type=Path, metavar="DIR", help="train.csv and test.csv of Yelp-2")
    add("--tasks", nargs="+", metavar="TASK", help="only these of them")
    add("--num-examples", nargs="+", type=positive, default=[20, 100, 1000], metavar="N",
        help="training examples (20 100 1000)")  # fmt: skip
    add("--num-samples", type=positive, default=5, metavar="S", help="of each (5)")
    add("--arms", nargs="+", metavar="NAME", help="only these, by their names in the table")
    add("--most-judged", type=positive, default=200, metavar="M", help="rows of dev (200)")
    add("--max-positions", type=positive, default=64, metavar="T", help="tokens of a text (64)")
    add("--seed", type=positive, default=1, help="of the draw (1)")
    add("--workers", type=positive, default=1, metavar="W", help="of one thread each (1)")
    add("--out", type=Path, default=Path("outputs/recipes"), metavar="DIR", help="receives a sweep "
        "for each N (outputs/recipes)")  # fmt: skip
    add("--only-report", action="store_true", help="run nothing, tell what is done")
    add("--record", action="store_true", help=f"write {RESULT.name} in results/")
    return parser.parse_args(argv)


def entrants_of(options: argparse.Namespace) -> list[Entrant]:
    """The tasks that are there.

    Raises:
        ValueError: there are none, or one that was asked for is missing.
    """
    found = []
    if options.glue_dir:
        there = [name for name in GLUE if (options.glue_dir / name).is_dir()]
        found += [Entrant(name, TASKS[name], options.glue_dir / name) for name in there]
    if options.yelp_dir:
        found.append(Entrant(REVIEWS, TASKS[REVIEWS], options.yelp_dir))
    names = [one.name for one in found]
    missing = [name for name in options.tasks or () if name not in names]
    if missing or not found:
        raise ValueError(f"no task {', '.join(missing)}: name --glue-dir and --yelp-dir")
    return [one for one in found if options.tasks is None or one.name in options.tasks]


def configuration(
    arms: Sequence[Arm], tasks: Sequence[str], size: int, samples: int, out: Path, encoder: Path
) -> dict[str, Any]:
    """The sweep: sample by sample, so that a search that is stopped early is still balanced."""
    options = {arm.name: arm.options("mean") for arm in arms}
    first = next(iter(options.values()))
    shared = {
        key: value
        for key, value in first.items()
        if all(one.get(key, ...) == value for one in options.values())
    }
    own = {
        name: {key: value for key, value in one.items() if key not in shared}
        for name, one in options.items()
    }
    return {
        "name": f"recipes at N = {size}",
        "data": f"{out.resolve()}/bin/{{task}}/{{N}}/sample{{sample}}",
        "warmup-ratio": WARMUP_RATIO,
        "grid": [
            {"task": list(tasks), "N": [size], "sample": [index], SYSTEM: [arm.name]}
            for index in range(samples)
            for arm in arms
        ],
        "options": {**shared, "finetune-from-model": str(encoder / "model.pt")},
        "overrides": [
            *({"when": {SYSTEM: name}, "options": one} for name, one in own.items()),
            *({"when": {"sample": i}, "options": {"seed": i + 1}} for i in range(samples)),
        ],
    }


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, 1 where a training failed, 2 for bad input)."""
    options = parse(argv)
    entrants = entrants_of(options)
    tasks = [one.name for one in entrants]
    encoder = Path(encoders(options.out)["fairseq_encoder"])
    failed, parts = 0, []
    for size in options.num_examples:
        arms = [arm for arm in arms_of(size) if options.arms is None or arm.name in options.arms]
        folder = options.out / f"N{size}"
        if not options.only_report:
            wanted = Draw(size, options.num_samples, options.seed, most_test=1000)
            encoding = Settings("wordpiece", encoder, options.max_positions, TRUNCATE)
            for entrant in entrants:
                binarised(entrant, wanted, options.out, options.most_judged, encoding)
            values = configuration(arms, tasks, size, options.num_samples, options.out, encoder)
            config = options.out / f"N{size}.yaml"
            write_text(config, json.dumps(values, indent=1, allow_nan=False))  # JSON is YAML
            line = [config, "--out", folder, "--cpu", "--workers", options.workers, "--threads", 1]
            failed |= sweep([str(word) for word in line])
        parts += [f"## N = {size}", table([arm.name for arm in arms], tasks, judged_of(folder))]
    notes = NOTES.format(judged=options.most_judged, length=options.max_positions)
    words = sys.argv[1:] if argv is None else argv
    line = f"`python -m {PROG} {shlex.join(words)}`"
    text = "\n\n".join([line, ABOUT_ENCODER, notes, *parts, made_on()])
    print(text)
    if options.record:
        write_text(RESULT, f"# The search of recipes\n\n{text}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
