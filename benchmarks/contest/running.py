"""Running trials, each in a process of its own whose CPU seconds are counted."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contest.contenders import CONTENDERS
from benchmarks.contest.machine import machine
from benchmarks.contest.records import Records
from benchmarks.contest.rows import read_rows
from benchmarks.contest.trials import Trial
from benchmarks.pipelines import ROOT

# One thread, no look at the network, and no GPU.
ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    **dict.fromkeys(("RAYON_NUM_THREADS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": str(ROOT),
}
FAILURES = "failures.log"
_running: set[subprocess.Popen] = set()


class Cost(NamedTuple):
    """Seconds of a process and of all that it started and waited for."""

    cpu: float
    wall: float


class Failed(RuntimeError):
    """A trial ended with an error; the message ends with what it said."""


def measured(words: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command to its end.

    Raises:
        Failed: it failed.
    """
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,  # to be ended with all that it has started
        )
        _running.add(process)
        _, status, usage = os.wait4(process.pid, 0)
        _running.discard(process)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - started
        if process.returncode != 0:
            log.seek(0)
            said = log.read().decode("utf-8", errors="replace")
            raise Failed(f"exit code {process.returncode}\n{said[-3000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall)


def run_trial(trial: Trial, encoder: Mapping[str, str], records: Records) -> dict[str, Any]:
    """Run one and keep its result; returns its record."""
    contender = CONTENDERS[trial.setting["contender"]]
    with tempfile.TemporaryDirectory(prefix="contest-") as folder:
        order = {
            "sample": str(trial.sample.resolve()),
            "labels": list(trial.entrant.task.labels),
            "task": trial.entrant.task.name,
            "num_inputs": trial.entrant.task.num_inputs,
            "seed": 1 + trial.setting["sample"],
            "max_length": trial.setting["max_length"],
            "settings": trial.setting["settings"],
            "folder": folder,
            "answer": str(Path(folder, "answer.json")),
            **encoder,
        }
        path = Path(folder, "order.json")
        path.write_text(json.dumps(order, allow_nan=False), encoding="utf-8")
        words = [contender.python, "-m", f"benchmarks.contest.{contender.module}", path]
        load = os.getloadavg()[0]
        cost = measured(words, ENVIRONMENT)
        answer = json.loads(Path(order["answer"]).read_text("utf-8"))
    predictions = answer.pop("predictions")
    labels = [order["labels"][place] for place in read_rows(order, "test").labels]
    right = sum(a == b for a, b in zip(predictions, labels, strict=True))
    record = {
        "key": trial.key,
        **trial.setting,
        "accuracy": right / len(labels),
        "test_rows": len(labels),
        "cpu_seconds": round(cost.cpu, 2),
        "seconds": round(cost.wall, 2),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],  # before and after
        "found": answer,
        "machine": machine(contender.python),
    }
    records.add(record, predictions)
    return record


class Progress:
    """A line for each trial, with the time left."""

    def __init__(self, total: int):
        self._total, self._done, self._started = total, 0, time.monotonic()
        self._lock = threading.Lock()

    def tell(self, name: str, said: str) -> None:
        """Count a trial as done."""
        with self._lock:
            self._done += 1
            left = (time.monotonic() - self._started) / self._done * (self._total - self._done)
            print(
                f"[{self._done}/{self._total}] {name}: {said}; about {left / 60:.0f} min left",
                flush=True,
            )


def run_all(
    trials: Sequence[Trial], encoder: Mapping[str, str], records: Records, workers: int
) -> int:
    """Run the trials that have no result yet; returns how many failed."""
    done = records.read()
    to_do = [trial for trial in trials if trial.key not in done]
    print(f"{len(trials)} trials, {len(trials) - len(to_do)} of them done", flush=True)
    progress = Progress(len(to_do))
    failed, stopped = [], threading.Event()

    def run(trial: Trial) -> None:
        try:
            record = run_trial(trial, encoder, records)
        except Failed as error:
            if stopped.is_set():
                return
            failed.append(trial)
            with open(records.folder / FAILURES, "a", encoding="utf-8") as file:
                file.write(f"{trial.name}: {error}\n\n")
            progress.tell(trial.name, "failed")
            return
        said = f"{100 * record['accuracy']:.1f} %, {record['cpu_seconds']:.0f} CPU s"
        progress.tell(trial.name, said)

    with ThreadPoolExecutor(workers) as pool:
        try:
            for _ in pool.map(run, to_do):
                pass
        except BaseException:  # Ctrl-C, or SIGTERM, which the trials have not received
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(_running):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            raise
    if failed:
        print(f"{len(failed)} failed: {records.folder / FAILURES}", file=sys.stderr)
    return len(failed)
