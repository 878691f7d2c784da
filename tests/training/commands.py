"""``scl-train`` in processes of its own, and a table for it."""

import csv
import sys
from pathlib import Path

from tests import forked

# One thread and a cache of the tests' own; further code may come before the command.
CODE = """
import os, sys
os.environ["OMP_NUM_THREADS"] = "1"
{before}
from scl_fairseq.cli.train import main
sys.exit(main(sys.argv[1:]))
"""
# Ends the process, as a power cut does, or as Ctrl-C, in the update of this number.
STOPPED = """
from fairseq.trainer import Trainer
from scl_fairseq.training import running
running.SAVE_SECONDS, running.SHARE_OF_SAVING = 0, 1e9
step = Trainer.train_step
def train_step(self, *args, **kwargs):
    if self.get_num_updates() == {at}:
        {do}
    return step(self, *args, **kwargs)
Trainer.train_step = train_step
"""
KILL, CTRL_C = "os.kill(os.getpid(), 9)", "raise KeyboardInterrupt"


def scl_train(*arguments, before=""):
    """Output of both streams and the exit code."""
    return forked.run_code(CODE.format(before=before), *arguments)


def stopped(at, do):
    """Code that ends a training early."""
    return STOPPED.format(at=at, do=do)


def line_of(output):
    """The arguments of the ``fairseq-train`` lines that were printed."""
    program = f"{Path(sys.executable).parent / 'fairseq-train'} "
    return [line.strip() for line in output.splitlines() if program in line]


def write_csv(path, rows, header=("id", "review", "opinion")):
    """CSV with quotes where they are needed."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([header, *rows])
    return path


def reviews(tiny, count=60):
    """Rows of texts that the tiny encoder knows, with commas, quotes, newlines, other scripts."""
    lines = (tiny.sample / "train.tsv").read_text("utf-8").splitlines()[1 : count + 1]
    names = {"0": "bad, really", "1": "gut"}
    rows = []
    for number, line in enumerate(lines):
        _, label, text = line.split("\t")
        rows.append((number, f'{text},\n"{text.split()[0]}" 映画', names[label]))
    return [*rows, rows[0]]
