"""The card of every folder that leaves: data, labels, recipe, scores, licence and limits."""

import json
import shutil

import pytest
import torch
import yaml

from scl_fairseq.checkpoints import loading
from scl_fairseq.cli.convert import main
from tests import runs

RECORD = {
    "data": "/home/somebody/texts/reviews.csv",
    "num_examples": {"train": 120, "valid": 30, "test": 25},
    "scores": {
        "split": "test",
        "num_examples": 25,
        "accuracy": 84.0,
        "accuracy_interval": [68.0, 96.0],
    },
}
TARGETS = ["huggingface", "sentence-transformers", "onnx"]


def card_of(folder, out, target):
    words = ["--to", target, str(folder), str(out)]
    if target == "sentence-transformers":
        words.insert(2, "--with-head")
    if target == "onnx":
        words += ["--precision", "fp32"]
        for package in ("onnx", "onnxruntime"):
            pytest.importorskip(package, reason="the extra onnx is not installed")
    assert main(words) == 0
    text = (out / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    rows = [row.strip("| ").split(" | ") for row in body.splitlines() if row.startswith("| ")]
    return yaml.safe_load(front), dict(row for row in rows if len(row) == 2), body


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_card_says(classifier, tmp_path, target):
    folder = shutil.copytree(classifier, tmp_path / "run")
    (folder / "train.json").write_text(json.dumps(RECORD), encoding="utf-8")
    front, facts, body = card_of(folder, tmp_path / "out", target)
    assert front["license"] == "apache-2.0"
    assert front["language"] == "en"
    assert facts["encoder"] == "Tiny encoder"
    assert facts["licence of the encoder"] == "apache-2.0"
    assert facts["data"] == "SST-2"
    assert facts["labels, in the order of the logits"] == "0, 1"
    assert facts["training examples"] == "120"
    # As tests.runs has it, and as the fixture changes it.
    recipe = {"optimizer": "adam", "learning rate": "0.003", "batch size": "8", "seed": "3"}
    assert facts.items() >= {**recipe, "epochs at most": "4", "schedule": "fixed"}.items()
    assert facts["accuracy, test set, 25 examples"] == "84.0 % (95 % interval 68.0 to 96.0)"
    limits = body.split("## Known limits")[1]
    for words in ("64 tokens", "120 labelled examples", "calibrated", "language: en"):
        assert words in limits
    assert "somebody" not in body


def test_a_table_of_ones_own_is_named_by_its_file(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "run")
    (folder / "train.json").write_text(json.dumps(RECORD), encoding="utf-8")
    state = contents(folder / "checkpoint_best.pt")
    state["extra_state"]["scl_fairseq"]["text"]["task"] = "custom"
    torch.save(state, folder / "checkpoint_best.pt")
    front, facts, body = card_of(folder, tmp_path / "out", "huggingface")
    assert facts["data"] == "reviews.csv"
    assert "texts unlike those of reviews.csv" in body
    assert "custom" not in json.dumps(front)


@pytest.mark.parametrize(
    "record",
    [
        "not JSON",
        "[]",
        json.dumps({"scores": {"accuracy": "high"}, "num_examples": [1], "data": None}),
        json.dumps({"scores": None, "num_examples": {"train": "many"}}),
    ],
)
def test_a_record_that_says_nothing_is_passed_over(classifier, tmp_path, record):
    folder = shutil.copytree(classifier, tmp_path / "run")
    (folder / "train.json").write_text(record, encoding="utf-8")
    _, facts, body = card_of(folder, tmp_path / "out", "huggingface")
    assert facts["data"] == "SST-2"
    assert "interval" not in body
    assert "examples" not in body


def test_a_licence_that_is_not_known(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "run")
    for source in (None, "a string", {"license": 3, "name": "x" * 500}):
        state = contents(folder / "checkpoint_best.pt")
        state["extra_state"]["scl_fairseq"]["source"] = source
        torch.save(state, folder / "checkpoint_best.pt")
        front, facts, _ = card_of(folder, tmp_path / "out", "huggingface")
        assert "license" not in front
        assert facts["licence of the encoder"].startswith("not known")
        assert "encoder" not in facts


def contents(path):
    loading.allow_globals()
    return torch.load(path, map_location="cpu")


def test_the_licence_goes_along_when_training_resumes_and_goes_on(tiny, tmp_path):
    first = runs.command(tiny, tmp_path / "one", "--max-update", 4)
    runs.train(first)
    runs.train([*first, "--max-update", "8"])
    source = {"name": "Tiny encoder", "license": "apache-2.0", "language": "en"}
    for name, folder, start in (
        ("one", tmp_path / "one", None),
        ("two", tmp_path / "two", tmp_path / "one" / "checkpoint_last.pt"),
    ):
        if start:
            options = "--finetune-from-model", start, "--max-update", 2, "--criterion", "supcon"
            runs.train(runs.command(tiny, folder, *options))
        state = contents(folder / "checkpoint_last.pt")
        assert state["extra_state"]["scl_fairseq"]["source"] == source, name


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n", {"name": "enc", "license": "mit"}),
        (
            '---\nlicense: "cc-by-4.0"\n---\n# A *name*\n',
            {"name": "A *name*", "license": "cc-by-4.0"},
        ),
        ("---\nlicense:\n- mit\n- other\ntags: x\n---\n", {"name": "enc", "license": "mit, other"}),
        ("no front\n---\nlicense: mit\n---\n", {"name": "enc"}),
        ("---\nlicense: " + "x" * 300 + "\n---\n", {"name": "enc"}),
        ("---\nlicense:\n---\n", {"name": "enc"}),
        ("", {"name": "enc"}),
    ],
)
def test_cards_of_sources(tmp_path, card, expected):
    from scl_fairseq.checkpoints.source_card import read_source_card

    folder = tmp_path / "enc"
    folder.mkdir()
    assert read_source_card(folder) == {"name": "enc"}
    (folder / "README.md").write_text(card, encoding="utf-8")
    assert read_source_card(folder) == expected
    (folder / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert read_source_card(folder) == {"name": "enc"}
