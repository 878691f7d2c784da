"""Both sides of ``benchmarks.sweep``: ``scl-sweep``, and the loop that does the same."""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pipelines import ROOT, Failed
from scl_fairseq.experiments.worker_pool import visible_gpus

CPU, CUDA = "cpu", "cuda"


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Variables of all processes of both sides: the same threads, and one GPU or none."""
    gpus = visible_gpus(1) if options.device == CUDA else [""]
    threads = str(options.threads)
    return {**os.environ, "OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": gpus[0]}


@dataclass(frozen=True)
class Cost:
    """Seconds of some trials.

    Attributes:
        wall: on the clock.
        cpu: of all processes, system time included.
    """

    wall: float
    cpu: float


def timed(work: Callable[[], None]) -> Cost:
    """What child processes cost that ``work`` starts and waits for."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.monotonic() - started, cpu)


def run_sweep(options: argparse.Namespace, config: Path, out: Path, changes: Sequence[str]) -> None:
    """Trials by scl-sweep."""
    workers = ["--cpu", "--workers"] if options.device == CPU else ["--workers-per-gpu"]
    done = subprocess.run(
        [
            *[sys.executable, "-m", "scl_fairseq.cli.sweep", config, "--out", out],
            *[*workers, str(options.workers), "--threads", str(options.threads)],
            *(word for change in changes for word in ("--set", change)),
        ],
        cwd=ROOT,
        env=environment(options),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        raise Failed(done.stderr[-2000:])


def run_loop(options: argparse.Namespace, folder: Path, loop: Path, records: list[dict]) -> None:
    """The same trials as a loop; leaves ``train.log`` and ``predictions`` of each in ``loop``."""
    with ThreadPoolExecutor(options.workers) as pool:
        for _ in pool.map(lambda record: run_trial(options, folder, loop, record), records):
            pass


def run_trial(options: argparse.Namespace, folder: Path, loop: Path, record: dict) -> None:
    """One turn of the loop."""
    place = loop / record["trial"]
    place.mkdir(parents=True)
    arguments = shlex.split(record["command"])[1:]
    arguments[arguments.index("--save-dir") + 1] = str(place)
    train = [str(Path(sys.executable).parent / "fairseq-train"), *arguments]
    setting = record["setting"]
    sample = folder / "text" / setting["task"] / f"sample{setting['sample']}"
    evaluate = [sys.executable, "-m", "benchmarks.evaluate_checkpoint"]
    evaluate += [place / "checkpoint_best.pt", record["data"]["path"], sample, setting["task"]]
    evaluate += [folder / "encoder" / "vocab.txt"]
    for name, step in (("train.log", train), ("predictions", evaluate)):
        with open(place / name, "w", encoding="utf-8") as file:
            done = subprocess.run(
                step,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment(options),
                check=False,
            )
        if done.returncode != 0:
            raise Failed(f"{step[0]} failed:\n{(place / name).read_text('utf-8')[-2000:]}")


def compare(loop: Path, out: Path, record: dict) -> tuple[int, int, int, int]:
    """Equal and all validation accuracies, equal and all predictions of a trial."""
    place = loop / record["trial"]
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
