"""Few-shot trials: ``scl-sweep`` against a loop of ``fairseq-train`` and evaluation.

    .venv/bin/python -m benchmarks.sweep --quick        or        ... --help

Both run the same trials of the embedded encoder with the same options, as many processes and
threads: CE and CE+SCL on few-shot samples. The loop runs, for each trial, the ``fairseq-train``
that the sweep has recorded (it writes a checkpoint, without optimizer state, only when validation
accuracy is the best so far), then a process that loads this checkpoint and predicts the test set.
For each size, number of validations and task the two take turns. Every validation accuracy and
every prediction of the two are compared. Ratios are given in CPU seconds, which other work on the
machine disturbs less, and in wall time. With ``--device cuda`` both share the first GPU. Prints a
table and, with ``--record``, writes it to ``benchmarks/results/sweep.md``, for a GPU to
``sweep-cuda.md``, with machine and versions.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.device import described, result_file
from benchmarks.few_shot_samples import SHARED, write_binarised_samples
from benchmarks.sweep_sides import CPU, CUDA, Cost, compare, run_loop, run_sweep, timed
from scl_fairseq.checkpoints.embedded import convert_encoder
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text

PROG = "benchmarks.sweep"
PRECISIONS = {
    "float32": {},
    "fp16": {"fp16": True, "fp16-init-scale": 4},
    "bf16": {"bf16": True},
    "amp": {"amp": True},
}
MIN_RATIO, TARGET_SIZE = 3, 20
QUICK = {
    **{"epochs": 2, "samples": 1, "tasks": ["SST-2"]},
    **{"num_examples": [20], "validations": [2], "repetitions": 1},
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Time few-shot trials by scl-sweep and by a loop of fairseq-train and evaluation.",
        f"python -m {PROG} --record",
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=("SST-2", "RTE"), default=["SST-2"])
    add("--samples", type=positive, default=3, help="few-shot samples of each task (3)")
    add("--num-examples", nargs="+", type=positive, default=[20, 100], metavar="N")
    add("--epochs", type=positive, default=10, help="of each trial (10)")
    add(
        "--validations",
        nargs="+",
        type=positive,
        default=[10, 1],
        metavar="V",
        help="how often a trial is validated, in equal steps, the last at its end (10 and 1)",
    )
    add("--repetitions", type=positive, default=3, metavar="R", help="of each comparison (3)")
    add("--options", type=json.loads, default={}, help="of fairseq-train, as JSON, over the others")
    add("--device", choices=(CPU, CUDA), default=CPU, help="cpu (default), or the first GPU")
    add("--precision", choices=PRECISIONS, default="float32", help="of trainings on a GPU")
    add(
        "--workers",
        type=positive,
        default=os.cpu_count(),
        help="processes on the device (all cores)",
    )
    add("--threads", type=positive, default=1, help="of each process (1)")
    add("--glue-dir", type=Path, default=SHARED, help="holds SST-2/ and RTE/")
    add("--quick", action="store_true", help="few trials, to see that it works (two minutes)")
    add("--record", action="store_true", help="write sweep.md or sweep-cuda.md in results/")
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args(argv)
    for count in options.validations:
        if options.epochs % count:
            parser.error(f"--validations {count}: does not divide the {options.epochs} epochs")
    if options.device == CPU and PRECISIONS[options.precision]:
        parser.error(f"--precision {options.precision}: needs --device {CUDA}")
    if options.device == CUDA and not _has_gpu():
        parser.error(f"--device {CUDA}: there is no GPU")
    return options


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def prepare(options: argparse.Namespace, folder: Path, size: int) -> Path:
    """Samples of a size, encoder and binarised data; returns the configuration of the sweep."""
    convert_encoder(folder / "encoder")
    for name in options.tasks:
        write_binarised_samples(
            name, options.glue_dir, folder, folder / "encoder", size, options.samples
        )
    config = folder / "sweep.yaml"
    values = {
        "data": f"{folder}/bin/{{task}}/{{sample}}",
        "encoder": "embedded",
        "warmup-ratio": 0.06,
        "grid": {
            "task": options.tasks,
            "sample": list(range(options.samples)),
            "scl-lambda": [0, 0.9],
        },
        "options": {
            "head-pooling": "mean",
            "scl-packed": True,
            "scl-temperature": 0.3,
            "seed": 1,
            "batch-size": 16,
            "lr": 1e-4,
            "max-epoch": options.epochs,
            "optimizer": "fused_adamw",
            "weight-decay": 0.1,
            **PRECISIONS[options.precision],
            **options.options,
        },
    }
    write_text(config, json.dumps(values, allow_nan=False))  # JSON is YAML
    return config


@dataclass(frozen=True)
class Comparison:
    """Some trials by both sides: what they cost, and what was equal (see ``compare``)."""

    trials: int
    looped: Cost
    swept: Cost
    equal: tuple[int, int, int, int]


def one_comparison(
    options: argparse.Namespace, folder: Path, config: Path, changes: Sequence[str]
) -> Comparison:
    """Both sides, one after the other."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out, loop = Path(place) / "sweep", Path(place) / "loop"
        swept = timed(lambda: run_sweep(options, config, out, changes))
        lines = (out / "results.jsonl").read_text("utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        looped = timed(lambda: run_loop(options, folder, loop, records))
        found = [compare(loop, out, record) for record in records]
    return Comparison(len(records), looped, swept, tuple(map(sum, zip(*found, strict=True))))


def measure(
    options: argparse.Namespace, folder: Path
) -> Iterator[tuple[int, int, str, list[Comparison]]]:
    """Size, number of validations, task, and the repetitions of their comparison."""
    for size in options.num_examples:
        place = folder / str(size)
        config = prepare(options, place, size)
        for count, task in itertools.product(options.validations, options.tasks):
            interval = options.epochs // count
            changes = (f'grid.task=["{task}"]', f"options.validate-interval={interval}")
            found = [
                one_comparison(options, place, config, changes) for _ in range(options.repetitions)
            ]
            yield size, count, task, found


HEADER = [
    *["N", "validations", "task", "trials"],
    *["loop, CPU s a trial", "scl-sweep, CPU s a trial", "ratio"],
    *["loop, trials/h", "scl-sweep, trials/h", "ratio", "target"],
]


def row(size: int, count: int, task: str, found: Sequence[Comparison]) -> list[str]:
    """A line of the table: medians of the repetitions, and the spread of their ratios."""
    trials = found[0].trials
    target = f"≥ {MIN_RATIO}" if size == TARGET_SIZE else ""
    seconds = [(one.looped.cpu / trials, one.swept.cpu / trials) for one in found]
    hourly = [(3600 * trials / one.looped.wall, 3600 * trials / one.swept.wall) for one in found]
    return [
        *[str(size), str(count), task, str(trials)],
        *[*_medians(seconds), _spread([looped / swept for looped, swept in seconds])],
        *[*_medians(hourly), _spread([swept / looped for looped, swept in hourly])],
        target,
    ]


def _medians(pairs: Sequence[tuple[float, float]]) -> list[str]:
    return [f"{statistics.median(column):.1f}" for column in zip(*pairs, strict=True)]


def _spread(ratios: Sequence[float]) -> str:
    """The median, and where there are several the least and the greatest."""
    ends = f" ({min(ratios):.2f}–{max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.2f}{ends}"


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse(argv)
    table, equal = [], (0, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        for *labels, found in measure(options, Path(folder)):
            table.append(row(*labels, found))
            equal = tuple(map(sum, zip(equal, *(one.equal for one in found), strict=True)))
            print(markdown(HEADER, table), flush=True)
    epochs, all_epochs, examples, all_examples = equal
    name = "fairseq-fixed" if sys.version_info >= (3, 11) else "fairseq"
    further = f", `{json.dumps(options.options)}`" if options.options else ""
    line = shlex.join(["python", "-m", PROG, *(sys.argv[1:] if argv is None else argv)])
    text = (
        f"`{line}`\n\n"
        f"Trials of the embedded encoder: {options.samples} samples, CE and CE+SCL, "
        f"{options.epochs} epochs of batches of 16, head on the mean, learning rate 1e-4, "
        f"`--scl-packed` and `--optimizer fused_adamw`{further}, {options.precision}, the same on "
        f"both sides; {options.workers} processes of {options.threads} thread each. A trial is "
        "validated on a "
        "whole validation set as often as the table says, and its best epoch on a whole test set "
        "(436 sentences each of SST-2, 139 and 138 pairs of RTE). CPU seconds are of all "
        f"processes, start-up included. Repetitions: {options.repetitions}, the two sides taking "
        "turns; of several the medians, with the spread of the ratios.\n\n"
        f"{markdown(HEADER, table)}\n\n"
        f"Equal to the loop's: {epochs} of {all_epochs} validation accuracies, {examples} of "
        f"{all_examples} predictions for test sentences.\n\n"
        f"{described(options.device)}; torch "
        f"{importlib.metadata.version('torch')}, {name} {importlib.metadata.version(name)}, Python "
        f"{platform.python_version()}.\n"
    )
    print(f"\n{text}")
    if options.record:
        write_text(result_file("sweep", options.device), f"# Few-shot trials\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
