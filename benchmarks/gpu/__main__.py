"""Everything of the project on one GPU: that it is right, then how fast it is, in eight minutes.

    make gpu-check        or        .venv/bin/python -m benchmarks.gpu --help

Stages run one after the other, each in a process of its own with a budget of time: a crash or a
hang ends one stage, not the check. Each result is a line of ``results.jsonl`` in ``--out`` as soon
as it is there; what was skipped is one too. ``--record`` writes tables with card, driver, versions
and command to ``benchmarks/results/*-cuda*.md``, and which kernels were faster to the file that
chooses them. ``--dry`` runs all of it tiny on a CPU: every configuration parses, builds and runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.device import described
from benchmarks.few_shot_samples import SHARED
from benchmarks.gpu import report
from benchmarks.gpu.check import PACKED, Check
from benchmarks.pipelines import ROOT
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.files import write_text

PROG = "benchmarks.gpu"
# Seconds of each stage, at most; those in one line run side by side. Most take less; where they
# do not, the last ones are cut or skipped.
STAGES: list[dict[str, int]] = [
    {"prepare": 40},
    {"smoke": 125, "marked": 125},
    {"numerics": 40},
    {"packed": 100},
    {"loss": 60},
    {"update": 35},
    {"sweep": 60},
    {"train": 60},
]
NAMES = [name for stages in STAGES for name in stages]
DRY_FACTOR = 8  # a CPU may take longer
PEERS = ("torch", "triton", "fairseq-fixed", "fairseq", "transformers", "pytorch-metric-learning")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(PROG, "Check everything on a GPU, and time it.", f"python -m {PROG} --record")
    add = parser.add_argument
    add("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(NAMES)} (all)")
    add("--out", type=Path, default=Path("outputs/gpu-check"), help="(outputs/gpu-check)")
    add("--limit", type=positive, default=480, help="seconds for all, a dry run has more (480)")
    add("--glue-dir", type=Path, help="holds SST-2/ and QNLI/; else generated text")
    add("--bpe-dir", type=Path, help="GPT-2's BPE; else one of the text")
    add("--record", action="store_true", help="write the tables in benchmarks/results")
    dry = os.environ.get("DRY") == "1"
    add("--dry", action="store_true", default=dry, help="tiny, on a CPU; as DRY=1 before it")
    add("--one", nargs=3, metavar=("STAGE", "BEGAN", "STOP"), help=argparse.SUPPRESS)
    add("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    unknown = [name for name in options.stages if name not in NAMES]
    if unknown:
        parser.error(f"there is no stage {unknown[0]}: {', '.join(NAMES)}")
    if options.dry and options.record:
        parser.error("--record is of a GPU: a dry run measures nothing")
    data = PACKED if PACKED.is_dir() else SHARED.parent
    options.glue_dir = (options.glue_dir or data / "glue").absolute()
    options.bpe_dir = (options.bpe_dir or data / "gpt2_bpe").absolute()
    options.out = options.out.absolute()
    return options


def run_stage(options: argparse.Namespace) -> int:
    """One stage, in this process."""
    name, began, stop = options.one
    check = Check(
        options.out, options.work, options.dry, float(began), float(stop), options.glue_dir,
        options.bpe_dir,
    )  # fmt: skip
    importlib.import_module(f"benchmarks.gpu.{name}").run(check)
    return 0


class Runner:
    """Stages as processes that end when their time is up."""

    def __init__(self, options: argparse.Namespace, work: Path):
        self._options, self._began = options, time.time()
        self._started: dict[str, tuple[subprocess.Popen, float, float]] = {}
        self._factor = DRY_FACTOR if options.dry else 1
        self._stop = self._began + options.limit * self._factor
        self._check = Check(
            options.out, work, options.dry, self._began, self._stop, options.glue_dir,
            options.bpe_dir,
        )  # fmt: skip

    def run(self, budgets: dict[str, int]) -> None:
        """Some stages side by side."""
        started = self._started
        for name, budget in budgets.items():
            left = self._stop - time.time()
            if left < 10:
                self._check.add("stage", name=name, skipped="no time was left")
                continue
            seconds = min(budget * self._factor, left)
            started[name] = (self._start(name, time.time() + seconds - 4), time.time(), seconds)
        while started:
            for name, (process, since, seconds) in list(started.items()):
                if process.poll() is not None or time.time() > since + seconds:
                    self._finish(name, process, since)
                    del started[name]
            time.sleep(0.1)

    def close(self) -> None:
        """End what still runs."""
        for process, *_ in self._started.values():
            _kill(process)

    def _start(self, name: str, stop: float) -> subprocess.Popen:
        options = self._options
        words = [sys.executable, "-m", PROG, "--one", name, str(self._began), str(stop)]
        words += ["--out", str(options.out), "--work", str(self._check.work)]
        words += ["--glue-dir", str(options.glue_dir), "--bpe-dir", str(options.bpe_dir)]
        words += ["--dry"] if options.dry else []
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": _path()}
        # Counting GPUs must not initialise CUDA: processes are forked that use it.
        environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
        if options.dry:
            environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        print(f"[{time.time() - self._began:4.0f} s] {name}", flush=True)
        log = open(options.out / f"{name}-stage.log", "w", encoding="utf-8")  # noqa: SIM115
        with log:
            return subprocess.Popen(
                words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip

    def _finish(self, name: str, process: subprocess.Popen, since: float) -> None:
        found = process.poll()
        code = "its time was up" if found is None else found
        _kill(process)
        tail = {}
        if code != 0:
            log = self._options.out / f"{name}-stage.log"
            tail = {"failed": log.read_text("utf-8", errors="replace")[-600:]}
        took = round(time.time() - since, 1)
        self._check.add("stage", name=name, ok=code == 0, code=code, seconds=took, **tail)


def _kill(process: subprocess.Popen) -> None:
    """A stage and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _path() -> str:
    """Where a stage finds this checkout, and what was installed beside it."""
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([before] if before else [])])


def about(options: argparse.Namespace, argv: Sequence[str]) -> str:
    """Command, device and versions."""
    versions = []
    for name in PEERS:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    words = shlex.join(["python", "-m", PROG, *argv])
    device = described("cpu" if options.dry else "cuda")
    found = f"{device}; {', '.join(versions)}, Python {platform.python_version()}"
    return f"`{words}`\n\n{found}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}."


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the check."""
    options = parse(argv)
    if options.one:
        return run_stage(options)
    import torch

    if not options.dry and not torch.cuda.is_available():
        raise ValueError("there is no GPU here: --dry runs everything tiny on a CPU")
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    results.unlink(missing_ok=True)
    said = about(options, sys.argv[1:] if argv is None else argv)
    print(said, flush=True)
    write_text(options.out / "environment.txt", said + "\n")
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        runner = Runner(options, Path(work))
        wanted = {"prepare", *options.stages} if options.stages else set(NAMES)
        with contextlib.closing(runner):
            for stages in STAGES:
                runner.run({name: budget for name, budget in stages.items() if name in wanted})
    rows = report.read(results)
    text = f"{said}\n\n{report.tables(rows, list(dict.fromkeys(row['kind'] for row in rows)))}\n"
    write_text(options.out / "report.md", text)
    print(f"\n{report.summary(rows)}\n\n{options.out / 'report.md'} has all of it")
    if options.record:
        for file in report.record(rows, said):
            print(f"wrote {file.relative_to(ROOT)}")
    return 1 if report.failures(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
