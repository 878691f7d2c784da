"""scl-evaluate: whose F1 it shows, and the confusions of many labels."""

import json
import re
import shutil

import numpy as np
import pytest
import sklearn.metrics
import torch

from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import custom_task
from tests.cli.test_evaluate import PROJECTION, changed, labels_of, refused, row_by_row, run


@pytest.fixture(scope="module")
def checkpoint(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(folder, "--max-epoch", 4, "--lr", "3e-3", "--disable-validation", "--scl-lambda", 0)
    return folder / "checkpoint_last.pt"


def scores_of(path):
    record = json.loads(path.read_text("utf-8"))
    return record["settings"], record["checkpoints"][0]["scores"]


@pytest.mark.parametrize("names", ["0 1", "1 0", "pos neg", "not_entailment entailment"])
def test_f1_is_of_a_label_and_says_which(names, checkpoint, tiny, tmp_path, capsys):
    """The first label of the dictionary is the more frequent one where fairseq has made it."""
    data, names = shutil.copytree(tiny.data, tmp_path / "data"), names.split()
    (data / "label" / "dict.txt").write_text("".join(f"{name} 9\n" for name in names))
    copy = changed(checkpoint, tmp_path / "alone" / "model.pt", alone)
    truth = np.array(names)[labels_of(tiny, "test")]
    predicted = np.array(names)[row_by_row(copy, data, "test").argmax(axis=1)]
    assert len(set(predicted)) == 2
    chosen = {"0": "1", "1": "1", "pos": "pos", "not_entailment": "not_entailment"}[names[0]]
    for options, label in (([], chosen), *((["--f1-label", name], name) for name in names)):
        out = ["--json", tmp_path / "s.json", "--bootstrap", 20]
        assert run(copy, "--data", data, *options, *out) == 0
        f1 = 100 * sklearn.metrics.f1_score(truth, predicted, pos_label=label)
        settings, scores = scores_of(tmp_path / "s.json")
        assert scores["f1"] == pytest.approx(f1)
        assert scores["f1_label"] == settings["f1_label"] == label
        assert settings["f1"] == f"of the label {label}"
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "F1" in line]
        assert line.startswith(f"| F1 of {label} (%)")
        assert f" {f1:.2f} |" in line


def alone(state):
    """Without what it knows of its training, whose labels have other names."""
    state["cfg"]["task"]["data"] = "nowhere"
    state["extra_state"].pop("scl_fairseq")


def test_a_label_that_is_not_there(checkpoint, tiny, capsys):
    said = refused(capsys, checkpoint, "--data", tiny.data, "--f1-label", "pos")
    assert "--f1-label pos is none of the labels: 0, 1" in said


def test_f1_label_is_of_labels(checkpoint, tmp_path, capsys):
    assert "--f1-label" in refused(capsys, checkpoint, "--sts", tmp_path, "--f1-label", "1")


@pytest.fixture(scope="module")
def many(checkpoint, tiny, tmp_path_factory):
    """``many(C)``: 300 examples of C labels, and a classifier of so many."""
    words = (tiny.encoder / "vocab.txt").read_text().split()[5:]

    def make(number):
        folder = tmp_path_factory.mktemp("many")
        rng, labels = np.random.default_rng(number), [f"label{i}" for i in range(number)]
        (folder / "source").mkdir()
        for split in ("train", "dev", "test"):
            lines = ["sentence\tlabel"]
            for index in range(number if split == "train" else 300):
                label = labels[index if split == "train" else index % 7]
                lines.append(f"{' '.join(rng.choice(words, 4))}\t{label}")
            (folder / "source" / f"{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
        settings = Settings("wordpiece", tiny.encoder, 64)
        preprocess(custom_task(labels), folder / "source", folder / "data", settings, workers=1)

        def change(state):
            alone(state)
            generator = torch.Generator().manual_seed(1)
            state["cfg"]["task"]["num_classes"] = number
            state["model"][f"{PROJECTION}.weight"] = torch.randn(number, 32, generator=generator)
            state["model"][f"{PROJECTION}.bias"] = torch.zeros(number)

        def balance(state):  # so that many classes are predicted for some row
            means = row_by_row(folder / "first.pt", folder / "data", "test").mean(axis=0)
            state["model"][f"{PROJECTION}.bias"] = -torch.tensor(means).float()

        first = changed(checkpoint, folder / "first.pt", change)
        model = changed(first, folder / "alone" / "model.pt", balance)
        return model, folder / "data", labels

    return make


@pytest.mark.parametrize("number", [150, 1000])
def test_many_labels_are_short_on_the_screen_and_whole_in_the_file(number, many, tmp_path, capsys):
    checkpoint, data, labels = many(number)
    out = tmp_path / "s.json"
    assert run(checkpoint, "--data", data, "--json", out, "--bootstrap", 20) == 0
    shown = capsys.readouterr().out
    predicted = row_by_row(checkpoint, data, "test").argmax(axis=1)
    truth = np.arange(300) % 7
    matrix = sklearn.metrics.confusion_matrix(truth, predicted, labels=range(number))

    settings, scores = scores_of(out)
    assert settings["f1_label"] is None
    assert "macro F1 (%)" in shown
    f1 = sklearn.metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    assert scores["f1"] == pytest.approx(100 * f1)
    assert scores["mcc"] == pytest.approx(sklearn.metrics.matthews_corrcoef(truth, predicted))
    found = np.zeros((number, number), int)
    for label, prediction, count in scores["confusion_cells"]:
        found[labels.index(label), labels.index(prediction)] = count
    assert (found == matrix).all()
    assert scores["confusion"] == (matrix.tolist() if number == 150 else None)
    assert out.stat().st_size < 100 * 300 * 10 + 12 * 150**2  # no million cells

    assert max(map(len, shown.splitlines())) < 200
    assert len(shown.splitlines()) < 60
    np.fill_diagonal(matrix, 0)
    assert f"20 of {(matrix > 0).sum()} confusions of {number} labels" in shown
    rows = re.findall(r"\| (label\d+) +\| (label\d+) +\| +(\d+) \|", shown)
    assert len(rows) == 20
    counts = [int(count) for _, _, count in rows]
    assert counts == sorted(matrix[matrix > 0].tolist(), reverse=True)[:20]
    for label, prediction, count in rows:
        assert matrix[labels.index(label), labels.index(prediction)] == int(count)


def test_few_confusions_of_many_labels_are_all_shown(many, tmp_path, capsys):
    """One label for all: six confusions, and a table of 30 columns would not be read."""
    checkpoint, data, _ = many(30)

    def settle(state):
        state["model"][f"{PROJECTION}.bias"][3] = 1e4

    checkpoint = changed(checkpoint, tmp_path / "one" / "model.pt", settle)
    assert run(checkpoint, "--data", data, "--bootstrap", 20) == 0
    shown = capsys.readouterr().out
    assert "all 6 confusions of 30 labels" in shown
    assert len(re.findall(r"\| label\d+ +\| label3 +\| +4[23] \|", shown)) == 6
