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
    command = os.path.basename(arguments[0])
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = _context.Process(target=_main, args=(command, arguments, _Handle(output)))
        process.start()
        process.join()
        output.seek(0)
        return subprocess.CompletedProcess(arguments, process.exitcode, output.read())


class _Handle:
    """An open file, as multiprocessing hands it to another process."""

    def __init__(self, file):
        self._number = file.fileno()

    def __getstate__(self):
        from multiprocessing.reduction import DupFd

        return DupFd(self._number)

    def __setstate__(self, copy):
        self._number = copy.detach()

    def take_the_place_of(self, *others):
        for other in others:
            os.dup2(self._number, other)


def _main(command, arguments, output):
    output.take_the_place_of(1, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Otherwise data loaders would fork their processes from another such one, of their own.
    multiprocessing.set_start_method("fork", force=True)
    warnings.simplefilter("ignore")
    sys.argv = arguments
    try:
        importlib.import_module(MODULES[command]).cli_main()
    finally:
        atexit._run_exitfuncs()  # a forked process leaves them out; tensorboardX writes there
