"""What a head reads is known from the checkpoint, to every command and to stock fairseq."""

import csv
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fairseq import checkpoint_utils
from fairseq.models.roberta import RobertaModel

import scl_fairseq
from scl_fairseq.checkpoints import loading
from scl_fairseq.cli import embed, evaluate, predict
from tests import runs, stock
from tests.criterions.test_sentence_prediction_scl import SIZES
from tests.several import assert_refused, assert_trained, train_all

HEAD = "sentence_classification_head"
KEY = f"classification_heads.{HEAD}.reads_mean"
BEST_ONLY = ["--no-epoch-checkpoints", "--best-checkpoint-metric", "accuracy"]
BEST_ONLY += ["--maximize-best-checkpoint-metric"]
MEAN = ["--head-pooling", "mean"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pooling")


@pytest.fixture(scope="module")
def trained(tiny, folder):
    """Two trainings that differ in what the head reads: folders, and the log of the one by mean."""
    found = {}
    for name in ("cls", "mean"):
        options = ["--head-pooling", name, "--max-epoch", 6, "--lr", "3e-3", "--scl-lambda", 0.3]
        arguments = runs.command(tiny, folder / name, *options, *BEST_ONLY)
        found[name] = runs.train(arguments).stdout
    return SimpleNamespace(cls=folder / "cls", mean=folder / "mean", log=found["mean"])


def contents(path):
    loading.allow_globals()
    return torch.load(path, map_location="cpu")


@pytest.fixture(scope="module")
def expected(tiny, trained):
    """Logits of the validation set by the mean, one sentence at a time, with fairseq's encoder."""
    weights = contents(trained.mean / "checkpoint_best.pt")["model"]
    # The features are those of any head.
    hub = RobertaModel.from_pretrained(
        str(trained.mean), "checkpoint_best.pt", str(tiny.data), bpe=None
    ).eval()
    hub.task.load_dataset("valid")
    data, found = hub.task.dataset("valid"), []
    start = f"classification_heads.{HEAD}"
    dense, out_proj = (
        [weights[f"{start}.{layer}.{kind}"].double() for kind in ("weight", "bias")]
        for layer in ("dense", "out_proj")
    )
    with torch.no_grad():
        for i in range(len(data)):
            states = hub.extract_features(data[i]["net_input.src_tokens"])[0].double()
            mean = sum(states) / len(states)
            found.append(F.linear(torch.tanh(F.linear(mean, *dense)), *out_proj))
    targets = torch.tensor([data[i]["target"].item() for i in range(len(data))])
    return SimpleNamespace(logits=torch.stack(found), targets=targets, hub=hub, data=data)


def sentences_of(tiny):
    """Of the validation set, in its order."""
    with (tiny.sample / "dev.tsv").open(encoding="utf-8", newline="") as file:
        return [row["sentence1"] for row in csv.DictReader(file, delimiter="\t", quoting=3)]


def test_every_command_gives_the_same_labels(tiny, trained, expected, tmp_path, capsys):
    path, sentences = trained.mean / "checkpoint_best.pt", sentences_of(tiny)
    labels = expected.logits.argmax(dim=1)
    probabilities = expected.logits.softmax(dim=1)
    assert set(labels.tolist()) == {0, 1}
    accuracy = 100 * (labels == expected.targets).double().mean().item()

    validated = [line for line in trained.log.splitlines() if "valid on" in line]
    assert max(runs.logged("\n".join(validated), "accuracy")) == round(accuracy, 1)
    output = fairseq_validate(tiny, path).stdout
    assert runs.logged(output, "accuracy")[-1] == round(accuracy, 1)

    model = scl_fairseq.load(trained.mean)
    found = model.predict(sentences)
    torch.testing.assert_close(found.probabilities.double(), probabilities, rtol=0, atol=1e-5)
    text = tmp_path / "sentences"
    text.write_text("".join(f"{sentence}\n" for sentence in sentences), "utf-8")
    assert predict.main([str(path), "--input", str(text)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [int(label) for label, *_ in rows] == labels.tolist()
    out = tmp_path / "predictions.tsv"
    words = [str(path), "--data", str(tiny.data), "--split", "valid", "--predictions", str(out)]
    assert evaluate.main(words) == 0
    with out.open(newline="") as file:
        told = [int(row[2]) for row in list(csv.reader(file, delimiter="\t"))[1:]]
    assert told == labels.tolist()

    hub, data = expected.hub, expected.data  # fairseq's own, on ragged padded tokens
    tokens = data.collater([data[i] for i in range(len(data))])["net_input"]["src_tokens"]
    with torch.no_grad():
        logits = hub.predict(HEAD, tokens, return_logits=True)
        again = model.predict(head=HEAD, tokens=tokens, return_logits=True)
    for one in (logits, again):
        torch.testing.assert_close(one.double(), expected.logits, rtol=0, atol=1e-5)


def fairseq_validate(tiny, path, *options, check=True):
    command = [Path(sys.executable).parent / "fairseq-validate", tiny.data, "--cpu", "--path", path]
    command += ["--user-dir", runs.ROOT / "scl_fairseq", "--batch-size", 8, "--no-progress-bar"]
    command += ["--task", "sentence_prediction", "--num-classes", 2, "--init-token", 0]
    command += ["--criterion", "sentence_prediction_scl", "--required-batch-size-multiple", 1]
    command += ["--log-format", "simple", "--distributed-world-size", 1, *options]
    return runs.train(command, check=check)


def test_vectors_are_by_default_those_that_the_head_reads(tiny, trained, tmp_path):
    sentences = sentences_of(tiny)
    text = tmp_path / "sentences"
    text.write_text("".join(f"{sentence}\n" for sentence in sentences), "utf-8")
    for kind in ("cls", "mean"):
        path, out = getattr(trained, kind), tmp_path / f"{kind}.npy"
        assert embed.main([str(path), "--input", str(text), "--output", str(out)]) == 0
        model = scl_fairseq.load(path)
        assert model.embedding == kind
        assert np.array_equal(np.load(out), model.embed(sentences, kind).numpy())
        assert torch.equal(model.embed(sentences), model.embed(sentences, kind))
    assert not torch.allclose(model.embed(sentences), model.embed(sentences, "cls"), atol=0.1)
    head = model.model.classification_heads[HEAD]
    with torch.no_grad():
        pooled = torch.tanh(head.dense(model.embed(sentences, "mean")))
    torch.testing.assert_close(model.embed(sentences, "pooled"), pooled, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def contrasted(tiny, lines, tmp_path_factory):
    """Encoders by SimCSE and InfoCSE that read the mean, and by SimCSE that contrasts it."""
    cases = {
        "simcse": ("simcse", MEAN),
        "infocse": ("infocse", [*MEAN, "--infocse-mlm", 1]),
        "by option": ("simcse", ["--scl-embedding", "mean"]),
        "cls": ("simcse", []),
    }
    folder = tmp_path_factory.mktemp("contrasted")
    for name, (criterion, options) in cases.items():
        limit = ["--max-update", 2, "--no-epoch-checkpoints", "--disable-validation"]
        arguments = runs.embedding_command(
            tiny, lines.data, folder / name, *options, *limit, criterion=criterion
        )
        runs.train(arguments)
    return folder


@pytest.mark.parametrize("name", ["simcse", "infocse", "by option", "cls"])
def test_what_an_encoder_contrasted_is_its_vector(contrasted, name, tmp_path, capsys):
    kind = "cls" if name == "cls" else "mean"
    model = scl_fairseq.load(contrasted / name)
    assert model.embedding == kind
    pairs = tmp_path / "STS" / "STSBenchmark"
    pairs.mkdir(parents=True)
    for split in ("dev", "test"):
        rows = [f"x\tx\tx\t{i}\t{i}.0\ta film {'so ' * i}\tbad film\n" for i in range(5)]
        (pairs / f"sts-{split}.csv").write_text("".join(rows))
    out = tmp_path / "scores.json"
    words = [str(contrasted / name), "--sts", str(pairs.parent), "--json", str(out)]
    assert evaluate.main(words) == 0
    assert [one["embedding"] for one in json.loads(out.read_text())["checkpoints"]] == [kind]


# Processes of stock fairseq, without the plug-in.

STOCK = """
import argparse, sys, torch
from fairseq import checkpoint_utils
from fairseq.models.roberta import RobertaModel
torch.serialization.add_safe_globals([argparse.Namespace])
folder, data, text = sys.argv[1:]

def hub():
    found = RobertaModel.from_pretrained(folder, "checkpoint_best.pt", data, bpe=None).eval()
    return found.predict("sentence_classification_head", torch.tensor([0, 5, 6, 2]))

def ensemble():
    return checkpoint_utils.load_model_ensemble([folder + "/checkpoint_best.pt"])

for way in (hub, ensemble):
    try:
        way()
        print(way.__name__, "LOADED")
    except RuntimeError as error:
        print(way.__name__, "REFUSED", " ".join(str(error).split()))
assert not any(name.startswith("scl_fairseq") for name in sys.modules)
"""


STOCK_ENSEMBLE = """
import argparse, sys, torch
from fairseq import checkpoint_utils
torch.serialization.add_safe_globals([argparse.Namespace])
try:
    checkpoint_utils.load_model_ensemble(sys.argv[1:])
except RuntimeError as error:
    print("REFUSED", " ".join(str(error).partition("BARTModel:")[2].split()))
assert not any(name.startswith("scl_fairseq") for name in sys.modules)
"""


def test_stock_fairseq_refuses_it_by_the_key(tiny, trained):
    said = stock.run(STOCK, trained.mean, tiny.data, "")
    for way in ("hub", "ensemble"):
        (line,) = [line for line in said.splitlines() if line.startswith(f"{way} REFUSED")]
        assert f'Unexpected key(s) in state_dict: "{KEY}"' in line
    twin = stock.run(STOCK, trained.cls, tiny.data, "")
    assert "hub LOADED" in twin
    assert "ensemble LOADED" in twin


def test_stock_training_refuses_a_head_that_it_would_keep(tiny, trained, tmp_path):
    options = ["--max-update", 1, "--no-save"]
    stock.fine_tune(tiny, trained.cls / "checkpoint_best.pt", tmp_path / "cls", *options)
    with pytest.raises(AssertionError) as caught:
        stock.fine_tune(tiny, trained.mean / "checkpoint_best.pt", tmp_path / "mean", *options)
    assert f'Unexpected key(s) in state_dict: "{KEY}"' in str(caught.value)
    assert "begin training epoch" not in str(caught.value).lower()


def test_where_the_head_is_dropped_stock_trains_on(tiny, trained, tmp_path):
    options = ["--max-update", 1, "--num-classes", 3, "--no-epoch-checkpoints"]
    stock.fine_tune(tiny, trained.mean / "checkpoint_best.pt", tmp_path, *options)
    saved = contents(tmp_path / "checkpoint_last.pt")["model"]
    assert KEY not in saved
    assert len(saved[f"classification_heads.{HEAD}.out_proj.weight"]) == 3


# Trainings that begin from one another.

FROZEN = ["--scl-lambda", 0, "--freeze-encoder", "--pooler-activation-fn", "linear"]
READS_MEAN = ["--head-pooling is cls, and the checkpoint's head", HEAD, "give --head-pooling mean"]
READS_CLS = ["--head-pooling is mean, and the checkpoint's head", HEAD, "give --head-pooling cls"]


@pytest.fixture(scope="module")
def results(tiny, trained, folder):
    """Name to a short training's result. ``again`` copies a folder, to be resumed from."""
    scl = ["--criterion", "sentence_prediction_scl"]
    supcon = ["--criterion", "supcon"]

    def again(source):
        copy = folder / f"copy {len(list(folder.glob('copy *')))}"
        return ["--save-dir", shutil.copytree(source, copy)]

    def begin(source):
        path = source if source.suffix else source / "checkpoint_last.pt"
        return ["--finetune-from-model", path, "--no-save", "--save-dir", folder / "nowhere"]

    resets = [f"--reset-{name}" for name in ("optimizer", "dataloader", "meters", "lr-scheduler")]
    restore = ["--restore-file", trained.mean / "checkpoint_last.pt", *resets]
    save = ["--no-epoch-checkpoints", "--finetune-from-model", tiny.encoder / "model.pt"]
    noted = folder / "noted" / "model.pt"
    for name in ("noted", "first", "then"):
        (folder / name).mkdir()
    state = contents(tiny.encoder / "model.pt")
    extra = state.get("extra_state") or {}
    extra["scl_fairseq"] = {**extra.get("scl_fairseq", {}), "pooling": "mean"}
    torch.save({**state, "extra_state": extra}, noted)
    cases = {
        "resumed as cls": [*scl, *again(trained.mean)],
        "resumed as mean": [*scl, *MEAN, *again(trained.cls)],
        "resumed": [*scl, *MEAN, *again(trained.mean)],
        "restored as cls": [*scl, *restore, "--no-save", "--save-dir", folder / "nowhere"],
        "begun as cls": [*scl, *begin(trained.mean)],
        "begun as cls, kept": [*scl, "--keep-head", *begin(trained.mean)],
        "begun as mean": [*scl, *MEAN, *begin(trained.cls)],
        "begun": [*scl, *MEAN, "--keep-head", *begin(trained.mean)],
        "frozen as cls": [*scl, *FROZEN, *begin(trained.mean)],
        "frozen": [*scl, *FROZEN, *MEAN, *begin(trained.mean)],
        "packed": [*scl, *MEAN, "--scl-packed", *begin(trained.mean)],
        "stock": [
            *["--criterion", "sentence_prediction", "--finetune-from-model"],
            *[trained.mean / "checkpoint_last.pt", "--save-dir", folder / "stock"],
        ],
        "supcon": [*supcon, *MEAN, *save, "--save-dir", folder / "supcon"],
        "supcon by option": [
            *[*supcon, "--scl-embedding", "mean", *save, "--save-dir", folder / "supcon by option"]
        ],
        "bart": [*scl, *MEAN, "--no-epoch-checkpoints", "--save-dir", folder / "bart"],
        "noted, cls": [*scl, *begin(noted)],
        "noted, mean": [*scl, *MEAN, *begin(noted)],
    }
    common = [tiny.data, *tiny.flags, "--task", "sentence_prediction", "--num-classes", 2]
    common += ["--init-token", 0]
    bart = ["--arch", "bart_base", *SIZES["bart_base"].split()]

    def arguments(cases):
        return {
            name: [*common, *case, *(bart if name.startswith("bart") else [])]
            for name, case in cases.items()
        }

    found = train_all(arguments(cases), folder / "first")
    stages = folder / "supcon", folder / "supcon by option"
    cases = {
        "second": [*scl, *MEAN, *begin(stages[0])],
        "second, frozen": [*scl, *MEAN, *FROZEN, *begin(stages[0])],
        "second as cls": [*scl, *begin(stages[0])],
        "second as cls, frozen": [*scl, *FROZEN, *begin(stages[0])],
        "first resumed": [*supcon, *MEAN, *again(stages[0])],
        "first resumed as cls": [*supcon, *again(stages[0])],
        "first resumed by option": [*supcon, "--scl-embedding", "cls", *again(stages[1])],
        "second after option": [*scl, *MEAN, *begin(stages[1])],
        "second after option, frozen": [*scl, *MEAN, *FROZEN, *begin(stages[1])],
        "bart resumed": [*scl, *MEAN, *again(folder / "bart")],
        "bart resumed as cls": [*scl, *again(folder / "bart")],
    }
    return found | train_all(arguments(cases), folder / "then")


REFUSED = {
    "resumed as cls": READS_MEAN,
    "resumed as mean": READS_CLS,
    "restored as cls": READS_MEAN,
    "begun as cls": READS_MEAN,
    "begun as cls, kept": READS_MEAN,
    "begun as mean": READS_CLS,
    "frozen as cls": READS_MEAN,
    "second as cls, frozen": ["--freeze-encoder", "contrasted --scl-embedding mean"],
    "first resumed as cls": ["--head-pooling is cls", "reads mean"],
    "bart resumed as cls": READS_MEAN,
    "first resumed by option": ["--scl-embedding is cls", "contrasted mean"],
}
TRAINS = [
    *["resumed", "begun", "frozen", "packed", "stock", "noted, cls", "noted, mean"],
    *["second", "second, frozen", "second as cls", "first resumed"],
    *["second after option", "second after option, frozen", "bart", "bart resumed"],
]


@pytest.mark.parametrize("name", REFUSED)
def test_another_pooling_is_refused_in_one_line(results, name):
    assert_refused(results[name], *REFUSED[name])


@pytest.mark.parametrize("name", TRAINS)
def test_the_same_trains(results, name):
    assert_trained(results[name])


def test_what_was_trained_for_another_is_told(results):
    said = "was trained to be read by --head-pooling mean, and this training reads cls"
    assert [name for name in results if said in results[name].log] == ["noted, cls"]
    said = "the classifier reads cls, but the checkpoint's first stage contrasted"
    assert [name for name in results if said in results[name].log] == ["second as cls"]


def test_a_training_by_the_stock_criterion_goes_on_as_the_checkpoint_says(results, folder):
    assert_trained(results["stock"])
    assert KEY in contents(folder / "stock" / "checkpoint_last.pt")["model"]


@torch.no_grad()
def test_of_bart_too_every_label_is_by_the_mean(tiny, results, folder, tmp_path):
    assert_trained(results["bart"])
    path = folder / "bart" / "checkpoint_last.pt"
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    task.load_dataset("valid")
    data, head = task.dataset("valid"), model.eval().classification_heads[HEAD]
    expected = []
    for i in range(len(data)):
        states, _ = model(**data.collater([data[i]])["net_input"], features_only=True)
        mean = sum(states[0]) / states.size(1)
        hidden = torch.tanh(F.linear(mean, head.dense.weight, head.dense.bias))
        expected.append(F.linear(hidden, head.out_proj.weight, head.out_proj.bias))
    expected = torch.stack(expected).softmax(dim=1)
    out = tmp_path / "predictions.tsv"
    words = [str(path), "--data", str(tiny.data), "--split", "valid", "--predictions", str(out)]
    assert evaluate.main(words) == 0
    with out.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    found = torch.tensor([[float(value) for value in row[3:]] for row in rows])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    said = stock.run(STOCK_ENSEMBLE, path)
    assert f'REFUSED Unexpected key(s) in state_dict: "{KEY}"' in said


def test_validation_as_something_else_is_refused(tiny, trained):
    for own, other in (("cls", "mean"), ("mean", "cls")):
        path = getattr(trained, own) / "checkpoint_best.pt"
        done = fairseq_validate(tiny, path, "--head-pooling", other, check=False)
        assert done.returncode == 2, done.stdout[-3000:]
        assert "Traceback" not in done.stdout
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
        assert f"--head-pooling is {other}, and the checkpoint's head {HEAD} reads {own}" in line


def test_resumed_it_ends_as_if_nothing_had_happened(tiny, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    options = [*MEAN, "--disable-validation", "--no-epoch-checkpoints", "--scl-packed"]
    for folder, updates in ((whole, [6]), (resumed, [3, 6])):
        for number in updates:
            runs.train(runs.command(tiny, folder, *options, "--max-update", number))
    runs.assert_same_weights(whole / "checkpoint_last.pt", resumed / "checkpoint_last.pt")


def test_another_number_of_classes_begins_from_it_by_either(trained, tiny, tmp_path):
    for name, options in (("cls", []), ("mean", MEAN)):
        limit = ["--max-update", 1, "--no-epoch-checkpoints", "--disable-validation"]
        start = ["--finetune-from-model", trained.mean / "checkpoint_best.pt"]
        unsupervised = ["--supcon-unsupervised", "--supcon-projection", "none"]
        other = ["--classification-head-name", "other", *unsupervised]
        arguments = runs.command(
            tiny, tmp_path / name, *limit, *start, *other, *options, criterion="supcon"
        )
        runs.train(arguments)
        saved = contents(tmp_path / name / "checkpoint_last.pt")["model"]
        assert KEY not in saved
        assert (KEY.replace(HEAD, "other") in saved) == (name == "mean")


def test_half_precision_trains_and_is_loaded(tiny, tmp_path):
    options = [*MEAN, "--memory-efficient-fp16", "--max-update", 3, "--no-epoch-checkpoints"]
    output = runs.train(runs.command(tiny, tmp_path, *options)).stdout
    assert "done training" in output
    saved = contents(tmp_path / "checkpoint_last.pt")["model"]
    assert KEY in saved
    model = scl_fairseq.load(tmp_path / "checkpoint_last.pt", tiny.data)
    assert model.embedding == "mean"
    assert model.predict(["a fine film"]).probabilities.isfinite().all()
    half = scl_fairseq.load(tmp_path / "checkpoint_last.pt", tiny.data, dtype="bf16")
    found, expected = half.predict(["a film"]), model.predict(["a film"])
    torch.testing.assert_close(found.probabilities, expected.probabilities, rtol=0, atol=0.05)
