"""Weights and outputs that are not finite: every command says so before it writes anything."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import scl_fairseq
from scl_fairseq.checkpoints import finite, loading
from scl_fairseq.cli import convert, embed, evaluate, plot, predict

BEST = "checkpoint_best.pt"
ENCODER = "encoder.sentence_encoder."
HEAD = "classification_heads.sentence_classification_head."
BAD = {
    "NaN in a layer": (f"{ENCODER}layers.1.fc2.weight", float("nan"), "NaN"),
    "infinity in an embedding": (f"{ENCODER}embed_tokens.weight", float("inf"), "infinity"),
    "minus infinity in a norm": (f"{ENCODER}layernorm_embedding.bias", -float("inf"), "infinity"),
    "NaN in the classifier": (f"{HEAD}out_proj.bias", float("nan"), "NaN"),
}
WORD = "sequel"  # its embedding is finite and too large for a sum of squares


def run(main, *arguments):
    try:
        return main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code


def changed(folder, path, change):
    """A copy of a folder of checkpoints, with its best one changed."""
    shutil.copytree(folder, path)
    loading.allow_globals()
    state = torch.load(folder / BEST)
    change(SimpleNamespace(**state))
    torch.save(state, path / BEST)
    return path / BEST


def put(name, value):
    def change(state):
        state.model[name].view(-1)[-1] = value

    return change


@pytest.fixture
def too_large(classifier, tiny, tmp_path):
    """A checkpoint whose vectors are finite but for sentences with ``WORD``."""
    symbols = (tiny.encoder / "dict.txt").read_text("utf-8").splitlines()
    row = 4 + [line.split()[0] for line in symbols].index(WORD)

    def change(state):
        state.model[f"{ENCODER}embed_tokens.weight"][row] = 3e38

    return changed(classifier, tmp_path / "run", change)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "lines"
    path.write_text("a dull film\nthe story is dull\n", "utf-8")
    return path


def sts(folder):
    place = folder / "pairs" / "STSBenchmark"
    place.mkdir(parents=True)
    rows = [("a dull film", "the film"), ("the story", f"the {WORD} story"), ("a", "the film")]
    text = "".join(f"g\tf\t0\t{i}\t{i}.0\t{a}\t{b}\n" for i, (a, b) in enumerate(rows))
    for split in ("dev", "test"):
        (place / f"sts-{split}.csv").write_text(text, "utf-8")
    return folder / "pairs"


def commands(checkpoint, tiny, text, out):
    """Every command that loads weights, and the file or folder that it would write."""
    yield predict.main, [checkpoint, "--input", text], None
    yield predict.main, [checkpoint, "--input", text, "--format", "jsonl"], None
    for kind in ("cls", "mean", "pooled"):
        vectors = out / "x.npy"
        options = ["--input", text, "--output", vectors, "--embedding", kind]
        yield embed.main, [checkpoint, *options], vectors
    scores = out / "e.json"
    yield evaluate.main, [checkpoint, "--data", tiny.data, "--json", scores], scores
    yield evaluate.main, [checkpoint, "--sts", sts(out.parent), "--json", scores], scores
    for target in ("huggingface", "sentence-transformers"):
        exported = ["--to", target, "--bpe-dir", tiny.encoder, checkpoint, out / "hf"]
        yield convert.main, exported, out / "hf"
    figure = out / "t.svg"
    yield plot.main, ["tsne", checkpoint, "--data", tiny.data, "--out", figure], figure


@pytest.mark.parametrize("case", BAD)
def test_no_command_takes_weights_that_are_not_finite(
    case, classifier, tiny, text, tmp_path, capsys
):
    name, value, what = BAD[case]
    checkpoint = changed(classifier, tmp_path / "run", put(name, value))
    for main, arguments, written in commands(checkpoint, tiny, text, tmp_path / "out"):
        assert run(main, *arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert f"{checkpoint}: {name} holds {what}, so its training has diverged" in line
        assert written is None or not written.exists()
    with pytest.raises(ValueError, match=f"{name} holds {what}"):
        scl_fairseq.load(checkpoint)


def test_what_the_model_does_not_compute_with_may_be_anything(
    classifier, tiny, text, tmp_path, capsys
):
    def change(state):
        nan = torch.full((3, 3), float("nan"))
        state.model[f"{ENCODER}layers.0.in_proj_weight"] = nan  # a copy that fairseq 0.12.2 keeps
        state.model[f"{ENCODER}layers.1.fc1_bias"] = nan
        state.model["encoder.lm_head.bias"].fill_(float("nan"))
        state.model["classification_heads.supcon_projection.layers.0.weight"] = nan
        for tensor in state.last_optimizer_state["state"].values():
            tensor["exp_avg"].fill_(float("nan"))

    checkpoint = changed(classifier, tmp_path / "run", change)
    for main, arguments, _ in commands(checkpoint, tiny, text, tmp_path / "out"):
        if main is not plot.main:
            assert run(main, *arguments) == 0, capsys.readouterr().err


def test_a_conversion_takes_no_such_weights(tiny, tmp_path, capsys):
    source = shutil.copytree(tiny.encoder.parent / "huggingface", tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    tensors[name][0, 0] = float("nan")
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    assert run(convert.main, source, tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{source / 'model.safetensors'}: " in line
    assert "holds NaN" in line
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_blocks(monkeypatch):
    from scl_fairseq.inference import lines

    monkeypatch.setattr(lines.read_blocks, "__defaults__", (None, 2))


@pytest.mark.parametrize("form", ["tsv", "jsonl"])
def test_an_overflow_ends_the_predictions_after_the_last_whole_block(
    too_large, text, small_blocks, form, capsys
):
    text.write_text(f"a film\ndull\n\na dull film\na film\na {WORD} film\ndull\n", "utf-8")
    assert run(predict.main, too_large, "--input", text, "--format", form) == 2
    captured = capsys.readouterr()
    assert captured.out.endswith("\n")
    lines = captured.out.splitlines()[form == "tsv" :]
    assert len(lines) == 4
    if form == "jsonl":
        for line in lines:
            json.loads(line, parse_constant=pytest.fail)
    (line,) = captured.err.splitlines()
    assert "what the model makes of line 6 is not finite" in line
    assert line.endswith("the output ends after line 4")


@pytest.mark.parametrize("kind", ["cls", "pooled", "mean"])
def test_an_overflow_leaves_the_old_vectors(
    too_large, text, small_blocks, tmp_path, kind, capsysbinary
):
    text.write_text(f"a film\ndull\ndull\n{WORD}\n", "utf-8")
    out = tmp_path / "vectors.npy"
    out.write_text("old")
    named = [too_large, "--input", text, "--embedding", kind, "--dtype", "bf16"]
    assert run(embed.main, *named, "--output", out) == 2
    captured = capsysbinary.readouterr()
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines", "run", "vectors.npy"]
    (line,) = captured.err.decode().splitlines()
    assert "line 4 is not finite in bf16" in line
    assert "all was well up to line 2; nothing is written" in line
    text.write_text("a film\n" * 5, "utf-8")
    assert run(embed.main, *named, "--output", out) == 0
    assert np.isfinite(np.load(out)).all()


def test_an_overflow_in_a_split_or_in_pairs(too_large, tiny, tmp_path, capsys):
    out = tmp_path / "e.json"
    assert run(evaluate.main, too_large, "--data", tiny.data, "--json", out) == 2
    rows = (tiny.sample / "test.tsv").read_text("utf-8").splitlines()[1:]
    first = next(i for i, row in enumerate(rows) if WORD in row.split("\t")[2].split())
    message = capsys.readouterr().err
    assert f"its outputs for example {first + 1} of test are not finite" in message
    assert run(plot.main, "tsne", too_large, "--data", tiny.data, "--out", tmp_path / "t.svg") == 2
    assert f"for example {first + 1} of test" in capsys.readouterr().err
    assert run(evaluate.main, too_large, "--sts", sts(tmp_path), "--json", out) == 2
    assert f"the vector of 'the {WORD} story' is not finite" in capsys.readouterr().err
    assert not out.exists()
    assert not (tmp_path / "t.svg").exists()


def test_numbers_that_a_type_has_not(classifier, text, tmp_path, capsys):
    """The largest number of bf16 is 3.39e38, of float32 3.40e38."""
    checkpoint = changed(classifier, tmp_path / "run", put(f"{ENCODER}layers.0.fc1.weight", 3.4e38))
    out = ["--input", text, "--output", tmp_path / "x.npy"]
    assert run(embed.main, checkpoint, *out, "--dtype", "bf16") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "layers.0.fc1.weight holds numbers that bfloat16 has not" in line
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_number_is_looked_at(dtype):
    largest = torch.finfo(dtype).max
    for size in (1, 7, 1000):
        values = torch.full((size,), largest, dtype=dtype)
        assert finite.is_finite(values)  # though their sum is not
        for bad in ("nan", "inf", "-inf"):
            for place in (0, size // 2, size - 1):
                values = torch.zeros(size, dtype=dtype)
                values[place] = float(bad)
                assert not finite.is_finite(values)
    both = torch.tensor([float("inf"), -float("inf")], dtype=dtype)
    assert not finite.is_finite(both)
    assert finite.is_finite(torch.tensor([], dtype=dtype))
    assert finite.is_finite(torch.tensor([1, 2]))
