"""Killed runs are taken up again and end as if nothing had happened."""

import signal
import subprocess
import sys
import time

import pytest

from tests import runs

OPTIONS = ["--max-epoch", 3, "--save-interval-updates", 3, "--keep-interval-updates", 2]

# Kills itself, as kill -9 would, when half of a checkpoint is on disk.
KILLED_WHILE_WRITING = """
import os, signal, sys
import torch
from fairseq.file_io import PathManager
from fairseq_cli.train import cli_main

where, at_call = sys.argv.pop(1), int(sys.argv.pop(1))
calls = 0

def die_after_half(data, path):
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        os.fsync(file.fileno())
        os.kill(os.getpid(), signal.SIGKILL)

def copy(source, destination, overwrite=False):
    global calls
    calls += 1
    if calls == at_call:
        die_after_half(open(source, "rb").read(), destination)
    return real_copy(source, destination, overwrite=overwrite)

def save(state, file):
    global calls
    calls += 1
    real_save(state, file)
    if calls == at_call:
        file.truncate(file.tell() // 2)
        os.fsync(file.fileno())
        os.kill(os.getpid(), signal.SIGKILL)

real_copy, real_save = PathManager.copy, torch.save
if where == "copy":
    PathManager.copy = staticmethod(copy)
else:
    torch.save = save
cli_main()
"""


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder, *OPTIONS)
    return folder / "checkpoint_last.pt"


def test_kill_in_mid_epoch(tiny, train, uninterrupted, tmp_path):
    arguments = runs.command(tiny, tmp_path, *OPTIONS)
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=runs.ENVIRONMENT
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "checkpoint_2_12.pt").exists():  # epochs have 8 updates
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    output = train(tmp_path, *OPTIONS).stdout
    assert "loading pretrained model" not in output  # resumed, not started over
    runs.assert_same_weights(uninterrupted, tmp_path / "checkpoint_last.pt")


@pytest.mark.parametrize(
    ("where", "call", "broken"),
    [
        pytest.param("copy", 3, ["checkpoint_best.pt"], marks=pytest.mark.slow),
        ("copy", 6, ["checkpoint_last.pt"]),
        ("save", 4, []),
    ],
    ids=["copying to best", "copying to last", "writing"],
)
def test_kill_while_a_checkpoint_is_written(
    tiny, train, uninterrupted, tmp_path, where, call, broken
):
    arguments = runs.command(tiny, tmp_path, *OPTIONS)[1:]
    driver = [sys.executable, "-c", KILLED_WHILE_WRITING, where, str(call), *arguments]
    killed = subprocess.run(driver, capture_output=True, env=runs.ENVIRONMENT, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert [p.name for p in tmp_path.glob("checkpoint*.pt") if not _loads(p)] == broken
    output = train(tmp_path, *OPTIONS).stdout
    assert "loading pretrained model" not in output
    falls_back = "checkpoint_last.pt" in broken
    assert ("resuming from the newest whole checkpoint" in output) == falls_back
    runs.assert_same_weights(uninterrupted, tmp_path / "checkpoint_last.pt")


def _loads(path):
    try:
        runs.weights(path)
    except Exception:
        return False
    return True


def test_nothing_whole_left_is_one_line_that_names_the_file(train, tmp_path):
    train(tmp_path, "--max-update", 2, "--no-epoch-checkpoints", "--disable-validation")
    last = tmp_path / "checkpoint_last.pt"
    assert [path.name for path in tmp_path.glob("*.pt")] == [last.name]
    last.write_bytes(last.read_bytes()[:1000])
    done = train(tmp_path, check=False)
    assert done.returncode == 2
    # Not the last line for sure: the interpreter may have its say while it shuts down.
    (message,) = (line for line in done.stdout.splitlines() if line.startswith("error:"))
    assert message.startswith(f"error: {last} is truncated or damaged")
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("option", ["--restore-file", "--finetune-from-model"])
def test_a_truncated_start_is_named_and_nothing_stands_in_for_it(tiny, train, tmp_path, option):
    whole = (tiny.encoder / "model.pt").read_bytes()
    broken = tmp_path / "broken.pt"
    broken.write_bytes(whole[: len(whole) // 2])
    folder = tmp_path / "run"
    train(folder, "--max-update", 1, "--no-last-checkpoints", "--no-epoch-checkpoints")
    assert [path.name for path in folder.glob("*.pt")] == ["checkpoint_best.pt"]
    done = train(folder, option, broken, check=False)
    assert done.returncode == 2
    assert f"error: {broken} is truncated or damaged" in done.stdout.splitlines()


def test_restore_file_with_resets_starts_from_the_encoder(tiny, train, tmp_path):
    resets = [f"--reset-{what}" for what in ("optimizer", "dataloader", "meters", "lr-scheduler")]
    restore = ["--restore-file", tiny.encoder / "model.pt", *resets]
    train(tmp_path / "restored", *restore, "--max-epoch", 1)
    train(tmp_path / "finetuned", "--max-epoch", 1)
    last = "checkpoint_last.pt"
    runs.assert_same_weights(tmp_path / "restored" / last, tmp_path / "finetuned" / last)
