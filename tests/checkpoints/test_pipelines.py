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
    lengths = sorted(sentences[:200], key=len)
    return [(text,) for text in [lengths[0], "x", *sentences[:20], lengths[-1]]], pairs[:20]


def as_given(examples):
    return [example[0] if len(example) == 1 else example for example in examples]


def encoded(folder, examples) -> torch.Tensor:
    encoder = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return torch.tensor(encoder.encode(as_given(examples), batch_size=8)).double()


@pytest.mark.parametrize("case", CASES)
def test_encode_gives_the_logits(made, hubs, sentences, pairs, tmp_path, case):
    model, path, options = made(case)
    given = Options(model.data, bpe_dir=model.converted, with_head=True)
    done = export(path, tmp_path / "out", SENTENCE_TRANSFORMERS, given)
    assert done.pooling == ("mean" if options["reads_mean"] else "cls")
    for examples in texts(sentences, pairs):
        expected = logits(hubs[model.bpe], made(case), examples)
        found = encoded(tmp_path / "out", examples)
        assert found.shape == (len(examples), options["outputs"])
        assert expected.std(dim=0).min() > 0.01
        assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("saved_by", ["us", "sentence-transformers"])
def test_it_comes_back_with_the_same_logits(
    made, hubs, sentences, pairs, tmp_path, capsys, case, saved_by
):
    model, path, options = made(case)
    export(
        path,
        tmp_path / "out",
        SENTENCE_TRANSFORMERS,
        Options(model.data, bpe_dir=model.converted, with_head=True),
    )
    source = tmp_path / "out"
    if saved_by != "us":  # its newest form, with other names and keys
        loaded = sentence_transformers.SentenceTransformer(str(source), device="cpu")
        loaded.save_pretrained(str(tmp_path / "saved"))
        source = tmp_path / "saved"
        if model.bpe == "sentencepiece":  # which it does not know of
            shutil.copy(tmp_path / "out" / "sentencepiece.bpe.model", source)
    assert main([str(source), str(tmp_path / "in")]) == 0
    output = capsys.readouterr().out
    pooling = "mean" if options["reads_mean"] else "cls"
    assert f"pooling: {pooling} (1_Pooling/config.json)" in output
    assert ("--head-pooling mean" in output) == options["reads_mean"]
    activation = options["pooler_activation_fn"]
    assert (f"--pooler-activation-fn {activation}" in output) == (activation != "tanh")
    back = scl_fairseq.load(tmp_path / "in")
    labels = [] if options["outputs"] == 1 else ["no", "maybe", "yes"]
    assert back.labels == labels
    for examples in texts(sentences, pairs):
        expected = logits(hubs[model.bpe], made(case), examples)
        with torch.no_grad():
            found = back.predict("sentence_classification_head", encode(back, examples), True)
        assert (found - expected).abs().max() < 1e-5
        if labels:
            told = back.predict(as_given(examples))
            assert (told.probabilities - expected.softmax(dim=1)).abs().max() < 1e-5
            assert told.labels == [labels[row] for row in expected.argmax(dim=1)]


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
    has_pooler = (tmp_path / "out" / "sentence_bert_config.json").read_text().count("add_pooling")
    assert has_pooler == 1


def test_the_card_of_a_pipeline_says_what_it_gives(made, tmp_path):
    import yaml

    model, path, _ = made("wordpiece")
    given = Options(model.data, bpe_dir=model.converted, with_head=True)
    export(path, tmp_path / "out", SENTENCE_TRANSFORMERS, given)
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


ENCODERS = {
    "by its head": (["--head-pooling", "mean"], "mean"),
    "by its embedding": (["--scl-embedding", "mean"], "mean"),
    "as ever": ([], "cls"),
}


@pytest.mark.parametrize("case", ENCODERS)
def test_an_encoder_goes_out_as_it_was_trained(tiny, tmp_path, case):
    options, pooling = ENCODERS[case]
    command = runs.command(tiny, tmp_path / "run", *options, "--max-update", 1, criterion="supcon")
    runs.train(command)
    out = tmp_path / "out"
    assert main([*SENTENCES, str(tmp_path / "run" / "checkpoint_last.pt"), str(out)]) == 0
    told = json.loads((out / "1_Pooling" / "config.json").read_text())
    modes = ("cls_token", "mean_tokens")
    assert [told[f"pooling_mode_{mode}"] for mode in modes] == [pooling == "cls", pooling == "mean"]
