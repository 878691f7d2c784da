"""scl-plot: each kind of figure, the same bytes again, and one line for bad input."""

import importlib.util
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

import scl_fairseq
from scl_fairseq.cli import plot
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS
from tests import runs
from tests.experiments import example_results as example


@pytest.fixture(scope="module")
def few_shot(tmp_path_factory):
    lines = example.few_shot(tasks=("QNLI", "SST-2"), sizes=(20, 100), samples=3, epochs=4)
    return example.write(tmp_path_factory.mktemp("few-shot"), lines, published="few-shot")


@pytest.fixture(scope="module")
def batch_sizes(tmp_path_factory):
    lines = example.batch_sizes(tasks=("SST-2",), seeds=2)
    return example.write(tmp_path_factory.mktemp("batch-sizes"), lines)


@pytest.fixture(scope="module")
def checkpoints(train, tmp_path_factory):
    """Of CE+SCL and of CE, in this order."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = []
    for name, weight in (("scl", 0.9), ("ce", 0)):
        train(folder / name, "--scl-lambda", weight, "--max-epoch", 1, "--no-epoch-checkpoints")
        paths.append(folder / name / "checkpoint_last.pt")
    return paths


def run(*arguments):
    try:
        return plot.main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code


def texts(path):
    root = ElementTree.parse(path).getroot()
    found = root.iter("{http://www.w3.org/2000/svg}text")
    return " ".join(" ".join("".join(one.itertext()) for one in found).split())


KINDS = {
    "heatmap": (["--task", "SST-2", "--num-examples", 20], ["SST-2, N = 20", "CE: ", "τ", "λ"]),
    "curves": (
        ["--task", "qnli", "--num-examples", 100],
        ["QNLI, N = 100", "epoch", "CE+SCL (λ ="],
    ),
    "accuracy": ([], ["SST-2", "QNLI", "CE, published", "CE+SCL, published", "test accuracy (%)"]),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_figures_of_a_sweep(kind, few_shot, tmp_path, capsys):
    options, expected = KINDS[kind]
    for name in ("first", "second"):
        out = ["--out", tmp_path / name, "--format", "png", "svg"]
        assert run(kind, few_shot, *options, *out) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"wrote {tmp_path / 'first.png'}"
    for ending in ("png", "svg"):
        first, second = (tmp_path / f"{name}.{ending}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    for text in expected:
        assert text in texts(tmp_path / "first.svg")
    with Image.open(tmp_path / "first.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20


def test_batch_size(batch_sizes, tmp_path):
    out = ["--out", tmp_path / "a.svg", "--out", tmp_path / "new" / "b.png"]
    assert run("batch-size", batch_sizes, *out) == 0
    shown = texts(tmp_path / "a.svg")
    assert "updates per second" in shown
    assert "published" not in shown  # no config.yaml names the table
    assert (tmp_path / "new" / "b.png").exists()
    assert run("batch-size", batch_sizes, "--published", "--out", tmp_path / "a.svg") == 0
    assert "CE+SCL, published" in texts(tmp_path / "a.svg")


def test_published_numbers_can_be_left_out(few_shot, tmp_path):
    assert run("accuracy", few_shot, "--no-published", "--out", tmp_path / "a.svg") == 0
    assert "published" not in texts(tmp_path / "a.svg")


def test_a_title_of_ones_own(few_shot, tmp_path):
    given = ["--title", "My title", "--where", "N=20", "--task", "SST-2", "--metric", "test"]
    assert run("heatmap", few_shot, *given, "--out", tmp_path / "a.svg") == 0
    shown = texts(tmp_path / "a.svg")
    assert "My title" in shown
    assert "Mean test accuracy" not in shown
    assert "mean test accuracy (%)" in shown
    assert "must not be chosen by test accuracy" in shown


def test_results_of_several_folders_are_put_together(tmp_path):
    folders = [
        example.write(
            tmp_path / str(size), example.few_shot(("SST-2",), (size,), 1, (0,), epochs=2)
        )
        for size in (20, 100)
    ]
    assert run("accuracy", *folders, "--out", tmp_path / "a.svg") == 0
    assert "20 100 labelled training examples N" in texts(tmp_path / "a.svg")


def test_tsne_of_checkpoints_keeps_the_embeddings_of_the_hub(checkpoints, tiny, tmp_path):
    task = TASKS["SST-2"]
    for name in ("first", "second"):
        options = ["--data", tiny.data, "--embeddings-out", tmp_path / f"{name}.npz"]
        out = ["--out", tmp_path / f"{name}.svg", "--out", tmp_path / f"{name}.png"]
        assert run("tsne", *checkpoints, *options, *out) == 0
    for ending in ("png", "svg", "npz"):
        first, second = (tmp_path / f"{name}.{ending}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()

    kept = np.load(tmp_path / "first.npz")
    rows = read_rows(task, tiny.sample / "test.tsv")
    assert kept["labels"].tolist() == [task.labels.index(row.label) for row in rows]
    assert kept["class_names"].tolist() == ["negative", "positive"]
    sentences = [row.sentences for row in rows]
    names = ["CE, accuracy ", "CE+SCL (λ = 0.9, τ = 0.3), accuracy "]
    for i, checkpoint in enumerate(reversed(checkpoints)):  # CE comes first, whatever the order
        model = scl_fairseq.load(checkpoint)
        np.testing.assert_allclose(
            kept[f"embeddings_{i}"], model.embed(sentences).numpy(), rtol=1e-4, atol=1e-5
        )
        probabilities = model.predict(sentences).probabilities
        right = probabilities.argmax(dim=1).numpy() == kept["labels"]
        assert kept["panels"][i] == f"{names[i]}{100 * right.mean():.1f} %"
        assert kept["panels"][i] in texts(tmp_path / "first.svg")
    assert not np.allclose(kept["embeddings_0"], kept["embeddings_1"], atol=1e-2)
    assert "CLS embeddings of SST-2 test examples" in texts(tmp_path / "first.svg")


def test_tsne_options(checkpoints, tiny, tmp_path):
    options = ["--data", tiny.data, "--split", "valid", "--perplexity", 5, "--seed", 3]
    names = ["--names", "with", "without", "--class-names", "bad", "good", "--title", "Mine"]
    assert run("tsne", *checkpoints, *options, *names, "--out", tmp_path / "a.svg") == 0
    shown = texts(tmp_path / "a.svg")
    assert shown.index("without") < shown.index("with ")
    for text in ("Mine", "bad", "good", "perplexity 5,", "noise of seed 3."):
        assert text in shown


def test_tsne_says_what_it_wrote_and_no_more(checkpoints, tiny, tmp_path):
    """Not in this process, whose logging is pytest's."""
    command = [sys.executable, "-W", "ignore", "-m", "scl_fairseq.cli.plot", "tsne", *checkpoints]
    command += ["--data", tiny.data, "--out", tmp_path / "a.png"]
    done = subprocess.run(
        list(map(str, command)), cwd=runs.ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"wrote {tmp_path / 'a.png'}\n", "")


def test_the_same_checkpoint_twice_is_told_apart_by_names(checkpoints, tiny, tmp_path, capsys):
    command = ["tsne", checkpoints[0], checkpoints[0], "--data", tiny.data]
    assert run(*command, "--out", tmp_path / "a.svg") == 2
    assert "tell them apart with --names" in capsys.readouterr().err


def test_checkpoints_of_the_same_loss_are_told_apart_by_their_files(train, tiny, tmp_path):
    for seed in (1, 2):
        train(tmp_path / str(seed), "--lr", 1e-5, "--max-update", 1, "--seed", seed)
    two = [tmp_path / str(seed) / "checkpoint_last.pt" for seed in (1, 2)]
    kept = tmp_path / "a.npz"
    out = ["--out", tmp_path / "a.svg", "--embeddings-out", kept]
    assert run("tsne", *two, "--data", tiny.data, *out) == 0
    losses, places = zip(*(title.splitlines() for title in np.load(kept)["panels"]), strict=True)
    assert all(loss.startswith("CE+SCL (λ = 0.9, τ = 0.3), accuracy ") for loss in losses)
    assert places == ("1/checkpoint_last.pt", "2/checkpoint_last.pt")


def refused(capsys, *arguments):
    """The one line that a refused command leaves."""
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1, error
    return error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["heatmap", "RESULTS", "--task", "RTE"], "no such results; there are QNLI, N = 20; QNLI"),
        (
            ["heatmap", "RESULTS", "--task", "SST-2"],
            "there are several: SST-2, N = 20; SST-2, N = 1",
        ),
        (["heatmap", "RESULTS", "--num-examples", "full"], "no such results"),
        (["curves", "RESULTS", "--where", "N"], "'N', expected KEY=VALUE"),
        (["curves", "nowhere"], "nowhere"),
        (["accuracy", "BATCH"], "do not differ in N"),
        (["batch-size", "RESULTS"], "do not differ in batch-size"),
        (["batch-size", "EMPTY"], "no finished trial in"),
        (["heatmap", "BATCH", "--metric", "train"], "invalid choice"),
        (["tsne", "nowhere.pt", "--data", "DATA"], "nowhere.pt: no such checkpoint"),
        (["tsne", "SCL", "--data", "nowhere"], "nowhere is no folder"),
        (["tsne", "SCL", "--data", "DATA", "--split", "test1"], "test1.idx is missing"),
        (["tsne", "SCL", "--data", "DATA", "--names", "a", "b"], "2 --names for 1 checkpoints"),
        (["tsne", "SCL", "--data", "DATA", "--class-names", "a"], "1 --class-names for 2 classes"),
        (["tsne", "SCL", "--data", "DATA", "--perplexity", "0"], "--perplexity 0: expected more"),
        (["tsne", "SCL", "--data", "DATA", "--embeddings-out", "a.npy"], "ends with .npz"),
        (["tsne", "TEXT", "--data", "DATA"], "text.pt cannot be read"),
        (["tsne", "ENCODER", "--data", "DATA"], "is not of a classifier"),
        (["pie", "RESULTS"], "invalid choice: 'pie'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input(options, message, few_shot, batch_sizes, checkpoints, tiny, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "results.jsonl").write_text("")
    (tmp_path / "text.pt").write_text("no checkpoint")
    places = {
        "RESULTS": few_shot,
        "BATCH": batch_sizes,
        "EMPTY": tmp_path / "empty",
        "SCL": checkpoints[0],
        "DATA": tiny.data,
        "TEXT": tmp_path / "text.pt",
        "ENCODER": tiny.encoder / "model.pt",
    }
    options = [places.get(option, option) for option in options]
    error = refused(capsys, *options, "--out", tmp_path / "out" / "a.png")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_data_of_another_vocabulary(checkpoints, tiny, tmp_path, capsys):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    dictionary = data / "input0" / "dict.txt"
    dictionary.write_text(dictionary.read_text() + "more 1\n")
    error = refused(capsys, "tsne", checkpoints[0], "--data", data, "--out", tmp_path / "a.png")
    assert "does not load with" in error


@pytest.mark.parametrize("out", ["a.pdf", "a"])
def test_other_formats(out, few_shot, tmp_path, capsys):
    error = refused(capsys, "accuracy", few_shot, "--out", tmp_path / out)
    assert "ends with .png or .svg" in error


@pytest.mark.parametrize(
    ("module", "kind", "package"),
    [
        ("matplotlib", "accuracy", "matplotlib"),
        ("matplotlib", "tsne", "matplotlib"),
        ("sklearn", "tsne", "scikit-learn"),
    ],
)
def test_a_missing_library_is_named(module, kind, package, few_shot, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    more = ["--data", tmp_path] if kind == "tsne" else []
    error = refused(capsys, kind, few_shot, *more, "--out", tmp_path / "a.png")
    advice = 'pip install ".[plot]" in a clone of scl-fairseq'
    assert error == f"scl-plot: error: {package} is missing: {advice}\n"


@pytest.mark.parametrize("kind", [None, *plot.EXAMPLES])
def test_help_is_quick_and_has_an_example(kind):
    arguments = [kind, "--help"] if kind else ["--help"]
    code = (
        f"import sys\nfrom scl_fairseq.cli.plot import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'fairseq', 'numpy', 'matplotlib', 'sklearn', 'yaml'}\n"
        "print('heavy:', heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=runs.ROOT
    )
    assert done.stdout.strip().endswith("heavy: set()")
    for name in [kind] if kind else plot.EXAMPLES:
        assert f"example:\n  {plot.EXAMPLES[name]}" in done.stdout or not kind
        assert plot.EXAMPLES[name] in done.stdout


def test_sklearn_is_not_needed_for_results(few_shot, tmp_path, monkeypatch):
    assert importlib.util.find_spec("sklearn")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert run("accuracy", few_shot, "--out", tmp_path / "a.png") == 0
