"""Few-shot trials: ``scl-sweep`` against a loop of ``fairseq-train`` and evaluation.

    .venv/bin/python -m benchmarks.sweep --quick        or        ... --help

Both run the same trials of the embedded encoder with as many processes and threads: CE and CE+SCL
on few-shot samples of SST-2 and RTE, validated after every epoch. The loop runs, for each trial,
the ``fairseq-train`` that the sweep has recorded (it writes a checkpoint, without optimizer state,
only when validation accuracy is the best so far), then a process that loads this checkpoint and
predicts the test set. Task by task the two take turns. At the end every validation accuracy and
every prediction of the two are compared. Prints a table and, with ``--record``, writes it to
``benchmarks/results/sweep.md`` with machine and versions.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.few_shot_samples import SHARED, write_binarised_samples
from benchmarks.pipelines import ROOT, Failed
from scl_fairseq.checkpoints.embedded import convert_encoder
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text

PROG = "benchmarks.sweep"
RESULT = Path(__file__).parent / "results" / "sweep.md"
MIN_RATIO = 3
QUICK = {"epochs": 2, "samples": 1, "tasks": ["SST-2"]}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Time few-shot trials by scl-sweep and by a loop of fairseq-train and evaluation.",
        f"python -m {PROG} --record",
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=("SST-2", "RTE"), default=["SST-2", "RTE"])
    add("--samples", type=positive, default=3, help="few-shot samples of each task (3)")
    add("--num-examples", type=positive, default=20, help="training sentences (20)")
    add("--epochs", type=positive, default=30, help="of each trial (30)")
    add("--workers", type=positive, default=os.cpu_count(), help="processes (all cores)")
    add("--threads", type=positive, default=1, help="of each process (1)")
    add("--glue-dir", type=Path, default=SHARED, help="holds SST-2/ and RTE/")
    add("--quick", action="store_true", help="few trials, to see that it works (two minutes)")
    add("--record", action="store_true", help=f"write {RESULT.name} in results/")
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args(argv)


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """Samples, encoder and binarised data; returns the configuration of the sweep."""
    convert_encoder(folder / "encoder")
    for name in options.tasks:
        write_binarised_samples(
            name,
            options.glue_dir,
            folder,
            folder / "encoder",
            options.num_examples,
            options.samples,
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
            "scl-temperature": 0.3,
            "seed": 1,
            "batch-size": 16,
            "lr": 5e-5,
            "max-epoch": options.epochs,
            "weight-decay": 0.1,
            "adam-betas": "(0.9,0.98)",
            "adam-eps": 1e-6,
        },
    }
    write_text(config, json.dumps(values, allow_nan=False))  # JSON is YAML
    return config


def run_sweep(options: argparse.Namespace, config: Path, out: Path, task: str) -> float:
    """Seconds of the trials of a task, by scl-sweep."""
    started = time.monotonic()
    done = subprocess.run(
        [
            *[sys.executable, "-m", "scl_fairseq.cli.sweep", config, "--out", out, "--cpu"],
            *["--workers", str(options.workers), "--threads", str(options.threads)],
            *["--set", f"grid.task=[{task}]"],
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        raise Failed(done.stderr[-2000:])
    return time.monotonic() - started


def run_loop(options: argparse.Namespace, folder: Path, records: Sequence[dict]) -> float:
    """Seconds of the same trials as a loop; leaves ``train.log`` and ``predictions`` of each."""
    started = time.monotonic()
    with ThreadPoolExecutor(options.workers) as pool:
        for _ in pool.map(lambda record: run_trial(options, folder, record), records):
            pass
    return time.monotonic() - started


def run_trial(options: argparse.Namespace, folder: Path, record: dict) -> None:
    """One turn of the loop."""
    place = folder / "loop" / record["trial"]
    place.mkdir(parents=True)
    arguments = shlex.split(record["command"])[1:]
    arguments[arguments.index("--save-dir") + 1] = str(place)
    train = [str(Path(sys.executable).parent / "fairseq-train"), *arguments]
    setting = record["setting"]
    sample = folder / "text" / setting["task"] / f"sample{setting['sample']}"
    evaluate = [sys.executable, "-m", "benchmarks.evaluate_checkpoint"]
    evaluate += [place / "checkpoint_best.pt", record["data"]["path"], sample, setting["task"]]
    evaluate += [folder / "encoder" / "vocab.txt"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    for name, step in (("train.log", train), ("predictions", evaluate)):
        with open(place / name, "w", encoding="utf-8") as file:
            done = subprocess.run(
                step, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, check=False
            )
        if done.returncode != 0:
            raise Failed(f"{step[0]} failed:\n{(place / name).read_text('utf-8')[-2000:]}")


def compare(folder: Path, out: Path, record: dict) -> tuple[int, int, int, int]:
    """Equal and all validation accuracies, equal and all predictions of a trial."""
    place = folder / "loop" / record["trial"]
    logged = [
        float(json.loads(line.partition("| INFO | valid | ")[2])["valid_accuracy"])
        for line in (place / "train.log").read_text("utf-8").splitlines()
        if "| INFO | valid | {" in line
    ]
    lines = (place / "predictions").read_text("utf-8").splitlines()
    looped = [line.split(" ", 1)[1] for line in lines if line.startswith("prediction ")]
    rows = (out / record["predictions"]).read_text("utf-8").splitlines()[1:]
    swept = [row.split("\t")[2] for row in rows]
    if len(logged) != len(record["valid_accuracy"]) or len(looped) != len(swept):
        raise Failed(f"trial {record['trial']}: the two sides have different numbers of results")
    return (
        sum(a == b for a, b in zip(logged, record["valid_accuracy"], strict=True)),
        len(logged),
        sum(a == b for a, b in zip(looped, swept, strict=True)),
        len(swept),
    )


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[list[str]], str]:
    """Rows of the table, and a sentence about what was equal."""
    config = prepare(options, folder)
    table, totals, seconds = [], [0, 0, 0, 0], [0.0, 0.0]
    trials = 0
    for task in options.tasks:
        out = folder / "sweep" / task
        swept = run_sweep(options, config, out, task)
        lines = (out / "results.jsonl").read_text("utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        looped = run_loop(options, folder, records)
        for record in records:
            totals = [a + b for a, b in zip(totals, compare(folder, out, record), strict=True)]
        table.append(row(task, len(records), looped, swept))
        seconds = [seconds[0] + looped, seconds[1] + swept]
        trials += len(records)
        print(markdown(HEADER, table), flush=True)
    if len(options.tasks) > 1:
        table.append(row("together", trials, *seconds))
    epochs, all_epochs, examples, all_examples = totals
    return table, (
        f"Equal to the loop's: {epochs} of {all_epochs} validation accuracies, {examples} of "
        f"{all_examples} predictions for test sentences."
    )


HEADER = ["task", "trials", "loop, trials/h", "scl-sweep, trials/h", "ratio", "target"]


def row(name: str, trials: int, looped: float, swept: float) -> list[str]:
    """A line of the table."""
    hourly = [f"{3600 * trials / seconds:.1f}" for seconds in (looped, swept)]
    return [name, str(trials), *hourly, f"{looped / swept:.2f}", f"≥ {MIN_RATIO}"]


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        table, equal = measure(options, Path(folder))
    name = "fairseq-fixed" if sys.version_info >= (3, 11) else "fairseq"
    text = (
        f"`python -m {PROG} --record`\n\n"
        f"Trials of the embedded encoder: N = {options.num_examples}, {options.samples} samples, "
        f"CE and CE+SCL, {options.epochs} epochs, validation after each, batch 16; "
        f"{options.workers} processes of {options.threads} thread each on both sides. One "
        "repetition, the two taking turns task by task.\n\n"
        f"{markdown(HEADER, table)}\n\n{equal}\n\n"
        f"CPU ({platform.machine()}), {os.cpu_count()} cores; torch "
        f"{importlib.metadata.version('torch')}, {name} {importlib.metadata.version(name)}, Python "
        f"{platform.python_version()}.\n"
    )
    print(f"\n{text}")
    if options.record:
        write_text(RESULT, f"# Few-shot trials\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
