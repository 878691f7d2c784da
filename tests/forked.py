"""Processes forked from one that has imported fairseq, which takes 4 seconds."""

import atexit
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

MODULES = {"fairseq-train": "fairseq_cli.train", "fairseq-validate": "fairseq_cli.validate"}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.imported"])


def run(arguments):
    """What a command printed and its exit code, as of ``subprocess.run``."""
    return _to_the_end(command, arguments)


def run_code(code, *arguments):
    """The same of Python code, as by ``python -c``."""
    return _to_the_end(_execute, code, list(map(str, arguments)))


def _to_the_end(target, *arguments):
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as output:
        process = start(target, *arguments, output=output.name)
        process.join()
        return subprocess.CompletedProcess(arguments, process.exitcode, output.read())


def run_together(target, calls, logs):
    """``target(*arguments)`` for each of ``calls``, side by side.

    Args:
        target: a function of a module.
        calls: the arguments of each.
        logs: for each a file for its output; what it says is the error where its process fails.
    """
    for log in logs:
        Path(log).touch()
    processes = [start(target, *call, output=log) for call, log in zip(calls, logs, strict=True)]
    try:
        for process, log in zip(processes, logs, strict=True):
            process.join(timeout=600)
            assert process.exitcode == 0, Path(log).read_text("utf-8")[-6000:]
    finally:
        for process in processes:
            process.kill()
            process.join()


def start(target, *arguments, output):
    """A process of ``target(*arguments)``, with its output in an existing file."""
    process = _context.Process(target=_main, args=(target, arguments, output))
    process.start()
    return process


def command(arguments):
    """One of fairseq's commands."""
    sys.argv = list(map(str, arguments))
    importlib.import_module(MODULES[os.path.basename(sys.argv[0])]).cli_main()


def _execute(code, arguments):
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _main(target, arguments, output):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), 1)
    os.dup2(1, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Otherwise data loaders would fork their processes from another such one, of their own.
    multiprocessing.set_start_method("fork", force=True)
    warnings.simplefilter("ignore")
    try:
        target(*arguments)
    finally:
        atexit._run_exitfuncs()  # a forked process leaves them out; tensorboardX writes there
