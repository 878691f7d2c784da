"""A process that runs trials one after another: ``worker_pool`` starts it.

It reads a task, a JSON object a line, from standard input and answers with events, JSON a line, on
what was standard output when it started; all that fairseq prints goes to the trial's log. When
standard input ends, its sweep is gone, and it ends at once, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from scl_fairseq.experiments.result_files import LOG
from scl_fairseq.experiments.settings import FIRST_STAGE
from scl_fairseq.files import write_text
from scl_fairseq.versions import installed

PREDICTIONS, RESULT = "predictions.tsv", "result.json"
PACKAGES = ("fairseq", "fairseq-fixed", "torch", "numpy")
EPOCH, DONE, FAILED = "epoch", "done", "failed"


def main() -> int:
    """Serve until standard input ends."""
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()

    # Only now: the imports take seconds, in which the sweep may already be gone.
    from scl_fairseq.experiments.shared_weights import SharedWeights
    from scl_fairseq.experiments.warm_training import WarmTraining

    gc.freeze()  # what is imported stays: each trial's collection need not look at it
    current = {"trial": ""}
    training = WarmTraining(
        lambda epoch: _say(events, event=EPOCH, epoch=epoch, **current), SharedWeights.inherited()
    )
    while True:
        task = json.loads(tasks.get())
        current["trial"] = task["trial"]
        # What an interrupted attempt has left: fairseq would resume from its checkpoints.
        shutil.rmtree(task["folder"], ignore_errors=True)
        with _logged(Path(task["folder"]) / LOG):
            try:
                record = run(training, task)
            except (Exception, SystemExit) as error:
                traceback.print_exc()
                _say(events, event=FAILED, error=_one_line(error), **current)
            else:
                _say(events, event=DONE, record=record, **current)


def _listen(tasks: queue.SimpleQueue) -> None:
    # Not sys.stdin: a data loader forks, and its child would wait for the buffer's lock for ever.
    rest = b""
    while block := os.read(0, 1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            tasks.put(line.decode())
    os._exit(0)


def _say(events: TextIO, **event: Any) -> None:
    events.write(json.dumps(event, allow_nan=False) + "\n")


def _one_line(error: BaseException) -> str:
    # After a NaN fairseq runs the batch again to find its origin, which may fail in turn.
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FloatingPointError):
        cause = cause.__context__
    error = cause or error
    text = " ".join(str(error).split())
    if isinstance(error, SystemExit):
        return f"fairseq-train ended with exit code {error.code}; its log says why"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Everything that is printed meanwhile goes to a file, from C++ as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = [os.dup(number) for number in (1, 2)]
    with open(path, "w", encoding="utf-8") as file:
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), before, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def run(training, task: dict[str, Any]) -> dict[str, Any]:
    """Run one trial; its predictions and result are in its folder when this returns.

    Args:
        training: a ``WarmTraining``.
        task: ``trial``, ``arguments``, ``first_stage`` (arguments too, or empty), ``folder``,
            ``keep``, ``labels``, and ``record``, the part of the result that is known before.

    Returns:
        The line for ``results.jsonl``.
    """
    started = time.monotonic()
    folder = Path(task["folder"])
    _reset_peak_memory()
    try:
        first = training.run_first(task["first_stage"]) if task["first_stage"] else None
        outcome = training.run(task["arguments"], folder, task["keep"], _epochs(first))
    finally:
        if task["keep"] != "all":
            shutil.rmtree(folder / FIRST_STAGE, ignore_errors=True)
    correct = outcome.log_probabilities.argmax(dim=1) == outcome.targets
    write_text(folder / PREDICTIONS, predictions(task["labels"], outcome))
    counts = outcome.valid_targets.bincount()
    majority_share = 100 * counts.max().item() / counts.sum().item()
    kept = folder / "checkpoint_best.pt"
    record = {
        **task["record"],
        "valid_accuracy": outcome.valid_accuracy,
        "valid_epochs": outcome.valid_epochs,
        "train_loss": [numbers.get("loss") for numbers in outcome.epoch_metrics["train"]],
        "best_epoch": outcome.best_epoch,
        "best_valid_accuracy": outcome.best_valid_accuracy,
        "test_accuracy": 100 * correct.sum().item() / len(correct),
        "num_test": len(correct),
        "majority_share": majority_share,
        # fairseq rounds accuracy to 0.1; a share is compared at the same precision.
        "collapsed": outcome.best_valid_accuracy <= round(majority_share, 1),
        "num_updates": outcome.num_updates,
        "updates_per_second": outcome.num_updates / outcome.update_seconds,
        "wall_seconds": time.monotonic() - started,
        "peak_memory_bytes": _gpu_memory(first, outcome) or _peak_memory(),
        "gpu_free_bytes": outcome.gpu_free,
        "epoch_metrics": outcome.epoch_metrics,
        "first_stage": first
        and {
            "train_loss": [numbers.get("loss") for numbers in first.epoch_metrics["train"]],
            "num_updates": first.num_updates,
            "updates_per_second": first.num_updates / first.update_seconds,
            "epoch_metrics": first.epoch_metrics,
        },
        "device": device(),
        "versions": installed(PACKAGES),
        "predictions": f"{task['relative']}/{PREDICTIONS}",
        "checkpoint": f"{task['relative']}/{kept.name}" if kept.exists() else None,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_text(folder / RESULT, json.dumps(record, allow_nan=False) + "\n")
    return record


def _epochs(first) -> int:
    return len(first.epoch_metrics["train"]) if first else 0


def _gpu_memory(*outcomes) -> int | None:
    return max((one.gpu_memory or 0 for one in outcomes if one), default=0) or None


def predictions(labels: list[str], outcome) -> str:
    """Text of ``predictions.tsv``: a line a test example, in the data set's order."""
    lines = ["\t".join(["index", "label", "prediction", "correct", *labels])]
    best = outcome.log_probabilities.argmax(dim=1).tolist()
    rows = zip(outcome.targets.tolist(), best, outcome.log_probabilities.numpy(), strict=True)
    for index, (target, found, row) in enumerate(rows):
        names = [labels[target], labels[found], str(int(target == found))]
        lines.append("\t".join([str(index), *names, *map(str, row)]))
    return "\n".join(lines) + "\n"


def device() -> str:
    """What the trial ran on."""
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name(0)}"
    threads = torch.get_num_threads()
    return f"cpu: {_cpu_name()}, {threads} thread{'s' * (threads > 1)}"


def _cpu_name() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":", 1)[1] for line in lines if "model name" in line).strip()
    return platform.processor() or platform.machine()


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):  # other systems, and containers that forbid it
        Path("/proc/self/clear_refs").write_text("5", "ascii")


def _peak_memory() -> int | None:
    """Resident memory of the trial, in bytes (Linux)."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return None
