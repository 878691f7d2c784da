"""``scl-convert --to onnx`` and ``scl-predict --backend onnx`` against fairseq itself."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import scl_fairseq
from scl_fairseq.cli import convert, embed, evaluate, predict
from tests import runs

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from tests.checkpoints.exported import (  # noqa: E402 (after the checks above)
    KINDS,
    encode,
    fine_tune,
    head_logits,
    write_checkpoint,
)
from tests.checkpoints.random_models import save_bert  # noqa: E402

FILES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"}
MOST = {"fp32": 1e-4, "fp16": 0.02, "int8": 0.5}
TEXTS = [("a dull film",), ("the story is charming , and so is she",), ("bad",), ("",)]
PAIRS = [("who is it ?", "it is she , of course"), ("", "b"), ("a film", "")]


def run(main, *arguments):
    return main(list(map(str, arguments)))


def export(checkpoint, out, *options):
    return run(convert.main, "--to", "onnx", checkpoint, out, *options)


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    """Each encoding's checkpoint as ONNX models."""
    made = {}
    for kind, model in models.items():
        made[kind] = tmp_path_factory.mktemp("onnx") / kind
        where = ["--data-dir", model.data, "--bpe-dir", model.converted]
        assert export(model.checkpoint, made[kind], *where) == 0
    return made


def outside_logits(folder, texts, name="model.onnx"):
    """What anyone has who uses onnxruntime with the tokenizer beside it."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=1)
    texts = [text if len(text) > 1 else text[0] for text in texts]
    encoded = tokenizer.encode_batch(texts)
    inputs = {
        "input_ids": np.array([one.ids for one in encoded], np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], np.int64),
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / name, options).run(["logits"], inputs)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_fairseqs(folders, hubs, sentences, pairs, kind):
    texts = [(sentence,) for sentence in sentences[:40]] + TEXTS[:3]
    for some in (texts, pairs[:20], texts[:1]):
        expected = head_logits(hubs[kind], some).numpy()
        for precision, name in FILES.items():
            found = outside_logits(folders[kind], some, name)
            assert found.dtype == np.float32
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() < MOST[precision], precision


def test_axes_are_free_and_the_graph_is_valid(folders):
    for name in FILES.values():
        model = onnx.load(folders["gpt2"] / name)
        if name != FILES["int8"]:  # which has operators of onnxruntime's
            onnx.checker.check_model(model, full_check=True)
        for value in model.graph.input:
            axes = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
            assert axes == ["batch", "length"]
        types = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
        wide = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8}
        assert (
            types & wide
            >= {
                FILES["fp32"]: {onnx.TensorProto.FLOAT},
                FILES["fp16"]: {onnx.TensorProto.FLOAT16},
                FILES["int8"]: {onnx.TensorProto.INT8},
            }[name]
        )


def test_the_longest_sentence(folders, hubs):
    texts = [("film " * 2000,), ("a film",)]
    tokens = encode(hubs["gpt2"], texts[1:])
    long = torch.cat([tokens[:, :-1].repeat(1, 171)[:, :511], tokens[:, -1:]], dim=1)
    assert long.shape[1] == 512
    with torch.no_grad():
        head = "sentence_classification_head"
        expected = hubs["gpt2"].predict(head, long, return_logits=True).numpy()
    session = onnxruntime.InferenceSession(folders["gpt2"] / "model.onnx")
    inputs = {"input_ids": long.numpy(), "attention_mask": np.ones(long.shape, np.int64)}
    assert np.abs(session.run(None, inputs)[0] - expected).max() < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"reads_mean": True},
        {"reads_mean": True, "pooler_activation_fn": "linear"},
        {"activation_fn": "relu", "pooler_activation_fn": "relu"},
        {"activation_fn": "gelu_accurate", "pooler_activation_fn": "gelu"},
        {"activation_fn": "gelu_fast"},
        {"layer_norm_eps": 1e-2},
    ],
)
def test_other_heads_and_activations(tmp_path, options, capsys):
    """The comparison that is printed is with the checkpoint in torch, and the text's own way."""
    source = tmp_path / "source"
    save_bert(source)
    model = fine_tune(tmp_path, source, **options)
    where = ["--data-dir", model.data, "--bpe-dir", model.converted]
    assert export(model.checkpoint, tmp_path / "out", *where) == 0
    output = capsys.readouterr().out
    assert float(re.search(r"onnx fp32 .* differ by (\S+) at most", output)[1]) < 1e-4
    texts = [("a film",), ("b",), ("the film is bad .",)]
    hub = scl_fairseq.load(model.checkpoint, model.data, bpe_dir=model.converted)
    expected = hub.predict(texts).probabilities.numpy()
    logits = outside_logits(tmp_path / "out", texts)
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_torch(folders, models, sentences, tmp_path, kind, capsys):
    odd = ["", "  spaces  ", "ü 😀 人", "</s> <s> <mask> [SEP]", "word " * 700]
    assert_same_predictions(
        models[kind], models[kind].data, folders[kind], [*sentences[:60], *odd], tmp_path, capsys
    )


@pytest.mark.parametrize("kind", ["wordpiece", "gpt2"])  # which join pairs in two ways
def test_predictions_of_pairs_are_those_of_torch(models, pairs, tmp_path, kind, capsys):
    data = shutil.copytree(models[kind].data, tmp_path / "data")
    (data / "input1").mkdir()
    where = ["--data-dir", data, "--bpe-dir", models[kind].converted]
    out = tmp_path / "out"
    assert export(models[kind].checkpoint, out, *where, "--precision", "fp32") == 0
    capsys.readouterr()
    lines = ["\t".join(pair) for pair in pairs[:30]] + ["a " * 600 + "\t" + "b " * 300]
    assert_same_predictions(models[kind], data, out, lines, tmp_path, capsys)
    (tmp_path / "lines").write_text("one\n", encoding="utf-8")
    assert run(predict.main, out, "--input", tmp_path / "lines") == 2
    assert "1 sentence, expected 2" in capsys.readouterr().err


def assert_same_predictions(model, data, folder, lines, tmp_path, capsys):
    path = tmp_path / "lines"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    where = ["--data-dir", data, "--bpe-dir", model.converted]
    assert run(predict.main, model.checkpoint, "--input", path, *where) == 0
    expected = capsys.readouterr()
    assert run(predict.main, "--backend", "onnx", folder, "--input", path) == 0
    found = capsys.readouterr()
    assert found.err == expected.err
    assert "cut to the" in found.err
    assert_alike(found.out, expected.out)


def assert_alike(found, expected):
    found, expected = ([row.split("\t") for row in out.splitlines()] for out in (found, expected))
    assert found[0] == expected[0]
    assert [row[0] for row in found] == [row[0] for row in expected]
    numbers = (np.array([row[1:] for row in rows[1:]], float) for rows in (found, expected))
    np.testing.assert_allclose(*numbers, atol=2e-5)


@pytest.fixture(scope="module")
def run_folder(classifier, tmp_path_factory):
    """A real training's folder as ONNX models, and what the command printed."""
    folder = tmp_path_factory.mktemp("run") / "out"
    words = [sys.executable, "-m", "scl_fairseq.cli.convert", "--to", "onnx", classifier, folder]
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, env=runs.ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_without_data_it_compares_on_random_tokens(run_folder, classifier):
    folder, output = run_folder
    assert "random tokens" in output
    assert "accuracy" not in output
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    beside = {"README.md", "config.json", "tokenizer.json", "bpe/dict.txt", "bpe/vocab.txt"}
    assert names >= {*FILES.values(), *beside}
    assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "0", "1": "1"}


def test_accuracy_is_that_of_the_evaluation(tiny, classifier, tmp_path, capsys):
    options = ["--data-dir", tiny.data, "--split", "train", "--rows", 0]
    assert export(classifier, tmp_path / "out", *options, "--precision", "fp32", "int8") == 0
    output = capsys.readouterr().out
    assert not (tmp_path / "out" / FILES["fp16"]).exists()
    assert "64 rows" in output
    told = dict(re.findall(r"(torch fp32|onnx \w+) .* accuracy (\S+) %", output))
    report = tmp_path / "scores.json"
    assert run(evaluate.main, classifier, "--data", tiny.data, "--split", "train", "--json", report,
               "--predictions", tmp_path / "predictions.tsv") == 0  # fmt: skip
    scores = json.loads(report.read_text())["checkpoints"][0]["scores"]
    assert told["torch fp32"] == told["onnx fp32"] == f"{scores['accuracy']:.1f}"
    low, high = scores["accuracy_interval"]
    assert f"{scores['accuracy']:.1f} % ({low:.1f} to {high:.1f})" in output
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"{scores['accuracy']:.1f} % (95 % interval {low:.1f} to {high:.1f})" in card
    # The int8 model's accuracy once more, from the texts.
    rows = (tiny.sample / "train.tsv").read_text("utf-8").splitlines()[1:]
    labels, texts = zip(*(row.split("\t")[1:3] for row in rows), strict=True)
    logits = outside_logits(tmp_path / "out", [(text,) for text in texts], FILES["int8"])
    correct = [str(best) == label for best, label in zip(logits.argmax(1), labels, strict=True)]
    assert told["onnx int8"] == f"{100 * np.mean(correct):.1f}"


def test_predicting_loads_no_torch(run_folder, tmp_path):
    code = (
        "import sys; from scl_fairseq.cli.predict import main; code = main(sys.argv[1:]); "
        "print([name for name in ('torch', 'fairseq', 'onnx') if name in sys.modules]); exit(code)"
    )
    words = [sys.executable, "-c", code, run_folder[0] / FILES["int8"], "--format", "jsonl"]
    done = subprocess.run(
        list(map(str, words)),
        input="a film\n",
        capture_output=True,
        text=True,
        env=runs.ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line, modules = done.stdout.splitlines()
    assert set(json.loads(line)["probabilities"]) == {"0", "1"}
    assert modules == "[]"


def test_models_too_large_for_one_file(classifier, tmp_path, monkeypatch, capsys):
    from scl_fairseq.inference import onnx_export

    (tmp_path / "lines").write_text("a film\nbad\n", encoding="utf-8")
    assert run(predict.main, classifier, "--input", tmp_path / "lines") == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(onnx_export, "_MOST_BYTES", 1000)
    assert export(classifier, tmp_path / "out") == 0
    assert (tmp_path / "out" / "model.onnx.data").is_file()
    capsys.readouterr()
    assert run(predict.main, tmp_path / "out", "--input", tmp_path / "lines") == 0
    assert_alike(capsys.readouterr().out, expected)
    assert export(classifier, tmp_path / "out") == 0  # ours, so it is replaced
    (tmp_path / "out" / "model.onnx.data").unlink()
    capsys.readouterr()
    assert run(predict.main, tmp_path / "out", "--input", tmp_path / "lines") == 2
    assert_one_line(capsys, "model.onnx does not load")


def test_a_regression_goes_out_and_has_no_labels(models, tmp_path, capsys):
    state = torch.load(models["gpt2"].converted / "model.pt", weights_only=True)
    path = tmp_path / "regression.pt"
    write_checkpoint(path, state, outputs=1, regression_target=True, separator_token=2)
    where = ["--data-dir", models["gpt2"].data, "--bpe-dir", models["gpt2"].converted]
    assert export(path, tmp_path / "out", *where, "--precision", "fp32") == 0
    expected = head_logits(models["gpt2"].hub(path), PAIRS).numpy()
    assert np.abs(outside_logits(tmp_path / "out", PAIRS) - expected).max() < 1e-4
    capsys.readouterr()
    (tmp_path / "lines").write_text("a\n", encoding="utf-8")
    assert run(predict.main, tmp_path / "out", "--input", tmp_path / "lines") == 2
    assert_one_line(capsys, "is of a regression")


def assert_one_line(capsys, *told):
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert output.out == ""
    for words in told:
        assert words in line
    return line


def broken(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def exchanged(path):
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n", "utf-8")


CHANGES = {
    "a model cut short": (lambda out: broken(out / "model.onnx"), "model.onnx does not load"),
    "no model at all": (lambda out: (out / "model.onnx").write_bytes(b""), "model.onnx"),
    "another dictionary": (lambda out: exchanged(out / "bpe/dict.txt"), "is not the dict.txt that"),
    "another vocabulary": (lambda out: exchanged(out / "bpe/vocab.txt"), "not the vocab.txt that"),
    "no dictionary": (lambda out: (out / "bpe/dict.txt").unlink(), "has no dict.txt"),
    "no tokens": (lambda out: shutil.rmtree(out / "bpe"), "is no folder"),
    "no models": (lambda out: [(out / name).unlink() for name in FILES.values()], "no model"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_damaged_folders_are_refused(run_folder, tmp_path, change, capsys):
    out = shutil.copytree(run_folder[0], tmp_path / "out")
    damage, told = CHANGES[change]
    damage(out)
    (tmp_path / "lines").write_text("a\n", encoding="utf-8")
    words = "--backend", "onnx", out, "--input", tmp_path / "lines"
    assert run(predict.main, *words) == 2
    assert_one_line(capsys, told)


def test_models_of_others_are_refused(run_folder, tmp_path, capsys):
    out = shutil.copytree(run_folder[0], tmp_path / "out")
    model = onnx.load(out / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, out / "model.onnx")
    (tmp_path / "lines").write_text("a\n", encoding="utf-8")
    assert run(predict.main, out / "model.onnx", "--input", tmp_path / "lines") == 2
    assert_one_line(capsys, "has not written it")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--dtype", "fp16"], "model_fp16.onnx"),
        (["--device", "cuda"], "device cuda"),
        (["--device", "tpu"], "expected cpu"),
        (["--backend", "torch"], "--backend onnx"),
        (["--data-dir", "."], "--data-dir goes with --backend torch"),
    ],
)
def test_options_that_do_not_go_with_it(run_folder, tmp_path, options, told, capsys):
    (tmp_path / "lines").write_text("a\n", encoding="utf-8")
    words = run_folder[0] / "model.onnx", "--input", tmp_path / "lines"
    assert run(predict.main, *words, *options) == 2
    assert_one_line(capsys, told)


def test_other_commands_take_none(run_folder, tiny, tmp_path, capsys):
    (tmp_path / "lines").write_text("a\n", encoding="utf-8")
    for path in (run_folder[0], run_folder[0] / "model.onnx"):
        for main, *words in (
            (embed.main, path, "--input", tmp_path / "lines", "--output", tmp_path / "out.npy"),
            (evaluate.main, path, "--data", tiny.data),
            (convert.main, "--to", "huggingface", path, tmp_path / "out"),
            (predict.main, "--backend", "torch", path, "--input", tmp_path / "lines"),
        ):
            assert run(main, *words) == 2
            line = assert_one_line(capsys)
            assert re.search("ONNX model|a model for --backend onnx", line), line
    assert [path.name for path in tmp_path.iterdir()] == ["lines"]


def test_a_checkpoint_is_no_onnx_model(classifier, tmp_path, capsys):
    (tmp_path / "lines").write_text("a\n", encoding="utf-8")
    for path in (classifier, classifier / "checkpoint_best.pt"):
        words = "--backend", "onnx", path, "--input", tmp_path / "lines"
        assert run(predict.main, *words) == 2
        assert_one_line(capsys, "scl-convert --to onnx")


def test_what_cannot_go_out_writes_nothing(tiny, classifier, models, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert export(tiny.encoder, out) == 2
    assert_one_line(capsys, "has no classification head")
    assert export(classifier, out, "--data-dir", tiny.data, "--split", "test2") == 2
    assert_one_line(capsys, "test2")
    state = torch.load(models["gpt2"].converted / "model.pt", weights_only=True)
    state["model"]["encoder.sentence_encoder.layers.0.fc1.weight"][0, 0] = 1e6
    write_checkpoint(tmp_path / "large.pt", state, outputs=3, separator_token=2)
    where = ["--data-dir", models["gpt2"].data, "--bpe-dir", models["gpt2"].converted]
    assert export(tmp_path / "large.pt", out, *where) == 2
    assert_one_line(capsys, "intermediate.dense", "float16")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.onnx").write_text("")
    (tmp_path / "mine" / "thesis.tex").write_text("")
    assert export(classifier, tmp_path / "mine") == 2
    assert_one_line(capsys, "holds something else")
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert export(classifier, out) == 2
        assert_one_line(capsys, f"{package} is missing", 'pip install ".[onnx]"')
    assert not out.exists()
    with pytest.raises(SystemExit) as stopped:
        run(convert.main, classifier, out, "--precision", "int8")
    assert stopped.value.code == 2
    assert_one_line(capsys, "--precision needs --to")
    with pytest.raises(SystemExit) as stopped:
        run(convert.main, "--to", "huggingface", classifier, out, "--rows", 5)
    assert stopped.value.code == 2
    assert_one_line(capsys, "--rows needs --to onnx")
