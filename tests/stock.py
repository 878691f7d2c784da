"""Processes of stock fairseq, which never import the plug-in."""

from tests import forked, runs

TRAIN = """
import argparse, sys, torch
torch.serialization.add_safe_globals([argparse.Namespace])
from fairseq_cli.train import cli_main
cli_main()
assert not any(name.startswith("scl_fairseq") for name in sys.modules)
"""


def run(code, *arguments):
    """Output of a process that runs Python code."""
    done = forked.run_code(code, *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def fine_tune(tiny, start, save_dir, *options):
    """Output of a sentence_prediction training that begins with a checkpoint."""
    options = [*options, "--finetune-from-model", start]
    arguments = runs.command(tiny, save_dir, *options, criterion="sentence_prediction")[1:]
    place = arguments.index("--user-dir")
    del arguments[place : place + 2]
    output = run(TRAIN, *arguments)
    assert "done training" in output
    return output
