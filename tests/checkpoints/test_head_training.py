"""Classifiers that no training has trained: every command that would use one refuses it."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import scl_fairseq
from scl_fairseq.checkpoints import loading
from scl_fairseq.checkpoints.training_state import HEADS, KEY
from scl_fairseq.cli import convert, embed, evaluate, plot, predict
from tests import runs

HEAD = "sentence_classification_head"
BEST, LAST = "checkpoint_best.pt", "checkpoint_last.pt"
ONCE = ["--max-update", 3, "--no-epoch-checkpoints", "--disable-validation"]
TRAININGS = {
    # name: criterion, options, what it begins from
    "supcon": ("supcon", [], None),
    "lambda 1": ("sentence_prediction_scl", ["--scl-lambda", 1], None),
    "lambda 1, pooled": (
        "sentence_prediction_scl",
        ["--scl-lambda", 1, "--scl-embedding", "pooled"],
        None,
    ),
    "second stage": ("sentence_prediction_scl", ["--scl-lambda", 0], "supcon"),
    "stock": ("sentence_prediction", [], None),
    "supcon after stock": ("supcon", [], "stock"),
    "another head": ("supcon", ["--classification-head-name", "other"], "stock"),
    "frozen encoder": (
        "sentence_prediction_scl",
        ["--scl-lambda", 0, "--freeze-encoder", "--pooler-activation-fn", "linear"],
        "supcon",
    ),
}


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """``trained(name)``: the last checkpoint of one of the trainings."""
    folder, made = tmp_path_factory.mktemp("heads"), {}

    def get(name):
        if name not in made:
            criterion, options, start = TRAININGS[name]
            start = ["--finetune-from-model", get(start)] if start else []
            save = folder / name.replace(" ", "-")
            runs.train(runs.command(tiny, save, *ONCE, *options, *start, criterion=criterion))
            made[name] = save / LAST
        return made[name]

    return get


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "lines"
    path.write_text("a dull film\nthe story is charming\n", "utf-8")
    return path


def run(main, *arguments):
    return main(list(map(str, arguments)))


def changed(checkpoint, path, change):
    """A copy of a folder whose checkpoint, in ``path``, was changed."""
    shutil.copytree(checkpoint.parent, path)
    loading.allow_globals()
    state = torch.load(checkpoint)
    change(SimpleNamespace(**state))
    torch.save(state, path / checkpoint.name)
    return path / checkpoint.name


def using_a_classifier(checkpoint, tiny, text, out):
    """Each command that needs one, and what it would write."""
    yield predict.main, [checkpoint, "--input", text], None
    yield evaluate.main, [checkpoint, "--data", tiny.data, "--json", out / "e.json"], out / "e.json"
    exported = ["--to", "huggingface", "--bpe-dir", tiny.encoder, checkpoint, out / "hf"]
    yield convert.main, exported, out / "hf"


def assert_refused(checkpoint, tiny, text, out, capsys, *messages):
    for main, arguments, written in using_a_classifier(checkpoint, tiny, text, out):
        assert run(main, *arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        for message in (str(checkpoint), "never trained", *messages):
            assert message in line
        assert written is None or not written.exists()
    with pytest.raises(ValueError, match="never trained"):
        scl_fairseq.load(checkpoint).predict(["a film"])


def assert_taken(checkpoint, tiny, text, out, capsys):
    for main, arguments, _ in using_a_classifier(checkpoint, tiny, text, out):
        assert run(main, *arguments) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("supcon", ["--criterion supcon", "--finetune-from-model"]),
        ("lambda 1", ["--scl-lambda 1", "--scl-lambda below 1"]),
        ("lambda 1, pooled", ["--scl-lambda 1"]),
        ("another head", ["--criterion supcon"]),
    ],
)
def test_what_was_never_trained_is_refused(name, messages, trained, tiny, text, tmp_path, capsys):
    assert_refused(trained(name), tiny, text, tmp_path / "out", capsys, *messages)


@pytest.mark.parametrize("name", ["second stage", "stock"])
def test_what_was_trained_is_taken(name, trained, tiny, text, tmp_path, capsys):
    assert_taken(trained(name), tiny, text, tmp_path / "out", capsys)


def test_a_classifier_on_a_frozen_encoder_is_trained(trained, text, tmp_path, capsys):
    checkpoint = trained("frozen encoder")
    assert run(predict.main, checkpoint, "--input", text) == 0
    found = []
    for kind in ("pooled", "cls"):  # its first layer is the identity
        assert run(embed.main, checkpoint, "--input", text, "--output", tmp_path / f"{kind}.npy",
                   "--embedding", kind) == 0  # fmt: skip
        found.append(np.load(tmp_path / f"{kind}.npy"))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_an_encoder_that_moved_on_is_told(trained, tiny, text, tmp_path, caplog, capsys):
    """The head was trained, with another encoder than stands beside it now."""
    assert_taken(trained("supcon after stock"), tiny, text, tmp_path / "out", capsys)
    (record,) = [one for one in caplog.records if "earlier training" in one.getMessage()]
    assert "--criterion supcon has changed the encoder since" in record.getMessage()


@pytest.mark.parametrize("name", ["supcon", "lambda 1"])
def test_vectors_need_no_classifier(name, trained, tiny, text, tmp_path, capsys):
    checkpoint = trained(name)
    for kind in ("cls", "mean"):
        out = tmp_path / f"{kind}.npy"
        assert run(embed.main, checkpoint, "--input", text, "--output", out, "--embedding",
                   kind) == 0  # fmt: skip
        assert np.isfinite(np.load(out)).all()
    arguments = ["--bpe-dir", tiny.encoder, checkpoint, tmp_path / "st"]
    assert run(convert.main, "--to", "sentence-transformers", *arguments) == 0
    assert "pooler" not in str(safetensors_names(tmp_path / "st"))
    capsys.readouterr()
    drawn = ["--data", tiny.data, "--perplexity", 3, "--out", tmp_path / "t.svg"]
    assert run(plot.main, "tsne", checkpoint, *drawn) == 0
    title = (tmp_path / "t.svg").read_text("utf-8")
    assert "no classifier" in title
    assert "accuracy" not in title


def safetensors_names(folder):
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return list(file.keys())


def test_vectors_of_a_layer_that_was_never_trained_are_refused(trained, text, tmp_path, capsys):
    out = ["--input", text, "--output", tmp_path / "x.npy", "--embedding", "pooled"]
    for name in ("supcon", "lambda 1"):
        assert run(embed.main, trained(name), *out) == 2
        assert "take the embedding cls or mean" in capsys.readouterr().err
    assert not (tmp_path / "x.npy").exists()
    assert run(embed.main, trained("lambda 1, pooled"), *out) == 0


def without_note(state):
    assert state.extra_state[KEY].pop(HEADS) is not None


def before_the_first_update(state):
    state.extra_state[KEY][HEADS] = {HEAD: []}


def from_elsewhere(state):
    """As a conversion of a trained classifier is: no criterion, no update."""
    without_note(state)
    state.cfg["criterion"] = None
    state.optimizer_history[:] = [
        {"criterion_name": "MaskedLmLoss", "optimizer_name": "FairseqAdam",
         "lr_scheduler_state": {}, "num_updates": 0}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("supcon", without_note, "--criterion supcon"),
        ("lambda 1", without_note, "--scl-lambda 1"),
        ("stock", before_the_first_update, "saved before the first update"),
    ],
)
def test_other_checkpoints_that_are_refused(
    name, change, message, trained, tiny, text, tmp_path, capsys
):
    checkpoint = changed(trained(name), tmp_path / "changed", change)
    assert_refused(checkpoint, tiny, text, tmp_path / "out", capsys, message)


@pytest.mark.parametrize("name", ["second stage", "stock", "supcon after stock"])
def test_checkpoints_without_a_note_are_judged_by_their_criterions(
    name, trained, text, tmp_path, capsys
):
    checkpoint = changed(trained(name), tmp_path / "changed", without_note)
    assert run(predict.main, checkpoint, "--input", text) == 0
    assert "never trained" not in capsys.readouterr().err


def test_a_head_from_elsewhere_counts_as_trained(trained, text, tmp_path):
    checkpoint = changed(trained("stock"), tmp_path / "changed", from_elsewhere)
    assert run(predict.main, checkpoint, "--input", text) == 0


def test_a_training_notes_what_it_begins_from(tiny, trained, tmp_path):
    """Restored, resumed, and begun from a head that stock fairseq or a conversion has left."""

    def note(checkpoint):
        loading.allow_globals()
        return torch.load(checkpoint)["extra_state"][KEY][HEADS][HEAD]

    both = ["dense", "out_proj"]
    assert note(trained("stock")) == both
    assert note(trained("supcon")) == []
    assert note(trained("lambda 1, pooled")) == ["dense"]
    assert note(trained("supcon after stock")) == both
    elsewhere = changed(trained("stock"), tmp_path / "elsewhere", from_elsewhere)
    start = ["--finetune-from-model", elsewhere]
    runs.train(runs.command(tiny, tmp_path / "on", *ONCE, *start, criterion="supcon"))
    assert note(tmp_path / "on" / LAST) == both
    resumed = shutil.copytree(trained("supcon").parent, tmp_path / "resumed")
    longer = ["--max-update", 5, *ONCE[2:], "--restore-file", LAST]
    runs.train(runs.command(tiny, resumed, *longer, criterion="supcon"))
    assert note(resumed / LAST) == []


def test_stock_fairseqs_hub_is_as_it_was(trained, tiny):
    from fairseq.models.roberta import RobertaModel

    checkpoint = trained("supcon")
    hub = RobertaModel.from_pretrained(
        str(checkpoint.parent), checkpoint.name, str(tiny.data), bpe=None
    )
    assert hub.predict(HEAD, torch.tensor([[0, 5, 2]])).shape == (1, 2)


def test_the_embedding_criterions_have_no_classifier(tiny, lines, text, tmp_path, capsys):
    words = [*ONCE, "--bpe", "wordpiece", "--wordpiece-vocab", tiny.encoder / "vocab.txt"]
    runs.train(runs.embedding_command(tiny, lines.data, tmp_path / "run", *words))
    assert run(predict.main, tmp_path / "run", "--input", text) == 2
    assert "an encoder, not a classifier" in capsys.readouterr().err
    assert run(convert.main, "--to", "huggingface", tmp_path / "run" / LAST, tmp_path / "hf") == 0
    config = json.loads((tmp_path / "hf" / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["RobertaModel"]
