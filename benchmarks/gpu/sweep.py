"""Few-shot trials of the encoder by ``scl-sweep``, several workers on one card."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.check import Check
from benchmarks.pipelines import ROOT

LEAST = 30  # trials a minute, N = 100, 10 epochs


def run(check: Check) -> None:
    """The same trials with more and more workers."""
    if check.dry:
        _sweep(check, 20, 1, 2, 1)
        return
    for workers in (6, 12, 3):
        if check.has_time("sweep", 25, workers=workers):
            _sweep(check, 100, workers, 10, 3)


def _sweep(check: Check, examples: int, workers: int, epochs: int, samples: int) -> None:
    with check.part("sweep", workers=workers):
        config = check.work / f"sweep-{examples}.yaml"
        values = _config(check, examples, epochs, samples)
        config.write_text(json.dumps(values, allow_nan=False), encoding="utf-8")
        out = check.work / f"sweep-{workers}"
        words = [sys.executable, "-m", "scl_fairseq.cli.sweep", config, "--out", out]
        words += ["--workers", workers, *(["--cpu", "--threads", 1] if check.dry else [])]
        code, seconds = _run(check, list(map(str, words)))
        results = out / "results.jsonl"
        lines = results.read_text("utf-8").splitlines() if results.is_file() else []
        records = [json.loads(line) for line in lines]
        speed = 60 * len(records) / seconds
        ok = code == 0 and (check.dry or speed >= LEAST)
        accuracies: dict[str, list[float]] = {}
        for one in records:
            weight = str(one["setting"]["scl-lambda"])
            accuracies.setdefault(weight, []).append(one["test_accuracy"])
        check.add(
            "sweep", workers=workers, N=examples, epochs=epochs, ok=ok, code=code,
            trials=len(records), seconds=round(seconds, 1), trials_a_minute=round(speed, 1),
            accuracy={weight: sum(own) / len(own) for weight, own in accuracies.items()},
        )  # fmt: skip


def _run(check: Check, words: list[str]) -> tuple[int | str, float]:
    started = time.time()
    with open(check.out / "sweep.log", "a", encoding="utf-8") as log:
        try:
            code: int | str = subprocess.run(
                words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False,
                timeout=max(10, check.left()),
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = "timeout"
    return code, time.time() - started


def _config(check: Check, examples: int, epochs: int, samples: int) -> dict:
    flags = json.loads((check.work / "flags.json").read_text("utf-8"))
    shape = dict(zip((flag.removeprefix("--") for flag in flags[::2]), flags[1::2], strict=True))
    data = Path(check.work, str(examples), "bin", "{task}", "{sample}")
    half = {} if check.dry else {"bf16": True}
    return {
        "data": str(data),
        "warmup-ratio": 0.06,
        "grid": {
            "task": ["SST-2"],
            "sample": list(range(samples)),
            "scl-lambda": [0, 0.9],
            "seed": [1] if check.dry else [1, 2],
        },
        "options": {
            "finetune-from-model": str(check.work / "encoder" / "model.pt"),
            **shape,
            "head-pooling": "mean",
            "scl-packed": True,
            "scl-temperature": 0.3,
            "batch-size": 16,
            "lr": 1e-4,
            "max-epoch": epochs,
            "optimizer": "fused_adamw",
            "weight-decay": 0.1,
            **half,
        },
    }
