"""fairseq's commands in processes forked from one that has imported them, which takes 4 seconds."""

import atexit
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import warnings

MODULES = {"fairseq-train": "fairseq_cli.train", "fairseq-validate": "fairseq_cli.validate"}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.imported"])


def run(arguments):
    """What a command printed and its exit code, as of ``subprocess.run``."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as output:
        process = _context.Process(target=_main, args=(arguments, output.name))
        process.start()
        process.join()
        return subprocess.CompletedProcess(arguments, process.exitcode, output.read())


def _main(arguments, output):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), 1)
    os.dup2(1, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Otherwise data loaders would fork their processes from another such one, of their own.
    multiprocessing.set_start_method("fork", force=True)
    warnings.simplefilter("ignore")
    sys.argv = arguments
    try:
        importlib.import_module(MODULES[os.path.basename(arguments[0])]).cli_main()
    finally:
        atexit._run_exitfuncs()  # a forked process leaves them out; tensorboardX writes there
