"""``scl-convert --to``: a run's checkpoint for transformers, and what it refuses."""

import argparse
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from scl_fairseq.cli.convert import main

transformers = pytest.importorskip("transformers")

from tests import runs  # noqa: E402
from tests.checkpoints.exported import load_hub  # noqa: E402 (after the check above)

SENTENCES = ["a dull film", "the story is charming", "bad"]


@pytest.fixture(scope="module")
def run(tiny, train, tmp_path_factory) -> Path:
    """The folder of one short training run."""
    folder = tmp_path_factory.mktemp("run")
    select = ["--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric"]
    train(folder, "--max-epoch", 1, "--scl-lambda", 0.7, *select, "--no-epoch-checkpoints")
    return folder


@pytest.fixture
def arguments(tiny, run):
    """What exports the run, as far as the destination."""
    return [
        "--to",
        "huggingface",
        "--data-dir",
        str(tiny.data),
        "--bpe-dir",
        str(tiny.encoder),
        str(run / "checkpoint_best.pt"),
    ]


def test_a_run_goes_out_whole(tiny, run, arguments, tmp_path, capsys):
    assert main([*arguments, str(tmp_path / "out"), "--task", "sst-2"]) == 0
    output = capsys.readouterr().out
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        assert name in output
        assert (tmp_path / "out" / name).is_file()
    assert "2 layers, 32 wide, 4 heads, 64 positions" in output
    assert "labels: 0, 1" in output
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    hub = load_hub(run / "checkpoint_best.pt", tiny.encoder, tiny.data, "wordpiece")
    for sentence in SENTENCES:
        with torch.no_grad():
            found = model.eval()(**tokenizer(sentence, return_tensors="pt")).logits
            tokens = hub.encode(sentence, no_separator=True)
            expected = hub.predict("sentence_classification_head", tokens, return_logits=True)
        assert (found - expected).abs().max() < 1e-5


def test_the_model_card_says_what_the_checkpoint_says(run, arguments, tmp_path):
    import yaml

    assert main([*arguments, str(tmp_path / "out"), "--task", "SST-2"]) == 0
    _, front, body = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    state = torch.load(run / "checkpoint_best.pt", weights_only=True)
    score = state["extra_state"]["val_loss"]
    metadata = yaml.safe_load(front)
    assert metadata["library_name"] == "transformers"
    assert metadata["pipeline_tag"] == "text-classification"
    (result,) = metadata["model-index"][0]["results"]
    assert result["dataset"]["name"] == "SST-2"
    assert result["metrics"][0]["type"] == "accuracy"
    assert result["metrics"][0]["value"] == pytest.approx(score, abs=1e-3)
    rows = [row.strip("| ").split(" | ") for row in body.splitlines() if row.startswith("| ")]
    facts = dict(row for row in rows if len(row) == 2)
    assert facts["data"] == "SST-2"
    assert facts["λ (weight of SCL)"] == "0.7"
    assert facts["τ (SCL)"] == "0.3"
    assert facts["seed"] == "3"
    assert facts["updates"] == "8"
    assert float(facts["validation accuracy"]) == pytest.approx(score, abs=1e-3)


def test_what_is_not_known_is_left_out(tiny, run, arguments, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    (data / "preprocess.json").unlink()
    arguments[arguments.index("--data-dir") + 1] = str(data)
    state = torch.load(run / "checkpoint_best.pt", weights_only=True)
    state["extra_state"].pop("val_loss")
    state["extra_state"].pop("scl_fairseq")
    for name in ("scl_lambda", "scl_temperature"):
        state["cfg"]["criterion"].pop(name)
    torch.save(state, tmp_path / "run.pt")
    assert main([*arguments[:-1], str(tmp_path / "run.pt"), str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for word in ("λ", "τ", "validation", "| data", "None", "model-index"):
        assert word not in card


def test_the_training_data_need_not_be_named_while_it_is_there(tiny, run, tmp_path):
    arguments = ["--to", "huggingface", "--bpe-dir", str(tiny.encoder)]
    assert main([*arguments, str(run / "checkpoint_best.pt"), str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "0", "1": "1"}
    assert "| data | SST-2 |" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_run_of_hydra_goes_out_too(tiny, run, arguments, tmp_path):
    """Its checkpoints keep the model's options as plain data, under another name."""
    state = torch.load(run / "checkpoint_best.pt", weights_only=True)
    options = vars(state["cfg"]["model"])
    state["cfg"]["model"] = {**options, "_name": options.pop("arch")}
    torch.save(state, tmp_path / "run.pt")
    for source, out in ((arguments[-1], "one"), (str(tmp_path / "run.pt"), "two")):
        assert main([*arguments[:-1], source, str(tmp_path / out)]) == 0
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_only_head_goes_out_where_training_named_none(arguments, tmp_path):
    """So are classifiers that fairseq published."""
    state = torch.load(arguments[-1], weights_only=True)
    state["cfg"]["task"]["classification_head_name"] = None
    state["model"] = {
        name.replace("sentence_classification_head", "mnli"): tensor
        for name, tensor in state["model"].items()
    }
    torch.save(state, tmp_path / "run.pt")
    assert main([*arguments[:-1], str(tmp_path / "run.pt"), str(tmp_path / "out")]) == 0
    assert main([*arguments, str(tmp_path / "expected")]) == 0
    found, expected = (tmp_path / name / "model.safetensors" for name in ("out", "expected"))
    assert found.read_bytes() == expected.read_bytes()


def test_for_sentence_transformers(tiny, run, arguments, tmp_path, capsys):
    arguments[1] = "sentence-transformers"
    out = tmp_path / "out"
    assert main([*arguments, str(out), "--pooling", "mean", "--normalize"]) == 0
    kinds = [
        module["type"].split(".")[-1] for module in json.loads((out / "modules.json").read_text())
    ]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    pooling = json.loads((out / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True
    assert pooling["pooling_mode_cls_token"] is False
    # What it wrote before it may replace, by either form.
    arguments[1] = "huggingface"
    assert main([*arguments, str(out)]) == 0
    assert not (out / "modules.json").exists()


class Hostile:
    def __reduce__(self):
        return os.system, ("touch ran",)


def edit(change):
    """Change the checkpoint's state."""

    def spoil(folder: Path):
        state = torch.load(folder / "run.pt", weights_only=True)
        change(state)
        torch.save(state, folder / "run.pt")

    return spoil


def model_option(**options):
    return edit(lambda state: vars(state["cfg"]["model"]).update(options))


def task_option(**options):
    return edit(lambda state: state["cfg"]["task"].update(options))


def hostile(folder: Path):
    torch.save({"model": {}, "args": Hostile()}, folder / "run.pt")


def truncated(size):
    def spoil(folder: Path):
        path = folder / "run.pt"
        path.write_bytes(path.read_bytes()[:size])

    return spoil


def other_architecture(name):
    args = argparse.Namespace(arch=name, task="translation")
    return lambda folder: torch.save({"args": args, "model": {}}, folder / "run.pt")


def append(name, line):
    def spoil(folder: Path):
        path = folder / "data" / name / "dict.txt"
        path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")

    return spoil


def forgetting(spoil):
    """The same of a checkpoint of an earlier version."""

    def both(folder: Path):
        runs.forget_texts(folder / "run.pt")
        spoil(folder)

    return both


def without(name):
    return lambda folder: (folder / name).unlink()


def wide_head(state):
    head = "classification_heads.sentence_classification_head."
    state["model"][head + "dense.weight"] = torch.zeros(40, 32)
    state["model"][head + "dense.bias"] = torch.zeros(40)
    state["model"][head + "out_proj.weight"] = torch.zeros(2, 40)


REFUSALS = {
    "hostile": (hostile, [], r"run.pt refers to \w+.system"),
    "truncated at its end": (truncated(-3000), [], "run.pt is truncated, damaged or no"),
    "truncated at its start": (truncated(5000), [], "run.pt is truncated, damaged or no"),
    "empty": (truncated(0), [], "run.pt is truncated, damaged or no checkpoint$"),
    "no checkpoint": (without("run.pt"), [], "no such checkpoint"),
    "no fairseq checkpoint": (
        lambda folder: torch.save([1], folder / "run.pt"),
        [],
        "not a fairseq checkpoint",
    ),
    "text": (
        lambda folder: (folder / "run.pt").write_text("text"),
        [],
        "run.pt (is truncated|cannot be read)",
    ),
    "transformer": (other_architecture("transformer"), [], "architecture 'transformer'"),
    "BART": (other_architecture("bart_base"), [], "architecture 'bart_base'"),
    "unknown architecture": (other_architecture("mine"), [], "architecture 'mine'"),
    "pre-norm": (model_option(encoder_normalize_before=True), [], "pre-norm"),
    "pooler": (model_option(pooler_activation_fn="relu"), [], "its head uses relu"),
    "activation": (model_option(activation_fn="swish"), [], "activation swish"),
    "wide head": (edit(wide_head), [], "40 wide inside"),
    "a layer too many": (model_option(encoder_layers=3), [], "lacks .*layers.2"),
    "a layer too few": (model_option(encoder_layers=1), [], "holds .*layers.1"),
    "other head": (task_option(classification_head_name="mood"), [], "no head 'mood'"),
    "separator": (task_option(separator_token=5), [], "--separator-token 5"),
    "no <s>": (task_option(init_token=None), [], "--init-token None"),
    "other dictionary": (append("input0", "more 1\n"), [], "was trained with: its symbols are oth"),
    "dictionary": (
        forgetting(append("input0", "more 1\n")),
        [],
        "not the dictionary of this model",
    ),
    "malformed dictionary": (append("input0", "more\n"), [], r"dict.txt:\d+: .* a symbol and its"),
    "other labels": (append("label", "2 1\n"), [], "it has the labels 0, 1, 2, not 0, 1"),
    "labels": (
        forgetting(append("label", "2 1\n")),
        [],
        r"has 3 labels \(0, 1, 2\), and the head .* 2",
    ),
    "labels of the task": ([], ["--task", "RTE"], "entailment, not_entailment, .* has 0, 1"),
    "task": ([], ["--task", "SST-3"], "unknown task"),
    "no BPE files": (without("bpe/vocab.txt"), [], "no BPE files in bpe: vocab.txt; --bpe and"),
    "other BPE": ([], ["--bpe", "gpt2"], "no BPE files in bpe: encoder.json, vocab.bpe"),
    "hash": ([], ["--sha256", "ab12"], "has sha256"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_refusals_are_one_line_and_leave_the_destination(
    tiny, run, tmp_path, capsys, monkeypatch, fault
):
    spoil, more, message = REFUSALS[fault]
    monkeypatch.chdir(tmp_path)
    shutil.copy(run / "checkpoint_best.pt", tmp_path / "run.pt")
    shutil.copytree(tiny.data, tmp_path / "data")
    shutil.copytree(tiny.encoder, tmp_path / "bpe", ignore=shutil.ignore_patterns("model.pt"))
    out = tmp_path / "out"
    out.mkdir()
    for name in ("config.json", "model.safetensors"):
        (out / name).write_text("earlier")
    if spoil:
        spoil(tmp_path)
    before = sorted(tmp_path.iterdir())
    arguments = ["--to", "huggingface", "--data-dir", "data", "--bpe-dir", "bpe", "run.pt", "out"]
    assert main([*arguments, *more]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("scl-convert: error: ")
    assert captured.err.count("\n") == 1
    assert re.search(message, captured.err), captured.err
    assert captured.out == ""
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    assert {path.read_text() for path in out.iterdir()} == {"earlier"}
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_of_something_else_is_not_replaced(run, arguments, tmp_path, capsys):
    shutil.copy(run / "checkpoint_best.pt", tmp_path)
    assert main([*arguments[:-1], str(tmp_path / "checkpoint_best.pt"), str(tmp_path)]) == 2
    assert "something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_best.pt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pooling", "mean"], "--pooling needs --to"),
        (["--data-dir", "data"], "--data-dir needs --to"),
        (["--to", "huggingface", "--normalize"], "--normalize needs --to sentence-transformers"),
        (["--to", "onnx", "--pooling", "mean"], "--pooling needs --to sentence-transformers"),
        (["--to", "tensorflow"], "invalid choice"),
    ],
)
def test_options_that_have_no_use_are_refused(options, message, capsys):
    with pytest.raises(SystemExit) as left:
        main([*options, "a", "b"])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
