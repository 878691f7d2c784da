"""Whatever happens to a file beside a checkpoint or data: the right result, or one clear line."""

import json
import random
import shutil

import pytest

from scl_fairseq.cli import convert, embed, evaluate, predict, preprocess, sample
from scl_fairseq.data import synthetic
from tests.corruptions import corrupt

SIDE_FILES = [
    *("text.json", "label/dict.txt", "input0/dict.txt", "dict.txt", "vocab.txt"),
    "tokenizer_config.json",
]
DATA_FILES = [
    *("label/dict.txt", "input0/dict.txt", "preprocess.json"),
    *("input0/test.idx", "label/test.idx", "input0/test.bin", "label/test.bin"),
]
CASES = 14  # of each kind of command


def run(main, arguments, capsys):
    """Exit code, output and error; a traceback is an exception, which fails the test."""
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def check(main, arguments, expected, capsys, what, out=None):
    """The right result, or a refusal in one line that leaves nothing."""
    code, shown, error = run(main, arguments, capsys)
    if code == 0:
        found = (shown, out.read_bytes() if out else None)
        assert expected in (None, found), f"{what}: another result, in silence"
        return 0
    assert code == 2, what
    assert error.count("\n") == 1, (what, error)
    assert ": error: " in error, (what, error)
    assert shown == "", (what, shown)
    assert out is None or not out.exists(), what
    return 1


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("a fine film\na bad film\n\nfilm , film\n")
    return path


@pytest.mark.parametrize("name", SIDE_FILES)
def test_side_files(name, classifier, tiny, text, tmp_path, capsys):
    run_, vectors, converted = tmp_path / "run", tmp_path / "v.npy", tmp_path / "out"
    calls = {
        "predict": (predict.main, [run_, "--input", text], None),
        "embed": (embed.main, [run_, "--input", text, "--output", vectors], vectors),
        "convert": (
            *(convert.main, ["--to", "huggingface", run_, converted]),
            converted / "tokenizer.json",
        ),
    }
    shutil.copytree(classifier, run_)
    expected = {}
    for command, (main, arguments, out) in calls.items():
        code, shown, error = run(main, arguments, capsys)
        assert code == 0, error
        expected[command] = (shown, out.read_bytes() if out else None)
    rng, refused = random.Random(f"side {name}"), 0
    whole = (run_ / name).read_bytes()
    for case in range(CASES):
        command = list(calls)[case % 3]
        main, arguments, out = calls[command]
        vectors.unlink(missing_ok=True)
        shutil.rmtree(converted, ignore_errors=True)
        what = corrupt(run_ / name, rng, [run_ / other for other in SIDE_FILES if other != name])
        try:
            refused += check(main, arguments, expected[command], capsys, (name, what), out)
        finally:
            (run_ / name).unlink()
            (run_ / name).write_bytes(whole)
    # The checkpoint itself says what text.json does; dict.txt alone is for other programs.
    assert refused if name not in ("text.json", "dict.txt") else not refused


@pytest.mark.parametrize("name", DATA_FILES)
def test_binarised_data(name, classifier, tiny, tmp_path, capsys):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    arguments = [classifier, "--data", data, "--split", "test", "--bootstrap", 10]
    code, shown, error = run(evaluate.main, arguments, capsys)
    assert code == 0, error
    rng, refused = random.Random(f"data {name}"), 0
    others = [data / other for other in DATA_FILES if other != name]
    whole = (data / name).read_bytes()
    for _ in range(CASES):
        what = corrupt(data / name, rng, others)
        try:
            # Another token that there is makes another sentence, which nobody can know.
            same = None if name.endswith(".bin") else (shown, None)
            refused += check(evaluate.main, arguments, same, capsys, (name, what))
        finally:
            (data / name).unlink()
            (data / name).write_bytes(whole)
    assert refused


def test_manifests(tiny, tmp_path, capsys):
    folder = shutil.copytree(tiny.sample, tmp_path / "sample")
    named = ["--task", "SST-2", "--data-dir", folder, "--bpe", "wordpiece", "--workers", 1]
    destination = tmp_path / "bin"
    arguments = [*named, "--bpe-dir", tiny.encoder, "--destdir", destination]
    assert run(preprocess.main, arguments, capsys)[0] == 0
    expected = (destination / "input0" / "train.bin").read_bytes()
    rng, refused = random.Random("manifest"), 0
    whole = (folder / "manifest.json").read_bytes()
    for _ in range(CASES):
        shutil.rmtree(destination, ignore_errors=True)
        what = corrupt(folder / "manifest.json", rng, [folder / "train.tsv"])
        code, shown, error = run(preprocess.main, arguments, capsys)
        if code == 0:
            assert (destination / "input0" / "train.bin").read_bytes() == expected, what
        else:
            assert (code, shown, error.count("\n")) == (2, "", 1), (what, error)
            assert not destination.exists(), what
            refused += 1
        (folder / "manifest.json").unlink()
        (folder / "manifest.json").write_bytes(whole)
    assert refused


def test_manifests_that_are_drawn_again(tmp_path, capsys):
    """Another row would be another sample, which nothing else could tell."""
    synthetic.write_corpus(tmp_path / "corpus", num_train=200, num_dev=60)
    named = ["--data-dir", tmp_path / "corpus", "--out"]
    size = ["--task", "SST-2", "--num-examples", 20, "--num-samples", 1]
    assert run(sample.main, [*named, tmp_path / "drawn", *size], capsys)[0] == 0
    manifest, again = tmp_path / "drawn" / "sample0" / "manifest.json", tmp_path / "again"
    whole, expected = manifest.read_bytes(), (manifest.parent / "train.tsv").read_bytes()
    rng, refused = random.Random("again"), 0
    for _ in range(3 * CASES):
        shutil.rmtree(again, ignore_errors=True)
        what = corrupt(manifest, rng, [manifest.parent / "train.tsv"])
        code, shown, error = run(sample.main, [*named, again, "--from-manifest", manifest], capsys)
        if code == 0:
            assert (again / "train.tsv").read_bytes() == expected, what
        else:
            assert (code, shown, error.count("\n")) == (2, "", 1), (what, error)
            assert not again.exists(), what
            refused += 1
        manifest.unlink()
        manifest.write_bytes(whole)
    assert refused


def test_a_record_of_nonsense(classifier, tiny, text, tmp_path, capsys):
    """Values of the wrong kind in text.json, where the checkpoint itself says nothing."""
    from tests import runs

    folder = shutil.copytree(classifier, tmp_path / "run")
    for path in folder.glob("*.pt"):
        runs.forget_texts(path)
    good = json.loads((folder / "text.json").read_text("utf-8"))
    code, shown, _ = run(predict.main, [folder, "--input", text], capsys)
    assert code == 0
    for key in ("labels", "bpe", "num_inputs", "sha256", "task"):
        for value in (5, "x", [1], {"a": 1}, [], "", None, True):
            (folder / "text.json").write_text(json.dumps({**good, key: value}))
            check(predict.main, [folder, "--input", text], (shown, None), capsys, (key, value))
