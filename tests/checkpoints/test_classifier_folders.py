"""Classifiers of Hugging Face, brought in: the same logits and labels; and out and in again."""

import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import scl_fairseq
from scl_fairseq.checkpoints.loading import allow_globals
from scl_fairseq.cli import evaluate, predict
from scl_fairseq.cli.convert import main
from tests import runs

transformers = pytest.importorskip("transformers")

from tests.checkpoints import tokenizer_folders as folders  # noqa: E402 (after the check above)
from tests.checkpoints.exported import KINDS  # noqa: E402
from tests.checkpoints.random_models import (  # noqa: E402
    save_bert,
    save_roberta,
    save_xlm_roberta,
)

allow_globals()  # these tests read what the command writes

TEXTS = ["the film is a story", "A naïve Film, İstanbul!", "x", "no story of the film " * 5]
LABELS = ["contradiction", "not sure yet", "entailment"]
NAMED = {
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: number for number, label in enumerate(LABELS)},
    "classifier_dropout": 0.3,
}


def sequence(name: str):
    return getattr(transformers, f"{name}ForSequenceClassification")


SOURCES = {
    "bert": lambda folder, bpe, lines, **more: save_bert(
        folder, sequence("Bert"), tokens=folders.WORDPIECES, **more
    ),
    "roberta": lambda folder, bpe, lines, **more: save_roberta(
        folder, sequence("Roberta"), bpe=bpe, **more
    ),
    "xlm-roberta": lambda folder, bpe, lines, **more: save_xlm_roberta(
        folder, lines, sequence("XLMRoberta"), pieces=300, **more
    ),
}


AGAIN = {"bert": "Roberta", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, gpt2_files, sentences):
    """``made(kind)``: source folder, its model, the converted folder."""
    found = {}

    def make(kind):
        if kind not in found:
            folder = tmp_path_factory.mktemp(kind)
            model = SOURCES[kind](folder / "source", gpt2_files, sentences[:800], **NAMED)
            assert main([str(folder / "source"), str(folder / "out")]) == 0
            found[kind] = folder / "source", model.eval(), folder / "out"
        return found[kind]

    return make


def own_logits(source: Path, model, texts, pairs=None) -> torch.Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    with torch.no_grad():
        rows = [
            model(**tokenizer(*text, return_tensors="pt", truncation=True, max_length=40)).logits
            for text in (zip(texts, pairs, strict=True) if pairs else zip(texts, strict=True))
        ]
    return torch.cat(rows)


@pytest.mark.parametrize("kind", SOURCES)
def test_logits_and_labels_are_the_sources_own(made, kind):
    source, model, out = made(kind)
    hub = scl_fairseq.load(out)
    found, expected = hub.predict(TEXTS), own_logits(source, model, TEXTS)
    assert found.class_names == LABELS
    assert found.labels == [LABELS[number] for number in expected.argmax(dim=1)]
    assert (found.probabilities - torch.softmax(expected, dim=1)).abs().max() < 1e-5
    with torch.no_grad():
        logits = hub.predict("sentence_classification_head", hub.encode(TEXTS[0]), True)
    assert (logits - expected[:1]).abs().max() < 1e-5
    assert expected.std() > 0.05


@pytest.mark.parametrize("kind", SOURCES)
def test_what_goes_out_again_gives_these_logits(made, kind, tmp_path):
    source, model, out = made(kind)
    assert main(["--to", "huggingface", str(out), str(tmp_path / "back")]) == 0
    again = sequence(AGAIN[kind]).from_pretrained(tmp_path / "back")
    found = own_logits(tmp_path / "back", again.eval(), TEXTS)
    assert (found - own_logits(source, model, TEXTS)).abs().max() < 1e-5
    assert list(again.config.id2label.values()) == LABELS


def test_pairs_are_joined_as_the_source_joins_them(made, capsys, tmp_path):
    for kind in ("roberta", "xlm-roberta"):
        source, model, out = made(kind)
        found = scl_fairseq.load(out).predict(list(itertools.pairwise(TEXTS)))
        expected = own_logits(source, model, TEXTS[:3], TEXTS[1:])
        assert (found.probabilities - torch.softmax(expected, dim=1)).abs().max() < 1e-5
    lines = tmp_path / "lines.txt"
    lines.write_text("the film\ta story\n", encoding="utf-8")
    assert predict.main([str(made("roberta")[2]), "--input", str(lines)]) == 0
    # BERT would give the second one another token type.
    assert predict.main([str(made("bert")[2]), "--input", str(lines)]) == 2
    assert "expected 1, as in training" in capsys.readouterr().err


@pytest.mark.parametrize("kind", SOURCES)
def test_scl_predict_takes_the_folder(made, kind, tmp_path, capsys):
    source, model, out = made(kind)
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    assert predict.main([str(out), "--input", str(tmp_path / "lines.txt")]) == 0
    said = capsys.readouterr().out.splitlines()[-len(TEXTS) :]
    expected = [LABELS[number] for number in own_logits(source, model, TEXTS).argmax(dim=1)]
    assert [line.split("\t")[0] for line in said] == expected


def test_a_regression_comes_in_as_one(tmp_path, gpt2_files, sentences, capsys):
    model = SOURCES["roberta"](tmp_path / "in", gpt2_files, None, num_labels=1).eval()
    assert main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert "a regression" in capsys.readouterr().out
    hub = scl_fairseq.load(tmp_path / "out")
    expected = own_logits(tmp_path / "in", model, TEXTS[:1])
    with torch.no_grad():
        found = hub.predict("sentence_classification_head", hub.encode(TEXTS[0]), True)
    assert (found - expected).abs().max() < 1e-5
    assert main(["--to", "huggingface", str(tmp_path / "out"), str(tmp_path / "back")]) == 0
    assert json.loads((tmp_path / "back" / "config.json").read_text())["problem_type"] == (
        "regression"
    )


def test_labels_without_names_are_said_to_be_so(tmp_path, gpt2_files, capsys):
    SOURCES["roberta"](tmp_path / "in", gpt2_files, None, num_labels=4)
    assert main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "labels: LABEL_0, LABEL_1, LABEL_2, LABEL_3" in output
    assert "names no labels" in output


def config(**changes):
    return lambda folder: folders.edit(folder, "config.json", lambda told: told.update(changes))


REFUSALS = {
    "several labels": (config(problem_type="multi_label_classification"), "multi_label"),
    "regression of three": (config(problem_type="regression"), "'regression', with 3 outputs"),
    "another head": (config(architectures=["RobertaForTokenClassification"]), "TokenClassif"),
    "too few names": (
        config(id2label={"0": "a", "1": "b"}),
        "outputs .0, 1., and .* 3",
    ),
    "no numbers": (config(id2label={"a": "0"}), "id2label is"),
    "twice": (config(id2label={"0": "a", "1": "b", "2": "a"}, label2id={}), "'a' twice"),
    "a line end": (config(id2label={"0": "a\nb", "1": "b", "2": "c"}, label2id={}), "label 'a"),
    "fairseq's own": (
        config(id2label={"0": "<s>", "1": "b", "2": "c"}, label2id={}),
        "label '<s>'",
    ),
    "two numberings": (config(label2id={"entailment": 0}), "label2id and id2label"),
    "quantised": (config(quantization_config={"bits": 4}), "quantization_config"),
    "integers": (config(dtype="int8"), "dtype is 'int8'"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_no_classifier_of_fairseqs_is_refused(made, tmp_path, capsys, case):
    spoil, message = REFUSALS[case]
    source = shutil.copytree(made("roberta")[0], tmp_path / "source")
    spoil(source)
    capsys.readouterr()
    assert main([str(source), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()


def test_training_goes_on_with_encoder_and_head(tiny, tmp_path, exported_tiny):
    """At learning rate 0 the saved weights and outputs are those that came in."""
    out = exported_tiny
    start = ["--finetune-from-model", out / "model.pt", "--lr", 0, "--max-update", 1]
    runs.train(runs.command(tiny, tmp_path / "run", *start, "--pooler-dropout", 0))
    given = torch.load(out / "model.pt", weights_only=True)
    kept = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)
    assert any(name.startswith("classification_heads.") for name in given["model"])
    for name, tensor in given["model"].items():
        assert torch.equal(kept["model"][name], tensor), name
    one, two = (scl_fairseq.load(path) for path in (out, tmp_path / "run"))
    assert vars(kept["cfg"]["model"])["layer_norm_eps"] == 1e-12
    texts = ["a dull film", "the story is charming"]
    assert torch.equal(one.predict(texts).probabilities, two.predict(texts).probabilities)


def test_scl_evaluate_scores_the_folder(tiny, exported_tiny, tmp_path):
    scores = tmp_path / "scores.json"
    arguments = [exported_tiny / "model.pt", "--data", tiny.data, "--split", "valid"]
    assert evaluate.main(list(map(str, [*arguments, "--json", scores]))) == 0
    (found,) = json.loads(scores.read_text())["checkpoints"]
    rows = (tiny.sample / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    told = scl_fairseq.load(exported_tiny).predict([row.split("\t")[2] for row in rows]).labels
    right = sum(row.split("\t")[1] == label for row, label in zip(rows, told, strict=True))
    assert found["accuracy"] == pytest.approx(right / len(rows))


@pytest.fixture
def exported_tiny(tiny, tmp_path):
    """A BERT classifier with the words of ``tiny``, converted."""
    words = (tiny.encoder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    names = {"id2label": {0: "0", 1: "1"}, "label2id": {"0": 0, "1": 1}}
    save_bert(
        tmp_path / "hf",
        sequence("Bert"),
        tokens=words,
        max_position_embeddings=64,
        **sizes,
        **names,
    )
    assert main([str(tmp_path / "hf"), str(tmp_path / "in")]) == 0
    return tmp_path / "in"


SAME = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


def assert_comes_back(first: Path, folder: Path) -> None:
    assert main([str(first), str(folder / "in")]) == 0
    assert main(["--to", "huggingface", str(folder / "in"), str(folder / "again")]) == 0
    for name in SAME:
        assert (first / name).read_bytes() == (folder / "again" / name).read_bytes(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_goes_out_and_in_and_out_alike(exported, hubs, tmp_path, kind):
    assert_comes_back(exported[kind], tmp_path)
    texts = ["a fine film", "bad"]
    labels = (tmp_path / "in" / "label" / "dict.txt").read_text(encoding="utf-8")
    assert labels == "no 1\nmaybe 1\nyes 1\n"
    hub = scl_fairseq.load(tmp_path / "in")
    for text in texts:
        assert hub.encode(text).tolist() == hubs[kind].encode(text).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["mlm", "encoder"])
def test_other_forms_go_out_and_in_and_out_alike(models, tmp_path, kind, form):
    if form == "mlm":
        first = models[kind].converted
    else:
        source = shutil.copytree(models[kind].source, tmp_path / "source")
        strip_head(source)
        first = tmp_path / "first"
        assert main([str(source), str(first)]) == 0
    assert main(["--to", "huggingface", str(first / "model.pt"), str(tmp_path / "out")]) == 0
    name = json.loads((tmp_path / "out" / "config.json").read_text())["architectures"][0]
    assert name.endswith("ForMaskedLM" if form == "mlm" else "Model")
    assert_comes_back(tmp_path / "out", tmp_path)


def strip_head(source: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    kept = {k: v for k, v in tensors.items() if not k.startswith(("lm_head.", "cls."))}
    save_file(kept, source / "model.safetensors")
