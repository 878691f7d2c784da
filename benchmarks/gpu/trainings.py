"""Runs of ``fairseq-train``, each in a process that was forked with fairseq imported."""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOGGED = ("loss", "scl_loss", "accuracy", "loss_scale", "ups", "wps")
HYDRA = threading.Lock()  # there is one in a process


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        code: exit code, or ``timeout``.
        text: what it said.
        seconds: that it took.
    """

    code: int | str
    text: str
    seconds: float

    def last(self) -> dict[str, float]:
        """The last value of each metric."""
        found = {}
        for metric in LOGGED:
            values = re.findall(rf'\b{metric}"?:? "?(-?[\d.e+-]+|nan|inf)\b', self.text)
            if values:
                found[metric] = float(values[-1])
        return found

    @property
    def is_fine(self) -> bool:
        """Whether it ended well, with a loss that is a number; only a first worker tells any."""
        loss = self.last().get("loss")
        is_another = re.search(r"distributed init \(rank [1-9]", self.text) is not None
        return self.code == 0 and (is_another or loss is not None) and abs(loss or 0) < 1e6


def train(words: Sequence[object], log: Path, timeout: float) -> Outcome:
    """Run one to its end."""
    arguments = list(map(str, words))
    started = time.time()
    process = _server().Process(target=_train, args=(arguments, str(log)))
    process.start()
    process.join(max(1, timeout))
    code: int | str = "timeout"
    if process.is_alive():
        process.kill()
        process.join()
    else:
        code = process.exitcode
    text = log.read_text("utf-8", errors="replace") if log.is_file() else ""
    return Outcome(code, text, round(time.time() - started, 1))


@functools.cache
def _server() -> Any:
    """Starts processes that have not yet touched the GPU: one that has cannot be forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fairseq_cli.train", "scl_fairseq"])  # of all in this process
    return context


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def parses(words: Sequence[object]) -> str:
    """What fairseq says against a command line; nothing if it accepts it."""
    import contextlib
    import io

    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    said = io.StringIO()
    try:
        with HYDRA, contextlib.redirect_stderr(said):
            parser = options.get_training_parser()
            args = options.parse_args_and_arch(parser, list(map(str, words)))
            convert_namespace_to_omegaconf(args)
    except (SystemExit, Exception) as error:
        return f"{said.getvalue()[-300:]} {error!r}"
    return ""


def _train(arguments: list[str], log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["fairseq-train", *arguments]
    from fairseq_cli.train import cli_main

    cli_main()
