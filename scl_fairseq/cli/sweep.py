"""``scl-sweep``: a grid of fine-tunings."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive

if TYPE_CHECKING:
    from scl_fairseq.experiments.sweep_config import SweepConfig
    from scl_fairseq.experiments.worker_server import WorkerServer

PROG = "scl-sweep"
SOME_FAILED = 1
KEEP = ("none", "best", "all")
CLUSTERS = ("slurm", "local")


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Fine-tune once for every setting of a grid, in processes that stay warm: one or\n"
        "several on each GPU, or on a CPU. A trial is validated as fairseq-train does it, and\n"
        "evaluated on the test set with its best epoch's weights. Run again, the command skips\n"
        "what is done and tries again what has failed.",
        f"{PROG} examples/few_shot/sweep.yaml --out outputs/few-shot\n"
        f"  {PROG} sweep.yaml --out outputs/small --set grid.sample=[0,1] --workers 2 --threads 1",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="what to try")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        help="folder for results.jsonl (a line a trial), failures.jsonl and trials/",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="KEY=VALUE",
        help="change a value of the configuration, such as options.max-epoch=3; may be repeated",
    )
    parser.add_argument(
        "--keep",
        choices=KEEP,
        default="none",
        help="checkpoints that stay: none (default), the best of each trial, or all that "
        "fairseq-train writes",
    )
    parser.add_argument("--cpu", action="store_true", help="leave GPUs alone")
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="K",
        help="processes; default: one for each GPU, or one on a CPU",
    )
    parser.add_argument(
        "--workers-per-gpu",
        type=_per_gpu,
        metavar="K|auto",
        help="processes on each GPU (1); auto: after the first trial as many as its memory and the "
        "cores allow",
    )
    parser.add_argument(
        "--threads", type=positive, metavar="T", help="of each process on a CPU (cores / K)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check and list the trials, those of two stages with their lines; no more",
    )
    cluster = parser.add_argument_group("on a cluster")
    cluster.add_argument(
        "--cluster",
        choices=CLUSTERS,
        help="submit jobs instead: to Slurm, or (to try it) as processes of this machine",
    )
    cluster.add_argument("--partition", help="of Slurm")
    cluster.add_argument("--gpus", type=positive, metavar="G", help="GPUs of a job (1 on Slurm)")
    cluster.add_argument("--cpus", type=positive, metavar="C", help="cores of a job (4 a GPU)")
    cluster.add_argument("--hours", type=float, metavar="H", help="time limit of a job (4)")
    cluster.add_argument(
        "--array-size",
        type=positive,
        metavar="A",
        help="jobs that run at the same time (32; local: 1)",
    )
    cluster.add_argument(
        "--trials-per-job", type=positive, metavar="N", help="trials that share a start (10)"
    )
    return parser


def _per_gpu(text: str) -> int | str:
    return text if text == "auto" else positive(text)


CLUSTER_ONLY = ("partition", "gpus", "cpus", "hours", "array_size", "trials_per_job")


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, 1 if trials have failed, 2 for bad input)."""
    options = _parser().parse_args(argv)
    _check(options)

    from scl_fairseq.experiments.sweep_config import read_config

    config = read_config(options.config, options.changes)

    on_cpu, runner, server = _runner(options)
    with server or contextlib.nullcontext():
        if server is not None and not options.dry_run:
            server.begin()  # it imports while this process does
        return _run(options, config, on_cpu, runner)


def _run(options: argparse.Namespace, config: SweepConfig, on_cpu: bool, runner: Callable) -> int:
    from scl_fairseq.experiments.sweep import commands, plan, run_sweep
    from scl_fairseq.experiments.sweep_display import SweepDisplay

    # fairseq's import sends everything to standard output; scl-convert shows its notes.
    logging.getLogger("scl_fairseq").setLevel(logging.WARNING)
    planned = plan(config, on_cpu)
    if options.dry_run:
        for trial in planned.trials:
            print(trial.id, trial.name)
            if trial.first:
                lines = commands(planned, trial, options.out, on_cpu, options.keep)
                print(*(f"    {line}" for line in lines), sep="\n")
        return 0
    with SweepDisplay() as display:
        done, failed = run_sweep(planned, options.out, options.keep, on_cpu, runner, display)
    print(f"{done} of {len(planned.trials)} trials have a result in {options.out}/results.jsonl")
    if failed:
        print(
            f"{PROG}: {failed} trials have failed ({options.out}/failures.jsonl says why); "
            "the same command tries them again",
            file=sys.stderr,
        )
        return SOME_FAILED
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.cluster is None:
        for name in CLUSTER_ONLY:
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} is for --cluster")
    if options.workers_per_gpu is not None and options.workers is not None:
        raise ValueError("--workers-per-gpu and --workers both say how many processes there are")
    if options.hours is not None and not 0 < options.hours < float("inf"):
        raise ValueError(f"--hours must be greater than 0, got {options.hours}")


def _runner(options: argparse.Namespace) -> tuple[bool, Callable, WorkerServer | None]:
    """Whether trials run on a CPU, what runs them, and what workers are copies of."""
    from scl_fairseq.experiments.worker_pool import make_slots, run_tasks, visible_gpus

    if options.cluster is not None:
        from scl_fairseq.experiments import cluster

        gpus = options.gpus or (1 if options.cluster == "slurm" and not options.cpu else 0)
        resources = cluster.Resources(
            cluster=options.cluster,
            folder=options.out / "cluster",
            partition=options.partition,
            gpus=0 if options.cpu else gpus,
            cpus=options.cpus or 4 * max(gpus, 1),
            hours=options.hours or 4,
            array_size=options.array_size or (32 if options.cluster == "slurm" else 1),
            trials_per_job=options.trials_per_job or 10,
            workers=options.workers,
            threads=options.threads,
            workers_per_gpu=options.workers_per_gpu,
        )
        _check_per_gpu(options, resources.gpus)
        return resources.gpus == 0, resources.run_tasks, None
    gpus = [] if options.cpu else visible_gpus(_count_gpus())
    _check_per_gpu(options, len(gpus))
    slots = make_slots(gpus, _cores(), options.workers, options.threads, options.workers_per_gpu)
    server = slots[0].server()
    return not gpus, lambda tasks, on_event: run_tasks(tasks, slots, on_event, server), server


def _check_per_gpu(options: argparse.Namespace, gpus: int) -> None:
    if options.workers_per_gpu is not None and not gpus:
        raise ValueError("--workers-per-gpu needs a GPU, and none is used; --workers is for a CPU")


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
