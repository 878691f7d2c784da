"""Classifiers as modules of sentence-transformers: what ``encode`` gives, and back in fairseq."""

import json
import re
import shutil

import pytest
import torch

import scl_fairseq
from scl_fairseq.checkpoints.export import SENTENCE_TRANSFORMERS, Options, export
from scl_fairseq.cli.convert import main
from tests import runs

pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")

from tests.checkpoints.exported import (  # noqa: E402 (after the checks above)
    HEAD,
    SEPARATOR,
    encode,
    write_checkpoint,
)

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "linear": lambda x: x,
}
# Every encoding, activation and pooling once.
CASES = {
    "wordpiece": {"pooler_activation_fn": "tanh", "reads_mean": True},
    "gpt2": {"pooler_activation_fn": "gelu", "reads_mean": True},
    "sentencepiece": {"pooler_activation_fn": "linear", "reads_mean": True},
    "wordpiece, relu": {"pooler_activation_fn": "relu", "reads_mean": True},
    "wordpiece, a score": {"reads_mean": True, "outputs": 1, "regression_target": True},
    "sentencepiece, cls": {"pooler_activation_fn": "relu", "reads_mean": False},
}


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    """``made(case)``: a checkpoint's model, its path, its options."""
    found = {}

    def make(case):
        if case not in found:
            model = models[case.split(",")[0]]
            state = torch.load(model.converted / "model.pt", weights_only=True)
            path = tmp_path_factory.mktemp("run") / "checkpoint_best.pt"
            options = {"outputs": 3, "pooler_activation_fn": "tanh", **CASES[case]}
            write_checkpoint(path, state, separator_token=SEPARATOR[model.bpe], **options)
            found[case] = model, path, options
        return found[case]

    return make


@torch.no_grad()
def vectors(hub, examples, reads_mean) -> torch.Tensor:
    """What the head reads, from the encoder alone: a text at a time, no padding."""
    states = [hub.extract_features(encode(hub, [example]))[0].double() for example in examples]
    return torch.stack([sum(rows) / len(rows) if reads_mean else rows[0] for rows in states])


def logits(hub, made_case, examples) -> torch.Tensor:
    """An explicit loop in float64."""
    _, path, options = made_case
    weights = torch.load(path, weights_only=True)["model"]
    dense, bias, last, last_bias = (
        weights[HEAD + name].double()
        for name in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
    )
    activation = ACTIVATIONS[options["pooler_activation_fn"]]
    rows = vectors(hub, examples, options["reads_mean"])
    return torch.stack([last @ activation(dense @ row + bias) + last_bias for row in rows])


def texts(sentences, pairs):
    """Ragged, single and in pairs."""
    lengths = sorted((text.strip() for text in sentences[:200]), key=len)
    return [(text,) for text in [*lengths[:3], "x", *lengths[10::20], lengths[-1]]], pairs[:12]


def as_given(examples):
    return [example[0] if len(example) == 1 else example for example in examples]


def encoded(folder, examples) -> torch.Tensor:
    encoder = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return torch.tensor(encoder.encode(as_given(examples), batch_size=8)).double()


def write_pipeline(made_case, folder):
    model, path, _ = made_case
    given = Options(model.data, bpe_dir=model.converted, with_head=True)
    return export(path, folder, SENTENCE_TRANSFORMERS, given)


def assert_comes_back(folder, hub, made_case, examples, output):
    """In fairseq the folder gives the logits, labels and options that went out."""
    options = made_case[2]
    pooling = "mean" if options["reads_mean"] else "cls"
    assert f"pooling: {pooling} (1_Pooling/config.json)" in output
    assert ("--head-pooling mean" in output) == options["reads_mean"]
    activation = options["pooler_activation_fn"]
    assert (f"--pooler-activation-fn {activation}" in output) == (activation != "tanh")
    back = scl_fairseq.load(folder)
    assert back.labels == ([] if options["outputs"] == 1 else ["no", "maybe", "yes"])
    for some in examples:
        expected = logits(hub, made_case, some)
        with torch.no_grad():
            found = back.predict("sentence_classification_head", encode(back, some), True)
        assert (found - expected).abs().max() < 1e-5
        if back.labels:
            told = back.predict(as_given(some))
            assert (told.probabilities - expected.softmax(dim=1)).abs().max() < 1e-5
            assert told.labels == [back.labels[row] for row in expected.argmax(dim=1)]


@pytest.mark.parametrize("case", CASES)
def test_encode_gives_the_logits_and_they_come_back(
    made, hubs, sentences, pairs, tmp_path, capsys, case
):
    options, hub = made(case)[2], hubs[made(case)[0].bpe]
    examples = texts(sentences, pairs)
    done = write_pipeline(made(case), tmp_path / "out")
    assert done.pooling == ("mean" if options["reads_mean"] else "cls")
    for some in examples:
        expected = logits(hub, made(case), some)
        found = encoded(tmp_path / "out", some)
        assert found.shape == (len(some), options["outputs"])
        assert expected.std(dim=0).min() > 0.01
        assert (found - expected).abs().max() < 1e-5
    capsys.readouterr()
    assert main([str(tmp_path / "out"), str(tmp_path / "in")]) == 0
    output = capsys.readouterr().out
    assert_comes_back(tmp_path / "in", hub, made(case), examples, output)


@pytest.mark.parametrize("case", ["wordpiece, relu", "sentencepiece, cls"])
def test_it_comes_back_as_the_newest_version_saves_it(
    made, hubs, sentences, pairs, tmp_path, capsys, case
):
    write_pipeline(made(case), tmp_path / "out")
    loaded = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    loaded.save_pretrained(str(tmp_path / "saved"))
    model = tmp_path / "out" / "sentencepiece.bpe.model"
    if model.exists():  # which it does not know of
        shutil.copy(model, tmp_path / "saved")
    capsys.readouterr()
    assert main([str(tmp_path / "saved"), str(tmp_path / "in")]) == 0
    hub, examples = hubs[made(case)[0].bpe], texts(sentences, pairs)
    output = capsys.readouterr().out
    assert_comes_back(tmp_path / "in", hub, made(case), examples, output)


@pytest.mark.parametrize("case", ["wordpiece", "sentencepiece, cls"])
def test_vectors_are_what_the_head_reads(made, hubs, sentences, tmp_path, capsys, case):
    model, path, options = made(case)
    arguments = ["--to", "sentence-transformers", "--data-dir", str(model.data)]
    arguments += ["--bpe-dir", str(model.converted), str(path)]
    assert main([*arguments, str(tmp_path / "out")]) == 0
    examples = [(text,) for text in sentences[:20]]
    pooling, other = ("mean", "cls") if options["reads_mean"] else ("cls", "mean")
    assert f"pooling: {pooling}\n" in capsys.readouterr().out
    for kind, folder in ((pooling, "out"), (other, "other")):
        if folder == "other":
            assert main([*arguments, str(tmp_path / folder), "--pooling", other]) == 0
        expected = vectors(hubs[model.bpe], examples, kind == "mean")
        found = encoded(tmp_path / folder, examples)
        assert (found - expected).abs().max() < 1e-5
        card = (tmp_path / folder / "README.md").read_text(encoding="utf-8")
        says = {"mean": "| pooling | mean over the tokens |", "cls": "| pooling | CLS (the first"}
        assert says[kind] in card
    # The first layer of a head that reads the mean is no pooler, which reads CLS.
    assert "add_pooling_layer" in (tmp_path / "out" / "sentence_bert_config.json").read_text()


def test_the_card_of_a_pipeline_says_what_it_gives(made, tmp_path):
    import yaml

    write_pipeline(made("wordpiece"), tmp_path / "out")
    _, front, body = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["pipeline_tag"] == "text-classification"
    assert "gives its logits" in body
    assert "| pooling | mean over the tokens |" in body
    assert "| labels, in the order of the logits | no, maybe, yes |" in body


def change(**options):
    def spoil(path):
        state = torch.load(path, weights_only=True)
        vars(state["args"]).update(options)
        torch.save(state, path)

    return spoil


def as_the_encoder(path):
    state = torch.load(path, weights_only=True)
    state["model"] = {k: v for k, v in state["model"].items() if not k.startswith(HEAD)}
    torch.save(state, path)


SENTENCES, PIPELINE = ["--to", "sentence-transformers"], ["--with-head"]
REFUSALS = {
    "huggingface": (None, ["--to", "huggingface"], "reads the mean .* read CLS; .*--with-head"),
    "another pooling": (
        None,
        [*SENTENCES, *PIPELINE, "--pooling", "cls"],
        "--pooling cls: the classification head .* reads mean",
    ),
    "an activation": (
        change(pooler_activation_fn="gelu_accurate"),
        [*SENTENCES, *PIPELINE],
        "its head uses gelu_accurate; .* tanh, relu, gelu, linear",
    ),
    "untrained": (
        change(criterion="supcon"),
        [*SENTENCES, *PIPELINE],
        "classification head was never trained",
    ),
    "no head": (as_the_encoder, [*SENTENCES, *PIPELINE], "has no classification head"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_what_has_no_form_is_refused_in_a_line(made, tmp_path, capsys, fault):
    spoil, target, message = REFUSALS[fault]
    model, path, _ = made("wordpiece")
    path = shutil.copy(path, tmp_path / "run.pt")
    if spoil:
        spoil(path)
    files = ["--data-dir", str(model.data), "--bpe-dir", str(model.converted)]
    assert main([*target, *files, str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--with-head"], "--with-head needs --to"),
        (["--to", "huggingface", "--with-head"], "--with-head needs --to sentence-transformers"),
        ([*SENTENCES, "--with-head", "--normalize"], "--normalize scales vectors"),
    ],
)
def test_options_that_have_no_use_are_refused(options, message, capsys):
    with pytest.raises(SystemExit) as left:
        main([*options, "a", "b"])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def encoder(tiny, tmp_path_factory):
    """Trained for one update by SupCon's first stage, which leaves its head as it was drawn."""
    folder = tmp_path_factory.mktemp("encoder")
    options = ["--head-pooling", "mean", "--max-update", 1]
    runs.train(runs.command(tiny, folder, *options, criterion="supcon"))
    return folder / "checkpoint_last.pt"


ENCODERS = {
    "by its head": ({}, "mean"),
    "by its embedding": ({"head_pooling": "cls", "scl_embedding": "mean"}, "mean"),
    "against its head": ({"head_pooling": "mean", "scl_embedding": "cls"}, "cls"),
    "as ever": ({"head_pooling": "cls"}, "cls"),
    "by an earlier version": ({"head_pooling": None, "scl_embedding": "cls"}, "cls"),
}


@pytest.mark.parametrize("case", ENCODERS)
def test_an_encoder_goes_out_as_it_was_trained(encoder, tmp_path, case):
    told, pooling = ENCODERS[case]
    run = shutil.copytree(encoder.parent, tmp_path / "run")
    state = torch.load(run / encoder.name, weights_only=True)
    state["cfg"]["criterion"].update(told)
    if told:
        state["model"].pop(HEAD + "reads_mean")
    torch.save(state, run / encoder.name)
    out = tmp_path / "out"
    assert main([*SENTENCES, str(run / encoder.name), str(out)]) == 0
    config = json.loads((out / "1_Pooling" / "config.json").read_text())
    modes = [config[f"pooling_mode_{mode}"] for mode in ("cls_token", "mean_tokens")]
    assert modes == [pooling == "cls", pooling == "mean"]
