"""Run ``fairseq-train`` and follow it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import scl_fairseq
from scl_fairseq import utf8

LAST_LINES = 30


class TrainingError(RuntimeError):
    """``fairseq-train`` ended with an error; the message names its log and holds its last lines."""


def fairseq_train() -> str:
    """The ``fairseq-train`` of this environment, as one would type it."""
    return short_path(Path(sys.executable).parent / "fairseq-train")


def user_dir() -> str:
    """What to pass as ``--user-dir``, whether this runs from a clone or installed."""
    return short_path(Path(scl_fairseq.__file__).parent)


def short_path(path: Path) -> str:
    """``path`` relative to the current folder where it lies below, otherwise absolute."""
    # absolute, not resolve: an environment's python is a link that must not be followed.
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def as_arguments(options: Mapping[str, object]) -> list[str]:
    """Options of ``fairseq-train`` by name: True is a flag, False and None leave one out."""
    found = []
    for name, value in options.items():
        if value is True:
            found.append(f"--{name}")
        elif value is not None and value is not False:
            found += [f"--{name}", str(value)]
    return found


def run(command: Sequence[str], log: Path, on_epoch: Callable[[int], None]) -> None:
    """Run a training command to its end.

    Args:
        command: ``fairseq-train`` with ``--log-format json``.
        log: receives everything it prints.
        on_epoch: called with the number of each epoch that ends.

    Raises:
        TrainingError: the command failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        _exceptions_for_signals(),
        open(log, "w", encoding="utf-8", buffering=1) as file,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=utf8.environment(),
            start_new_session=True,
        ) as process,
    ):
        try:
            for line in process.stdout:
                file.write(line)
                epoch = _finished_epoch(line)
                if epoch is not None:
                    on_epoch(epoch)
        except BaseException:
            # An interrupted parent must leave neither a training behind nor its data loaders.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8").splitlines()[-LAST_LINES:]
        raise TrainingError(
            f"fairseq-train ended with exit code {process.returncode}; its log is {log}:\n"
            + "\n".join(lines)
        )


@contextlib.contextmanager
def _exceptions_for_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finished_epoch(line: str) -> int | None:
    """The epoch whose training summary this log line is, or None."""
    _, marker, summary = line.partition("| INFO | train | ")
    if not marker or not summary.startswith("{"):
        return None
    return int(json.loads(summary)["epoch"])
