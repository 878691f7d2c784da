"""scl-sweep with trials of two stages: SupCon, then a classifier on the frozen encoder."""

import json
import os
import shlex
import signal
import time

import pytest
import torch
import yaml

from scl_fairseq.cli.sweep import main
from tests import runs
from tests.cli.test_sweep import ROOT, finished, results, sweep


def write(folder, tiny, first=None, **changes):
    """A configuration of CE, and of SupCon; ``first`` are options of its first stage."""
    values = {
        "data": str(tiny.data),
        "warmup-ratio": 0.1,
        "grid": {"task": ["SST-2"], "system": ["CE", "SupCon"]},
        "options": {
            "finetune-from-model": str(tiny.encoder / "model.pt"),
            "scl-temperature": 0.3,
            "seed": 3,
            "batch-size": 8,
            "lr": 1e-3,
            "max-epoch": 3,
        },
        "overrides": [
            {"when": {"system": ["CE", "SupCon"]}, "options": {"scl-lambda": 0}},
            {
                "when": {"system": "SupCon"},
                "options": {"lr": 1e-2, "freeze-encoder": True, "pooler-activation-fn": "linear"},
                "first-stage": {"max-epoch": 2, **(first or {})},
            },
        ],
        **changes,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    return path


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A sweep that ran in one go: configuration, folder, what it printed."""
    folder = tmp_path_factory.mktemp("stages")
    path = write(folder, tiny)
    said = finished(path, "--out", folder / "out", "--threads", 1, "--keep", "best")
    return path, folder / "out", said


def of_system(out, system):
    (found,) = (one for one in results(out) if one["setting"]["system"] == system)
    return found


def test_both_stages_are_in_the_result(whole):
    _, out, (stdout, stderr) = whole
    assert "2 of 2 trials have a result" in stdout
    assert "system=SupCon: validation" in stderr
    found = of_system(out, "SupCon")
    assert found["num_updates"] == 3 * 8
    assert found["first_stage"]["num_updates"] == 2 * 8
    assert len(found["first_stage"]["train_loss"]) == 2
    assert len(found["valid_accuracy"]) == len(found["train_loss"]) == 3
    assert found["setting"]["first-stage.max-epoch"] == 2
    # Each stage has its own warm-up: a tenth of its updates.
    assert found["setting"]["first-stage.total-num-update"] == 2 * 8
    assert found["setting"]["total-num-update"] == 3 * 8
    assert of_system(out, "CE")["first_stage"] is None
    assert not list(out.glob("trials/*/first-stage"))


def test_the_recorded_lines_give_the_recorded_result(whole, tmp_path):
    _, out, _ = whole
    record = of_system(out, "SupCon")
    folder = shlex.split(record["command"])
    folder = folder[folder.index("--save-dir") + 1].removesuffix("/first-stage")
    lines = record["command"].replace(folder, str(tmp_path)).split(" && ")
    said = ""
    for line in lines:
        command = shlex.split(line)
        assert command[0] == "fairseq-train"
        said = runs.train([runs.FAIRSEQ_TRAIN, *command[1:]], cwd=ROOT).stdout
    accuracies = [
        float(json.loads(line.partition("| INFO | valid | ")[2])["valid_accuracy"])
        for line in said.splitlines()
        if "| INFO | valid | {" in line
    ]
    assert accuracies == record["valid_accuracy"]
    runs.assert_same_weights(out / record["checkpoint"], tmp_path / "checkpoint_best.pt")
    assert [path.name for path in (tmp_path / "first-stage").glob("*.pt")] == ["checkpoint_last.pt"]
    # The encoder that is classified is the first stage's, to the bit.
    best = runs.weights(tmp_path / "checkpoint_best.pt")
    last = runs.weights(tmp_path / "first-stage" / "checkpoint_last.pt")
    names = [name for name in best if name.startswith("encoder.sentence_encoder.")]
    assert names
    assert all(torch.equal(best[name], last[name]) for name in names)


def test_a_dry_run_shows_both_lines(whole, tmp_path, capsys):
    path, out, _ = whole
    record = of_system(out, "SupCon")
    how = ["--cpu", "--keep", "best", "--dry-run"]
    assert main([str(path), "--out", str(out), *how]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 4
    assert listed[0].endswith("task=SST-2 system=CE")
    assert listed[1].startswith(record["trial"])
    assert " && ".join(line.strip() for line in listed[2:]) == record["command"]
    assert "--disable-validation" in listed[2]
    assert "--disable-validation" not in listed[3]


@pytest.mark.slow
def test_the_first_stage_stays_where_all_is_kept(tiny, tmp_path):
    path = write(tmp_path, tiny, grid={"system": ["SupCon"]})
    finished(path, "--out", tmp_path / "out", "--threads", 1, "--keep", "all")
    (folder,) = (tmp_path / "out" / "trials").iterdir()
    assert (folder / "first-stage" / "checkpoint_last.pt").is_file()
    assert (folder / "checkpoint_last.pt").is_file()


@pytest.mark.parametrize("stage", [pytest.param("first", marks=pytest.mark.slow), "second"])
def test_killed_in_either_stage_it_is_made_whole(whole, tiny, tmp_path, stage):
    _, out, _ = whole
    expected = of_system(out, "SupCon")
    grid = {"task": ["SST-2"], "system": ["SupCon"]}
    slow = yaml.safe_load(write(tmp_path, tiny, grid=grid).read_text("utf-8"))
    # Long in the stage that is interrupted, so that it is met there.
    slow["overrides"][1]["first-stage" if stage == "first" else "options"]["max-epoch"] = 500
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(slow, sort_keys=False), "utf-8")
    place = tmp_path / "out"
    process = sweep(tmp_path / "slow.yaml", "--out", place, "--threads", 1)
    # fairseq makes the folder as it starts, and the checkpoint at the end of the stage.
    name = "first-stage" if stage == "first" else "first-stage/checkpoint_last.pt"
    deadline = time.monotonic() + 600
    while not list(place.glob(f"trials/*/{name}")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (folder,) = (place / "trials").iterdir()
    assert (folder / "first-stage" / "checkpoint_last.pt").exists() is (stage == "second")
    assert not (folder / "result.json").exists()
    # What is left stands where the trial of the whole sweep would have left it.
    folder.rename(place / "trials" / expected["trial"])
    finished(write(tmp_path, tiny, grid=grid), "--out", place, "--threads", 1)
    found = of_system(place, "SupCon")
    for key in ("trial", "valid_accuracy", "test_accuracy", "train_loss"):
        assert found[key] == expected[key]
    assert not list(place.glob("trials/*/first-stage"))


def test_a_first_stage_that_fails_is_told_and_leaves_nothing(tiny, tmp_path):
    path = write(tmp_path, tiny, {"lr": 1e30}, grid={"system": ["SupCon"]})
    _, err = finished(path, "--out", tmp_path / "out", "--threads", 1, code=1)
    assert "FAILED, FloatingPointError" in err
    assert not list((tmp_path / "out").glob("trials/*/first-stage"))


def test_options_of_a_first_stage_are_checked_before_it_starts(tiny, tmp_path, capsys):
    for first, message in (
        (
            {"supcon-wiews": 2},
            "first-stage.supcon-wiews: 2: unrecognized arguments: --supcon",
        ),
        (
            {"freeze-encoder": True},
            "first-stage.freeze-encoder: True: unrecognized arguments: --freeze-encoder; the "
            "criterion of this first-stage is supcon, which first-stage.criterion changes",
        ),
        (
            {"supcon-views": "x"},
            "first-stage.supcon-views: x: argument --supcon-views: inval",
        ),
        ({"fp16": True}, "options.fp16: needs a GPU"),
        ({"update-freq": "4,2"}, "first-stage.update-freq: warmup-ratio needs one number"),
    ):
        path = write(tmp_path, tiny, first)
        assert main([str(path), "--out", str(tmp_path / "out"), "--cpu"]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert len(err.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
