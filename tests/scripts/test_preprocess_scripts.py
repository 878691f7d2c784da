"""The scripts that call scl-sample and scl-preprocess in turn, with stand-ins for the two."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "scripts"
TASKS = ("SST-2", "CoLA", "MRPC", "RTE", "QNLI", "MNLI")
# Logs its arguments; fails with the exit code that FAIL_<task> names.
STAND_IN = """#!/usr/bin/env bash
printf '%s ' "${0##*/}" "$@" >> log
echo >> log
case "$*" in *"$FAIL_AT"*) exit "$FAIL_CODE" ;; esac
"""


@pytest.fixture
def run(tmp_path):
    """Run a script of that name on a GLUE folder with all tasks."""
    for task in TASKS:
        (tmp_path / "my glue" / task).mkdir(parents=True)
    (tmp_path / "bpe").mkdir()
    for name in ("encoder.json", "vocab.bpe", "dict.txt"):
        (tmp_path / "bpe" / name).touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("scl-sample", "scl-preprocess"):
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
    for name in ("bash", "cat", "dirname", "env"):
        (tools / name).symlink_to(shutil.which(name))

    def run(script, *arguments, fail_at="nothing", fail_code=1, **variables):
        variables.update(PATH=str(tools), FAIL_AT=fail_at, FAIL_CODE=str(fail_code))
        return subprocess.run(
            [script if isinstance(script, Path) else SCRIPTS / script, *arguments],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture
def calls(tmp_path):
    """What the stand-ins were called with, a line each."""

    def calls():
        log = tmp_path / "log"
        return [line.strip() for line in log.read_text().splitlines()] if log.exists() else []

    return calls


def summary(done):
    return done.stdout.rpartition("\n\n")[2].splitlines()


def refusal(done):
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


FOLDERS = ("my glue", "bpe", "out")


def test_all_glue_tasks_in_one_call(run, calls):
    done = run("preprocess_glue.sh", *FOLDERS, "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert calls() == [
        f"scl-preprocess --task {task} --data-dir my glue/{task} --bpe gpt2 --bpe-dir bpe "
        f"--split glue --destdir out/{task}-bin --workers 2"
        for task in TASKS
    ]
    assert summary(done) == [f"{task}: done, out/{task}-bin" for task in TASKS]


def test_tasks_can_be_chosen(run, calls):
    done = run("preprocess_glue.sh", *FOLDERS, TASKS="RTE,CoLA")
    assert done.returncode == 0
    assert [shlex.split(call)[2] for call in calls()] == ["RTE", "CoLA"]
    assert summary(done) == ["RTE: done, out/RTE-bin", "CoLA: done, out/CoLA-bin"]


def test_a_task_that_fails_is_told_and_the_next_are_done(run):
    done = run("preprocess_glue.sh", *FOLDERS, TASKS="RTE MRPC", fail_at="RTE", fail_code=3)
    assert done.returncode == 3
    assert summary(done) == ["RTE: FAILED with exit code 3", "MRPC: done, out/MRPC-bin"]


def test_ctrl_c_ends_it(run, calls):
    tasks = "RTE MRPC QNLI"
    done = run("preprocess_glue.sh", *FOLDERS, TASKS=tasks, fail_at="MRPC", fail_code=130)
    assert done.returncode == 130
    assert summary(done) == [
        "RTE: done, out/RTE-bin",
        "MRPC: FAILED with exit code 130",
        "QNLI: not begun",
    ]
    assert len(calls()) == 2


def test_few_shot_samples(run, calls):
    variables = {"TASKS": "SST-2 MNLI", "NUM_EXAMPLES": "20 100", "NUM_SAMPLES": "2", "SEED": "7"}
    done = run("preprocess_few_shot.sh", *FOLDERS, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    expected = []
    for task in ("SST-2", "MNLI"):
        for size in (20, 100):
            folder = f"out/{task}/{size}"
            expected.append(
                f"scl-sample --task {task} --data-dir my glue/{task} --num-examples {size} "
                f"--num-samples 2 --seed 7 --out {folder}/text"
            )
            expected += [
                f"scl-preprocess --task {task} --data-dir {folder}/text/sample{index} --bpe gpt2 "
                f"--bpe-dir bpe --destdir {folder}/bin/sample{index}"
                for index in range(2)
            ]
    assert calls() == expected
    assert summary(done) == [
        f"{task}, {size} examples: done, 2 samples in out/{task}/{size}"
        for task in ("SST-2", "MNLI")
        for size in (20, 100)
    ]


def test_few_shot_defaults(run, calls):
    done = run("preprocess_few_shot.sh", *FOLDERS)
    assert done.returncode == 0
    drawn = [call.split() for call in calls() if call.startswith("scl-sample")]
    assert [(call[2], call[7]) for call in drawn] == [
        (task, size) for task in ("SST-2", "QNLI", "MNLI") for size in ("20", "100", "1000")
    ]
    assert {(call[9], call[11]) for call in drawn} == {("10", "1")}
    assert len(calls()) == 9 * (1 + 10)


@pytest.mark.parametrize(
    ("fail_at", "told", "number_of_calls"),
    [
        ("--num-examples 100", "scl-sample FAILED with exit code 4", 4),
        ("100/bin/sample1", "scl-preprocess FAILED with exit code 4, sample1", 6),
    ],
)
def test_few_shot_ends_at_the_first_failure(run, calls, fail_at, told, number_of_calls):
    variables = {"TASKS": "SST-2", "NUM_SAMPLES": "2", "fail_at": fail_at, "fail_code": 4}
    done = run("preprocess_few_shot.sh", *FOLDERS, **variables)
    assert done.returncode == 4
    assert summary(done) == [
        "SST-2, 20 examples: done, 2 samples in out/SST-2/20",
        f"SST-2, 100 examples: {told}",
    ]
    assert len(calls()) == number_of_calls


both = pytest.mark.parametrize("script", ["preprocess_glue.sh", "preprocess_few_shot.sh"])


@both
def test_what_is_missing_is_told_before_anything_starts(run, calls, tmp_path, script):
    (tmp_path / "my glue" / "QNLI").rmdir()
    (tmp_path / "my glue" / "MNLI").rmdir()
    line = refusal(run(script, *FOLDERS))
    assert "missing: my glue/QNLI my glue/MNLI; " in line
    (tmp_path / "bpe" / "dict.txt").unlink()
    assert "bpe/dict.txt is missing" in refusal(run(script, *FOLDERS, TASKS="SST-2"))
    assert calls() == []


@both
def test_a_missing_command_is_told(run, calls, tmp_path, script):
    # In a folder that has no .venv beside it.
    copy = tmp_path / "scripts" / script
    copy.parent.mkdir()
    shutil.copy(SCRIPTS / script, copy)
    shutil.copy(SCRIPTS / "prepare.sh", copy.parent)
    (tmp_path / "tools" / "scl-preprocess").unlink()
    line = refusal(run(copy, *FOLDERS))
    assert line == "error: scl-preprocess was not found; 'make setup' installs it"
    assert calls() == []

    installed = tmp_path / ".venv" / "bin" / "scl-preprocess"
    installed.parent.mkdir(parents=True)
    installed.write_text(STAND_IN)
    installed.chmod(0o755)
    assert run(copy, *FOLDERS).returncode == 0
    assert calls()


@both
def test_the_command_line(run, script):
    done = run(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: scripts/{script} GLUE_DIR BPE_DIR OUT_DIR")
    assert "example:\n  TASKS=" in done.stdout
    assert "OUT_DIR are expected" in refusal(run(script, "my glue", "bpe"))


def test_bad_values(run, calls):
    line = refusal(run("preprocess_glue.sh", "--workers", "2", *FOLDERS))
    assert "come before the options" in line
    script = "preprocess_few_shot.sh"
    assert "OUT_DIR are expected" in refusal(run(script, *FOLDERS, "more"))
    assert "SEED: x is not a number" in refusal(run(script, *FOLDERS, SEED="x"))
    assert "NUM_EXAMPLES: -5 is not" in refusal(run(script, *FOLDERS, NUM_EXAMPLES="20 -5"))
    assert "TASKS names no task" in refusal(run(script, *FOLDERS, TASKS=" "))
    assert calls() == []
