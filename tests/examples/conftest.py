"""The recipes with stand-ins for fairseq's commands, which log what they are called with."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import runs

EXAMPLES = runs.ROOT / "examples"
STAND_IN = """#!/usr/bin/env bash
# Written at once: several may be called at the same time.
{ printf '%s\\0' "${0##*/}" "$@"; printf '\\n'; } > "$CALLS.$$"
cat "$CALLS.$$" >> "$CALLS"
for last; do :; done
case "${0##*/}" in
    "$FAIL") exit "$CODE" ;;
    scl-report) mkdir -p "${last%/*}" && echo "the report" > "$last" ;;
    fairseq-train) while [ "$1" != --save-dir ]; do shift; done
        mkdir -p "$2" && touch "$2/checkpoint_last.pt" ;;
    scl-convert) mkdir -p "$last" && touch "$last/model.pt" && echo "  --arch roberta" ;;
    scl-evaluate) first=$1
        while [ "$1" != --json ]; do shift; done
        echo '{"checkpoints": [{"path": "'"$first"'", "embedding": "cls",
            "spearman": {"STS-B dev": 80}}]}' > "$2" ;;
    scl-sample) while [ "$1" != --num-samples ]; do shift; done
        for ((i = 0; i < $2; i++)); do mkdir -p "$last/sample$i"; done ;;
    scl-preprocess) mkdir -p "$last/label" && touch "$last/label/test.idx" ;;
esac
"""
COMMANDS = (
    *("fairseq-train", "fairseq-validate", "fairseq-hydra-train"),
    *("torchrun", "srun"),
    *("scl-sample", "scl-augment", "scl-preprocess", "scl-sweep", "scl-report", "scl-plot"),
    *("scl-convert", "scl-evaluate"),
)


@pytest.fixture(scope="session")
def gpt2_data(tmp_path_factory, gpt2_files) -> Path:
    """Generated data of every task as ``TASK-bin``, split as in the paper, in a small GPT-2 BPE."""
    from examples import smoke_data
    from scl_fairseq.data.encode import Settings
    from scl_fairseq.data.preprocess import preprocess
    from scl_fairseq.data.tasks import TASKS

    folder = tmp_path_factory.mktemp("examples")
    for task in ("SST-2", *smoke_data.FILES):
        smoke_data.write(task, folder / "glue" / task)
        destination = folder / f"{task}-bin"
        settings = Settings("gpt2", gpt2_files)
        preprocess(TASKS[task], folder / "glue" / task, destination, settings, split="paper")
    return folder


@pytest.fixture
def recipe(tmp_path, gpt2_data):
    """``recipe(file, *options, **environment)``: run it with stand-ins, on generated data.

    The result has the exit code as ``code``, ``output``, ``errors`` and ``calls``, the argument
    lists of the commands that were called.
    """
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in COMMANDS:
        (tools / name).write_text(STAND_IN, encoding="utf-8")
        (tools / name).chmod(0o755)
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    (tools / "python").write_text(python, encoding="utf-8")
    (tools / "python").chmod(0o755)
    log = tmp_path / "calls"
    checkpoint = tmp_path / "model.pt"
    checkpoint.touch()

    def run(file, *options, **environment):
        log.write_bytes(b"")
        variables = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CALLS": str(log),
            "ROBERTA": str(checkpoint),
            "FAIL": "",
            **{name: str(value) for name, value in environment.items()},
        }
        done = subprocess.run(
            [EXAMPLES / file, *map(str, options)],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        calls = [line.split("\0")[:-1] for line in log.read_text("utf-8").splitlines()]
        return SimpleNamespace(
            code=done.returncode, output=done.stdout, errors=done.stderr, calls=calls
        )

    return run


def parse_training(arguments):
    """Arguments of ``fairseq-train`` as fairseq itself understands them."""
    from fairseq import options

    import scl_fairseq  # noqa: F401 (registers the criterion)

    assert arguments[0] == "fairseq-train"
    before = sys.argv
    sys.argv = list(arguments)  # fairseq looks for --user-dir here
    try:
        parser = options.get_training_parser()
        return options.parse_args_and_arch(parser, arguments[1:])
    finally:
        sys.argv = before
