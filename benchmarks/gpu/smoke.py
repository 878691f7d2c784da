"""Trainings in every precision and with every option, resumed, of two workers, by torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.check import Check
from benchmarks.gpu.trainings import Outcome, free_port, parses, train
from benchmarks.pipelines import ROOT

AT_A_TIME = 4
PRECISIONS = {"fp32": [], "fp16": ["--fp16"], "bf16": ["--bf16"], "amp": ["--amp"]}
HALF = ("--fp16", "--bf16", "--memory-efficient-bf16")  # what fairseq cannot do on a CPU
SCL = ["--criterion", "sentence_prediction_scl"]
SUPCON = ["--criterion", "supcon", "--supcon-views", "2", "--scl-temperature", "0.1"]
QUEUE = ["--scl-queue-size", "64", "--scl-momentum", "0.9"]
# Options of classifiers, each in some of the precisions.
WAYS = {
    "plain": ([*SCL], [*PRECISIONS]),
    "packed": ([*SCL, "--scl-packed"], [*PRECISIONS]),
    "mean-head": ([*SCL, "--head-pooling", "mean", "--scl-packed"], [*PRECISIONS]),
    "fused-adamw": ([*SCL, "--optimizer", "fused_adamw"], ["fp32", "bf16", "amp"]),
    "queue": ([*SCL, *QUEUE, "--scl-packed"], ["fp16", "bf16", "amp"]),
    "chunks": ([*SCL, "--scl-chunk-size", "4"], ["fp16", "amp"]),
    "chunks-packed": ([*SCL, "--scl-chunk-size", "4", "--scl-packed"], ["bf16"]),
    "tf32": ([*SCL, "--scl-products", "tf32"], ["fp32"]),
    "bf16-products": ([*SCL, "--scl-products", "bf16"], ["fp16", "bf16"]),
    "probe": ([*SCL, "--head-init", "probe"], ["fp16"]),
    "diagnostics": ([*SCL, "--scl-diagnostics", "--report-mcc", "--report-acc-and-f1"], ["amp"]),
    "prenorm": ([*SCL, "--scl-packed", "--encoder-normalize-before"], ["bf16"]),
    "stock": (["--criterion", "sentence_prediction"], ["fp16"]),
    "supcon": ([*SUPCON, "--scl-packed"], ["fp16", "bf16"]),
    "supcon-in": ([*SUPCON, "--supcon-average", "in", *QUEUE], ["amp"]),
}
# Of plain sentences.
LINES = {
    "simcse": (["--criterion", "simcse", "--scl-packed"], ["fp16", "amp"]),
    "simcse-queue": (["--criterion", "simcse", *QUEUE], ["bf16"]),
    "infocse": (["--criterion", "infocse", "--infocse-rtd", "0.005", "--scl-packed"], ["fp16"]),
    "infocse-mlm": (["--criterion", "infocse", "--infocse-mlm", "1"], ["bf16", "amp"]),
}


def trainings(check: Check) -> dict[str, list[object]]:
    """Name -> the words of its command after ``fairseq-train``."""
    found = {}
    for ways, kind in ((WAYS, "labelled"), (LINES, "lines")):
        for name, (options, precisions) in ways.items():
            start = [] if name == "prenorm" else _start(check)
            for precision in precisions:
                full = f"{name}-{precision}"
                words = [*common(check, full, kind), *options, *start, *PRECISIONS[precision]]
                found[full] = [*words, "--no-save"]
    for half in ("fp16", "bf16"):
        full = f"memory-efficient-{half}"
        own = [*SCL, *_start(check), f"--memory-efficient-{half}", "--no-save"]
        found[full] = [*common(check, full, "labelled"), *own]
    # Loss scales that overflow at once: updates are skipped until the scale fits.
    over = ["--fp16-init-scale", 2**24]
    found["overflow-fp16"] = [*found["plain-fp16"], *over]
    found["overflow-amp"] = [*found["queue-amp"], *over]
    found["first-half"] = [
        *(one for one in found["queue-fp16"] if one != "--no-save"),
        *("--no-epoch-checkpoints", "--max-epoch", 1, "--save-dir", check.work / "resumed"),
    ]
    return found


def common(check: Check, name: str, kind: str) -> list[object]:
    """Data and what every training has."""
    flags = json.loads((check.work / "flags.json").read_text("utf-8"))
    size = "20" if check.dry else "100"
    if kind == "lines":
        data = [check.work / "lines", "--task", "sentence_embedding", "--max-positions", 512]
    else:
        data = [check.work / size / "bin" / "SST-2" / "0", "--task", "sentence_prediction"]
        data += ["--num-classes", 2, "--init-token", 0]
    words = f"""--batch-size 16 --required-batch-size-multiple 1 --optimizer adam --lr 5e-5
        --lr-scheduler fixed --max-epoch {1 if check.dry else 3} --seed 1 --log-format simple
        --no-progress-bar --num-workers 0 --data-buffer-size 0 --distributed-world-size 1""".split()
    place = ["--user-dir", ROOT / "scl_fairseq", "--save-dir", check.work / "runs" / name]
    return [*data, *flags, *place, *words]


def _start(check: Check) -> list[object]:
    return ["--finetune-from-model", check.work / "encoder" / "model.pt"]


def on_device(check: Check, words: list[object]) -> list[object]:
    """As they run here: on a CPU without half precision."""
    return [*(one for one in words if one not in HALF), "--cpu"] if check.dry else words


def run(check: Check) -> None:
    """All of them, a few at a time, then those that go on from others."""
    found = trainings(check)
    with ThreadPoolExecutor(2 if check.dry else AT_A_TIME) as pool:
        for job in [pool.submit(_one, check, name, words) for name, words in found.items()]:
            job.result()
        for job in _afterwards(check, found, pool):
            job.result()


def _one(check: Check, name: str, words: list[object]) -> None:
    if not check.has_time("smoke", 8, name=name):
        return
    with check.part("smoke", name=name):
        if check.dry and (refusal := parses(words)):
            check.add("smoke", name=name, ok=False, failed=refusal)
            return
        log = check.work / f"smoke-{name}.log"
        outcome = train(on_device(check, words), log, min(150, check.left()))
        report(check, "smoke", name, outcome, words)


def report(check: Check, kind: str, name: str, outcome: Outcome, words: list[object]) -> None:
    """Record how one ended, and keep what it said."""
    with open(check.out / f"{kind}.log", "a", encoding="utf-8") as file:
        said = " ".join(map(str, words))
        file.write(f"\n===== {name}: {outcome.code}\n{said}\n{outcome.text[-9000:]}\n")
    tail = {} if outcome.is_fine else {"failed": outcome.text[-800:] or "it said nothing"}
    check.add(
        kind, name=name, ok=outcome.is_fine, code=outcome.code, seconds=outcome.seconds,
        **outcome.last(), **tail,
    )  # fmt: skip


def _afterwards(
    check: Check, found: dict[str, list[object]], pool: ThreadPoolExecutor
) -> list[Future]:
    jobs = [pool.submit(_one, check, "resumed", [*found["first-half"], "--max-epoch", 2])]
    half = ["--fp16"]
    alone = [*common(check, "two", "labelled"), *SCL, *_start(check), *half, "--no-save"]
    address = f"tcp://127.0.0.1:{free_port()}"
    for rank in (0, 1):
        # Two workers on one card: NCCL refuses that, gloo takes a GPU's tensors.
        words = [*alone, "--scl-packed", "--ddp-backend", "legacy_ddp"]
        words += ["--distributed-backend", "gloo", "--distributed-world-size", 2]
        words += ["--distributed-init-method", address, "--distributed-no-spawn"]
        words += ["--distributed-rank", rank, "--device-id", 0]
        jobs.append(pool.submit(_one, check, f"two-workers-{rank}", words))
    if check.dry:
        check.add("smoke", name="torchrun", skipped="fairseq's needs a GPU")
    else:
        jobs.append(pool.submit(_torchrun, check))
    return jobs


def _torchrun(check: Check) -> None:
    """One worker over NCCL."""
    if not check.has_time("smoke", 15, name="torchrun"):
        return
    with check.part("smoke", name="torchrun"):
        words = [*common(check, "torchrun", "labelled"), *SCL, *_start(check), "--fp16"]
        del words[words.index("--distributed-world-size") :][:2]
        words += ["--no-save", "--ddp-backend", "legacy_ddp"]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1"]
        launcher += ["--master_port", str(free_port()), "-m", "fairseq_cli.train"]
        started, log = time.time(), Path(check.work, "smoke-torchrun.log")
        with open(log, "w", encoding="utf-8") as file:
            try:
                code: int | str = subprocess.run(
                    [*launcher, *map(str, words)], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
                    timeout=max(10, check.left()), check=False, env={**os.environ},
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                code = "timeout"
        text = log.read_text("utf-8", errors="replace")
        outcome = Outcome(code, text, round(time.time() - started, 1))
        report(check, "smoke", "torchrun", outcome, words)
