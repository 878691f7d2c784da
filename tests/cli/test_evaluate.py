"""scl-evaluate: every number against each row alone, fairseq-validate, scikit-learn and scipy."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from fairseq import checkpoint_utils
from scipy import stats

import scl_fairseq  # noqa: F401 (makes checkpoints loadable)
from scl_fairseq.cli import evaluate
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import TASKS
from tests import runs
from tests.checkpoints.test_loading import RunsCode, needs_refusal

HEAD = "sentence_classification_head"
PROJECTION = f"classification_heads.{HEAD}.out_proj"


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """After 12 epochs and after 6."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = ["--max-epoch", 12, "--lr", "3e-3", "--save-interval", 6, "--disable-validation"]
    train(folder, *options, "--scl-lambda", 0)
    return [folder / "checkpoint_last.pt", folder / "checkpoint6.pt"]


@pytest.fixture(scope="module")
def pairs(tiny, trained, tmp_path_factory):
    """``pairs(task)``: small files of RTE or MNLI, and a classifier of so many classes."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = make_pairs(name, tiny, trained[0], tmp_path_factory.mktemp(name))
        return made[name]

    return make


def make_pairs(name, tiny, checkpoint, folder):
    task, source = TASKS[name], folder / "source"
    source.mkdir()
    words = (tiny.encoder / "vocab.txt").read_text().split()[5:]
    rng = np.random.default_rng(1)
    for split, file in task.files.items():
        is_test = split.startswith("test")
        lines = [
            "\t".join(["index", "sentence1", "sentence2"] + [task.label_column] * (not is_test))
        ]
        for index in range(30):
            sentences = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(2)]
            label = [] if is_test else [task.labels[index % len(task.labels)]]
            lines.append("\t".join([str(index), *sentences, *label]))
        (source / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = Settings("wordpiece", tiny.encoder, 64)
    preprocess(task, source, folder / "data", settings, workers=1)

    def change(state):
        classes = len(task.labels)
        generator = torch.Generator().manual_seed(classes)
        state["cfg"]["task"] |= {"num_classes": classes, "data": "nowhere"}
        state["extra_state"].pop("scl_fairseq")  # it is of other labels now
        state["model"][f"{PROJECTION}.weight"] = torch.randn(classes, 32, generator=generator)
        state["model"][f"{PROJECTION}.bias"] = torch.zeros(classes)

    def balance(state):  # so that every class is predicted for some row
        means = row_by_row(folder / "first.pt", folder / "data", "valid").mean(axis=0)
        state["model"][f"{PROJECTION}.bias"] = -torch.tensor(means).float()

    first = changed(checkpoint, folder / "first.pt", change)
    return changed(first, folder / "model.pt", balance), folder / "data"


def changed(checkpoint, path, change):
    """A copy of a checkpoint in a folder without anything else, for which ``change`` was called."""
    state = torch.load(checkpoint)
    change(state)
    path.parent.mkdir(exist_ok=True, parents=True)
    torch.save(state, path)
    return path


@torch.no_grad()
def row_by_row(checkpoint, data, split):
    """Log-probabilities of every row in a forward pass of its own, in the order of the file."""
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(checkpoint)], {"data": str(data)}
    )
    dataset = task.load_dataset(split)
    rows = []
    for index in range(len(dataset)):
        tokens = dataset[index]["net_input.src_tokens"]
        logits, _ = model.eval()(tokens[None], features_only=True, classification_head_name=HEAD)
        rows.append(torch.log_softmax(logits[0].double(), dim=0).numpy())
    return np.array(rows)


def labels_of(tiny, split):
    """Of the text that was binarised."""
    with open(tiny.sample / f"{split}.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return np.array([int(row["label"]) for row in rows])


def run(*arguments):
    try:
        return evaluate.main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code


def read_tsv(path):
    return [line.split("\t") for line in path.read_text("utf-8").splitlines()]


def test_scores_and_predictions_are_those_of_each_row_alone(trained, tiny, tmp_path, capsys):
    labels = labels_of(tiny, "test")
    found = [row_by_row(path, tiny.data, "test") for path in trained]
    files = ["--predictions", tmp_path / "a" / "p.tsv", "--json", tmp_path / "scores.json"]
    names = ["--name", "CE", "CE+SCL", "--bootstrap", 500, "--seed", 4]
    assert run(*trained, "--data", tiny.data, *names, *files) == 0
    shown = capsys.readouterr().out

    header, *rows = read_tsv(tmp_path / "a" / "p.tsv")
    expected = ["index", "label"]
    for name in ("CE", "CE+SCL"):
        expected += [f"{name}:prediction", f"{name}:0", f"{name}:1"]
    assert header == expected
    columns = np.array(rows).T
    assert columns[0].tolist() == [str(index) for index in range(len(labels))]
    assert columns[1].astype(int).tolist() == labels.tolist()

    record = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    for place, (path, log_probabilities) in enumerate(zip(trained, found, strict=True)):
        predicted = log_probabilities.argmax(axis=1)
        assert columns[2 + 3 * place].astype(int).tolist() == predicted.tolist()
        probabilities = columns[3 + 3 * place : 5 + 3 * place].astype(float).T
        np.testing.assert_allclose(probabilities, np.exp(log_probabilities), atol=1e-5)
        of = record["checkpoints"][place]
        assert of["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        scores = of["scores"]
        accuracy = 100 * sklearn.metrics.accuracy_score(labels, predicted)
        assert scores["accuracy"] == pytest.approx(accuracy)
        f1 = sklearn.metrics.f1_score(labels, predicted, zero_division=0)
        assert scores["f1"] == pytest.approx(100 * f1)
        mcc = sklearn.metrics.matthews_corrcoef(labels, predicted)
        assert scores["mcc"] == pytest.approx(mcc, abs=1e-9)
        loss = sklearn.metrics.log_loss(labels, np.exp(log_probabilities))
        assert scores["negative_log_likelihood"] == pytest.approx(loss, abs=1e-5)
        confusion = sklearn.metrics.confusion_matrix(labels, predicted, labels=[0, 1])
        assert scores["confusion"] == confusion.tolist()
        for number in (f"{accuracy:.2f}", f"{100 * f1:.2f}", f"{mcc:.4f}"):
            assert f" {number} |" in shown
        for label, row in enumerate(confusion):
            assert shown.count(f"| {label} ") >= 2
            assert all(f" {count} |" in shown for count in row)

    first, second = (np.argmax(one, axis=1) == labels for one in found)
    against = record["checkpoints"][1]["against_first"]
    assert record["checkpoints"][0]["against_first"] is None
    difference = 100 * (second.mean() - first.mean())
    assert against["difference"] == pytest.approx(difference)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    assert (only_first, only_second) != (0, 0)
    mcnemar = against["mcnemar"]
    assert (mcnemar["only_first"], mcnemar["only_second"]) == (only_first, only_second)
    if only_first + only_second < 25:
        p = stats.binomtest(only_first, only_first + only_second).pvalue
        assert mcnemar["p"] == pytest.approx(p)
        assert "exact binomial" in shown
    assert f"{difference:+.2f} |" in shown
    assert record["settings"]["bootstrap"] == 500
    assert record["settings"]["seed"] == 4
    assert record["versions"]["numpy"] == np.__version__
    assert "15 bins of equal width" in shown
    assert "500 resamples of the examples, seed 4" in shown
    assert "F1 of 1 (%)" in shown


def test_accuracy_is_fairseq_validates(trained, tiny, tmp_path):
    command = [Path(sys.executable).parent / "fairseq-validate", tiny.data, "--path", trained[0]]
    command += ["--user-dir", runs.ROOT / "scl_fairseq", "--task", "sentence_prediction", "--cpu"]
    command += ["--criterion", "sentence_prediction", "--num-classes", 2, "--init-token", 0]
    command += ["--valid-subset", "test", "--batch-size", 7, "--log-format", "simple"]
    command += ["--required-batch-size-multiple", 1]  # otherwise the last five rows are left out
    done = runs.train(list(map(str, command)))
    assert run(trained[0], "--data", tiny.data, "--json", tmp_path / "s.json") == 0
    scores = json.loads((tmp_path / "s.json").read_text())["checkpoints"][0]["scores"]
    assert round(scores["accuracy"], 1) == runs.logged(done.stdout, "accuracy")[-1]
    assert 0 < scores["accuracy"] < 100


def test_a_checkpoint_does_not_differ_from_itself(trained, tiny, tmp_path):
    options = ["--data", tiny.data, "--name", "one", "same", "--json", tmp_path / "s.json"]
    assert run(trained[0], trained[0], *options) == 0
    against = json.loads((tmp_path / "s.json").read_text())["checkpoints"][1]["against_first"]
    assert (against["difference"], against["interval"], against["p"]) == (0, [0, 0], 1)
    assert against["mcnemar"]["p"] == 1


@pytest.mark.parametrize("task", ["RTE", "MNLI"])
def test_submission_of_an_unlabelled_test_set(task, pairs, tmp_path, capsys):
    checkpoint, data = pairs(task)
    assert not (data / "label" / "test.idx").exists()
    splits = {"test": "RTE.tsv"}
    if task == "MNLI":
        splits = {"test": "MNLI-m.tsv", "test1": "MNLI-mm.tsv"}
    for split, file in splits.items():
        files = ["--glue-submission", tmp_path / "glue", "--predictions", tmp_path / "p.tsv"]
        options = ["--data", data, "--split", split, "--task", task]
        assert run(checkpoint, *options, *files) == 0
        found = row_by_row(checkpoint, data, split).argmax(axis=1)
        assert len(set(found)) > 1
        names = TASKS[task].labels
        expected = [["index", "prediction"]]
        expected += [[str(index), names[label]] for index, label in enumerate(found)]
        assert read_tsv(tmp_path / "glue" / file) == expected
        header, *rows = read_tsv(tmp_path / "p.tsv")
        assert header[:2] == ["index", f"{checkpoint.parent.name}/model.pt:prediction"]
        assert len(header) == 2 + len(names)
        assert [row[:2] for row in rows] == expected[1:]
        shown = capsys.readouterr().out
        assert f"{split} has no labels, so there are no scores" in shown
        assert "accuracy" not in shown
        assert f"note: {file} has 30 rows" in shown
    assert {path.name for path in (tmp_path / "glue").iterdir()} == set(splits.values())


def test_labels_are_not_looked_at_for_a_submission(pairs, tmp_path, capsys):
    checkpoint, data = pairs("MNLI")
    copy = shutil.copytree(data, tmp_path / "copy")
    for end in ("idx", "bin"):
        (copy / "label" / f"valid.{end}").unlink()
    for folder in (data, copy):
        out = ["--glue-submission", tmp_path / folder.name, "--task", "MNLI"]
        assert run(checkpoint, "--data", folder, "--split", "valid", *out) == 0
    first, second = (tmp_path / name / "MNLI-m.tsv" for name in ("data", "copy"))
    assert first.read_bytes() == second.read_bytes()
    assert "macro F1 (%)" in capsys.readouterr().out


def test_scores_of_three_classes(pairs, tmp_path):
    checkpoint, data = pairs("MNLI")
    options = ["--data", data, "--split", "valid", "--json", tmp_path / "s.json"]
    assert run(checkpoint, *options) == 0
    scores = json.loads((tmp_path / "s.json").read_text())["checkpoints"][0]["scores"]
    labels = [index % 3 for index in range(30)]
    predicted = row_by_row(checkpoint, data, "valid").argmax(axis=1)
    f1 = sklearn.metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    assert scores["f1"] == pytest.approx(100 * f1)
    confusion = sklearn.metrics.confusion_matrix(labels, predicted, labels=[0, 1, 2])
    assert scores["confusion"] == confusion.tolist()


def test_it_says_the_scores_and_no_more(trained, tiny):
    """Not in this process, whose logging is pytest's."""
    # The second is an older file, of which fairseq's libraries have much to say.
    code = (
        "import sys; from scl_fairseq.cli.evaluate import main\n"
        "for path in sys.argv[2:]: print(main(['--data', sys.argv[1], '--device', 'cpu', path]))"
    )
    command = [sys.executable, "-c", code, tiny.data, trained[0], tiny.encoder / "model.pt"]
    done = subprocess.run(
        list(map(str, command)), cwd=runs.ROOT, capture_output=True, text=True, check=True
    )
    first, *lines = done.stdout.splitlines()
    assert first == f"{tiny.data}, test: 40 examples"
    assert lines[1].strip("| ").split() == ["run/checkpoint_last.pt"]
    assert lines[-2:] == ["0", "2"]
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "is not of a classifier" in done.stderr


def refused(capsys, *arguments):
    """The one line that a refused command leaves."""
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 1, output.err
    assert output.out == ""
    return output.err


SUBMISSION = ["--glue-submission", "OUT", "--task"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere.pt", "--data", "DATA"], "nowhere.pt: no such checkpoint"),
        (["CE", "--data", "nowhere"], "nowhere is no folder"),
        (["CE", "--data", "DATA", "--split", "test1"], "test1.idx is missing"),
        (["CE", "--data", "DATA", "--name", "a", "b"], "2 --name for 1 checkpoints"),
        (["CE", "CE", "--data", "DATA"], "tell them apart with --name"),
        (["CE", "--data", "DATA", "--name", "a\tb"], r"--name 'a\tb' cannot be a heading"),
        (["CE", "--data", "DATA", "--device", "abacus"], "--device abacus: there is no such dev"),
        (["CE", "--data", "DATA", "--bootstrap", "0"], "expected a whole number from 1 on"),
        (["TEXT", "--data", "DATA"], "text.pt cannot be read"),
        (["FOREIGN", "--data", "DATA"], "foreign.pt is no fairseq checkpoint"),
        (["ENCODER", "--data", "DATA"], "model.pt is not of a classifier"),
        (["CE", "--data", "MNLI"], "tells 2 classes apart, but "),
        (["CE", "--data", "DATA", *SUBMISSION, "SST-3"], "--task 'SST-3', expected one of GLUE"),
        (["CE", "--data", "DATA", *SUBMISSION, "RTE"], "those of RTE are entailment, not_entail"),
        (["CE", "--data", "DATA", "--glue-submission", "OUT"], "--task go together"),
        (["CE", "--data", "DATA", "--task", "SST-2"], "--task go together"),
        (["CE", "SCL", "--data", "DATA", *SUBMISSION, "SST-2"], "takes one checkpoint"),
        (
            ["CE", "--data", "MNLI", "--split", "test", "--json", "OUT"],
            "test has no labels to score against",
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input(options, message, trained, tiny, pairs, tmp_path, capsys):
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "foreign.pt")
    places = {
        "CE": trained[0],
        "SCL": trained[1],
        "DATA": tiny.data,
        "MNLI": pairs("MNLI")[1],
        "OUT": tmp_path / "out",
        "TEXT": tmp_path / "text.pt",
        "FOREIGN": tmp_path / "foreign.pt",
        "ENCODER": tiny.encoder / "model.pt",
    }
    if "tells 2" in message:
        options = [*options, "--split", "valid"]
    assert message in refused(capsys, *(places.get(option, option) for option in options))
    assert not (tmp_path / "out").exists()


@needs_refusal
def test_a_hostile_checkpoint_is_not_run(trained, tiny, tmp_path, capsys):
    made = tmp_path / "made"
    path = changed(
        trained[0],
        tmp_path / "hostile.pt",
        lambda state: state.update(hostile=RunsCode(str(made))),
    )
    error = refused(capsys, path, "--data", tiny.data)
    assert "hostile.pt refers to " in error
    assert "mkdir, which is not among the globals" in error
    assert not made.exists()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_checkpoint(share, trained, tiny, tmp_path, capsys):
    whole = trained[0].read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(share * len(whole))])
    assert "cut.pt is truncated" in refused(capsys, tmp_path / "cut.pt", "--data", tiny.data)


def without_head(state):
    for name in [name for name in state["model"] if name.startswith("classification_heads")]:
        del state["model"][name]


def of_another_architecture(state):
    state["cfg"]["model"]._name = "transformer_lm"


CHANGED = {
    "no head": (without_head, "is not of a classifier"),
    "architecture": (of_another_architecture, "does not load with"),
    "head of another size": (
        lambda state: state["cfg"]["task"].update(num_classes=3),
        "its classification head does not fit its configuration",
    ),
    "regression": (
        lambda state: state["cfg"]["task"].update(regression_target=True),
        "is of a regression: it has no classes",
    ),
    "diverged": (
        lambda state: state["model"][f"{PROJECTION}.bias"].fill_(float("nan")),
        f"{PROJECTION}.bias holds NaN",
    ),
}


@pytest.mark.parametrize("case", list(CHANGED))
def test_checkpoints_of_something_else(case, trained, tiny, tmp_path, capsys):
    change, message = CHANGED[case]
    path = changed(trained[0], tmp_path / "other.pt", change)
    error = refused(capsys, path, "--data", tiny.data)
    assert "other.pt" in error
    assert message in error


def test_another_number_of_tokens(trained, tiny, tmp_path, capsys):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    with open(data / "input0" / "dict.txt", "a") as file:
        file.write("more 1\n")
    error = refused(capsys, trained[0], "--data", data)
    assert "does not load with" in error
    assert "has embeddings of" in error


@pytest.mark.parametrize("part", ["label", "input0"])
@pytest.mark.parametrize("is_beside", [False, True])
def test_the_same_words_in_another_order(part, is_beside, trained, tiny, tmp_path, capsys):
    """Both checkpoints are compared with the data, so they cannot differ from each other."""
    lines = (tiny.data / part / "dict.txt").read_text().splitlines()
    other = "\n".join(lines[::-1]) + "\n"
    data = shutil.copytree(tiny.data, tmp_path / "data")
    path = trained[1]
    if is_beside:  # which only a checkpoint of an earlier version needs
        path = changed(trained[1], tmp_path / "run" / "model.pt", lambda state: None)
        runs.forget_texts(path)
        (tmp_path / "run" / part).mkdir()
        (tmp_path / "run" / part / "dict.txt").write_text(other)
    else:
        (data / part / "dict.txt").write_text(other)
    error = refused(capsys, path, trained[0], "--data", data, "--name", "a", "b")
    assert " was trained with: it" in error
    assert ("it has the labels" if part == "label" else "its symbols are others") in error


def test_labels_that_the_dictionary_lacks(trained, tiny, tmp_path, capsys):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    path = data / "label" / "test.bin"
    stored = np.fromfile(path, np.uint16)
    stored[0] = 3  # <unk>
    stored.tofile(path)
    assert "test has labels that are none of 0, 1" in refused(capsys, trained[0], "--data", data)


def test_a_row_longer_than_the_models_positions(trained, tiny, monkeypatch, capsys):
    from fairseq.models.roberta import RobertaModel

    monkeypatch.setattr(RobertaModel, "max_positions", lambda self: 3)
    error = refused(capsys, trained[0], "--data", tiny.data)
    assert "more than the 3 positions of" in error
