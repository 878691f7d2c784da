"""scl-embed and scl-predict: whole results or one line, as lines stream in."""

import argparse
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import scl_fairseq
from scl_fairseq.checkpoints import loading
from scl_fairseq.cli import embed, predict
from tests import runs
from tests.checkpoints.test_loading import RunsCode, needs_refusal

TEXT = "a fine film\nbad\n\nüber 😀 film\n"
SENTENCES = TEXT.split("\n")[:-1]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "sentences"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(classifier):
    return scl_fairseq.load(classifier)


def run(main, *arguments):
    return main(list(map(str, arguments)))


def through_a_pipe(module, *arguments, data):
    words = [sys.executable, "-m", f"scl_fairseq.cli.{module}", *map(str, arguments)]
    return subprocess.run(words, input=data, capture_output=True, env=runs.ENVIRONMENT, check=False)


@pytest.mark.parametrize("kind", ["cls", "pooled", "mean"])
@pytest.mark.parametrize("ending", ["npy", "safetensors"])
def test_vectors_of_a_file(classifier, model, text, tmp_path, kind, ending, capsys):
    out = tmp_path / "new" / f"vectors.{ending}"
    options = ["--input", text, "--output", out, "--embedding", kind, "--batch-tokens", 7]
    assert run(embed.main, classifier, *options) == 0
    assert capsys.readouterr() == ("", "")
    found = np.load(out) if ending == "npy" else load_file(out)["embeddings"]
    expected = model.embed(SENTENCES, kind).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_vectors_through_pipes(classifier, model, tmp_path):
    done = through_a_pipe("embed", classifier, data=TEXT.encode())
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    (tmp_path / "vectors.npy").write_bytes(done.stdout)
    expected = model.embed(SENTENCES).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, rtol=1e-4, atol=1e-5)


def test_predictions_through_pipes(classifier, model):
    done = through_a_pipe("predict", classifier, data=TEXT.encode())
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.decode().splitlines()
    assert header == "label\t0\t1"
    found = model.predict(SENTENCES)
    for line, label, row in zip(lines, found.labels, found.probabilities.tolist(), strict=True):
        first, *values = line.split("\t")
        assert first == label
        assert list(map(float, values)) == pytest.approx(row, abs=1e-5)


def test_predictions_as_json(classifier, model, text, capsys):
    assert run(predict.main, classifier, "--input", text, "--format", "jsonl") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = model.predict(SENTENCES)
    assert [line["label"] for line in lines] == found.labels
    for line, row in zip(lines, found.probabilities.tolist(), strict=True):
        assert list(line["probabilities"]) == ["0", "1"]
        assert list(line["probabilities"].values()) == pytest.approx(row, abs=1e-5)


def test_blocks_are_put_out_one_by_one(classifier, monkeypatch, text, capsys):
    from scl_fairseq.inference import lines

    monkeypatch.setattr(lines.read_blocks, "__defaults__", (None, 2))
    text.write_text("bad\n" * 4 + "a\tb\n")
    assert run(predict.main, classifier, "--input", text) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1 + 4  # the block in front had been put out
    assert captured.err.endswith("sentences:5: 2 sentences, expected 1, as in training\n")


def test_long_inputs_are_told_and_no_input_is_an_empty_result(classifier, text, tmp_path, capsys):
    text.write_text("film " * 90 + "\nbad\n")
    out = tmp_path / "vectors.npy"
    assert run(embed.main, classifier, "--input", text, "--output", out) == 0
    assert capsys.readouterr().err == (
        "scl-embed: note: 1 inputs were cut to the 64 positions of the model\n"
    )
    text.write_text("")
    assert run(embed.main, classifier, "--input", text, "--output", out) == 0
    assert np.load(out).shape == (0, 32)
    assert run(predict.main, classifier, "--input", text) == 0
    assert capsys.readouterr().out == "label\t0\t1\n"


def test_pairs(classifier, model, text, tmp_path):
    text.write_text("a fine film\tbad\nbad\ta film\n")
    out = tmp_path / "vectors.npy"
    assert run(embed.main, classifier, "--input", text, "--output", out) == 0
    expected = model.embed([("a fine film", "bad"), ("bad", "a film")]).numpy()
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-4, atol=1e-5)


def assert_refused(main, message, capsys, *arguments):
    assert run(main, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line
    return line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"fine\ncaf\xe9\n", "sentences:2: not UTF-8 (byte 0xe9)"),
        (b"a\tb\tc\n", "sentences:1: 3 fields, expected one sentence, or two"),
        (b"a\tb\nc\n", "sentences:2: 1 sentence, expected 2, as in line 1"),
        (b"a\nb\0\n", "sentences:2: a NUL byte"),
    ],
)
def test_bad_lines_leave_the_old_result(classifier, text, tmp_path, data, message, capsys):
    text.write_bytes(data)
    out = tmp_path / "vectors.npy"
    out.write_text("old")
    assert_refused(embed.main, message, capsys, classifier, "--input", text, "--output", out)
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sentences", "vectors.npy"]


def test_bad_options(classifier, tiny, text, tmp_path, capsys):
    named = [classifier, "--input", text]
    out = tmp_path / "vectors.txt"
    assert_refused(embed.main, "ends with .npy or .safe", capsys, *named, "--output", out)
    out = ["--output", tmp_path / "vectors.npy"]
    missing = [classifier, "--input", tmp_path / "none", *out]
    assert_refused(embed.main, "none: no such file", capsys, *missing)
    assert_refused(embed.main, "fp16 needs a GPU", capsys, *named, *out, "--dtype", "fp16",
                   "--device", "cpu")  # fmt: skip
    encoder = [tiny.encoder, "--input", text]
    assert_refused(predict.main, "an encoder, not a classifier", capsys, *encoder)
    assert_refused(embed.main, "an encoder, not a cl", capsys, *encoder, *out, "--embedding",
                   "pooled")  # fmt: skip
    assert not (tmp_path / "vectors.npy").exists()


def weights_of(classifier):
    loading.allow_globals()
    return torch.load(classifier / "checkpoint_best.pt")


def no_checkpoint(classifier, path):
    path.unlink()


def hostile(classifier, path):
    torch.save({**weights_of(classifier), "hostile": RunsCode(str(path.parent / "made"))}, path)


def old_hostile(classifier, path):
    path.write_bytes(pickle.dumps(RunsCode(str(path.parent / "made")), protocol=2))


def truncated(classifier, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def not_a_checkpoint(classifier, path):
    path.write_text("a fine film")


def of_something_else(classifier, path):
    torch.save({"weights": torch.zeros(3)}, path)


def save(model, args, path):
    torch.save(
        {
            "args": args,
            "model": model.state_dict(),
            "optimizer_history": [{"num_updates": 0, "optimizer_name": "FairseqAdam",
                                   "lr_scheduler_state": {}, "criterion_name": "CE"}],
            "extra_state": {"train_iterator": {"epoch": 1}},
        },
        path,
    )  # fmt: skip


def task_of(classifier):
    from fairseq.data import Dictionary

    dictionary = Dictionary.load(str(classifier / "dict.txt"))
    return argparse.Namespace(source_dictionary=dictionary, target_dictionary=dictionary)


SIZES = {
    "encoder_embed_dim": 16,
    "decoder_embed_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "max_source_positions": 64,
    "max_target_positions": 64,
}


def translation(classifier, path):
    from fairseq.models.transformer import TransformerModel, base_architecture

    args = argparse.Namespace(arch="transformer", task="translation", **SIZES)
    base_architecture(args)
    save(TransformerModel.build_model(args, task_of(classifier)), args, path)


def bart(classifier, path):
    from fairseq.models.bart import BARTModel
    from fairseq.models.bart.model import bart_large_architecture

    settings = {"classification_head_name": "head", "regression_target": False, "num_classes": 2}
    args = argparse.Namespace(
        arch="bart_large",
        task="sentence_prediction",
        criterion="sentence_prediction",
        **settings,
        **SIZES,
    )
    bart_large_architecture(args)
    save(BARTModel.build_model(args, task_of(classifier)), args, path)


REFUSED = {
    "no such file": (no_checkpoint, "model.pt: no such checkpoint"),
    "truncated": (truncated, "model.pt is truncated or damaged"),
    "text": (
        not_a_checkpoint,
        "model.pt is truncated or damaged, or no checkpoint: Index",
    ),
    "other tensors": (of_something_else, "model.pt is no fairseq checkpoint"),
    "translation": (translation, "of the architecture transformer, expected a RoBERTa encoder"),
    "BART": (bart, "of the architecture bart_large, expected a RoBERTa encoder"),
}
HOSTILE = {
    "hostile": (hostile, "mkdir, which is not among the globals"),
    "hostile, older format": (old_hostile, "mkdir, which is not among the globals"),
}


def assert_checkpoint_refused(change, message, classifier, text, tmp_path, capsys):
    run_dir = shutil.copytree(classifier, tmp_path / "run")
    path = shutil.copy(run_dir / "checkpoint_best.pt", run_dir / "model.pt")
    change(classifier, path)
    named = [path, "--input", text]
    assert_refused(predict.main, message, capsys, *named)
    out = tmp_path / "out" / "vectors.npy"
    line = assert_refused(embed.main, message, capsys, *named, "--output", out)
    assert line.startswith("scl-embed: error: ")
    assert not out.parent.exists()
    assert not (run_dir / "made").exists()


@pytest.mark.parametrize("case", REFUSED)
def test_checkpoints_that_are_refused(case, classifier, text, tmp_path, capsys):
    assert_checkpoint_refused(*REFUSED[case], classifier, text, tmp_path, capsys)


@needs_refusal
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_checkpoints_are_refused(case, classifier, text, tmp_path, capsys):
    assert_checkpoint_refused(*HOSTILE[case], classifier, text, tmp_path, capsys)


def test_what_does_not_match_is_refused(classifier, text, tmp_path, capsys):
    for name, line, message in (
        ("input0/dict.txt", "further 1\n", "trained with: its symbols are others"),
        ("label/dict.txt", "2 1\n", "trained with: it has the labels 0, 1, 2, not 0, 1"),
    ):
        moved = shutil.copytree(classifier, tmp_path / name.replace("/", "-"))
        with open(moved / name, "a", encoding="utf-8") as file:
            file.write(line)
        assert_refused(predict.main, message, capsys, moved, "--input", text)
