"""``SCLClassifier`` by scikit-learn's conventions, on texts of any kind and labels of any type."""

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import scl_fairseq
from scl_fairseq import SCLClassifier
from scl_fairseq.cli import predict
from tests import runs


@pytest.fixture(scope="module")
def rows(tiny):
    lines = (tiny.sample / "train.tsv").read_text("utf-8").splitlines()[1:49]
    cells = [line.split("\t") for line in lines]
    return [text for _, _, text in cells], [{"0": "bad", "1": "good"}[one] for _, one, _ in cells]


@pytest.fixture(scope="module")
def settings(tiny):
    return {"encoder": str(tiny.encoder), "max_epoch": 2, "batch_size": 8, "lr": 1e-3, "threads": 1}


@pytest.fixture(scope="module")
def fitted(settings, rows):
    seen = []
    model = SCLClassifier(**settings, callbacks=[seen.append]).fit(*rows)
    return model, seen


@pytest.fixture
def own_temporary(tmp_path, monkeypatch):
    """A place for temporary files that is to be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_parameters_are_got_set_and_cloned(settings):
    model = SCLClassifier(**settings, loss="ce")
    assert model.get_params()["lr"] == 1e-3
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(lr=2e-3, scl_lambda=0.5).lr == 2e-3
    with pytest.raises(ValueError, match="Invalid parameter 'rate'"):
        model.set_params(rate=1)


def test_before_fit_it_says_so(settings, tmp_path):
    model = SCLClassifier(**settings)
    calls = (model.predict, model.predict_proba, model.transform)
    for call in calls:
        with pytest.raises(NotFittedError):
            call(["a film"])
    with pytest.raises(NotFittedError):
        model.save(tmp_path / "model")


def test_labels_probabilities_vectors_and_score(fitted, rows):
    model, _ = fitted
    texts, labels = rows
    assert model.classes_.tolist() == ["bad", "good"]
    probabilities = model.predict_proba(texts)
    assert probabilities.shape == (48, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    found = model.predict(texts)
    assert found.tolist() == [["bad", "good"][place] for place in probabilities.argmax(axis=1)]
    right = sum(one == other for one, other in zip(found, labels, strict=True))
    assert model.score(texts, labels) == pytest.approx(right / 48)
    vectors = model.transform(texts)
    assert vectors.shape == (48, model.n_features_out_) == (48, 32)
    assert len(model.get_feature_names_out()) == 32
    assert model.predict([]).tolist() == []


def test_it_is_what_scl_train_makes(fitted, rows, settings, tmp_path):
    from tests.training.commands import scl_train, write_csv

    texts, labels = rows
    path = write_csv(tmp_path / "t.csv", zip(texts, labels, strict=True), ["text", "label"])
    done = scl_train(
        path, "--text", "text", "--label", "label", "--out", tmp_path / "model",
        "--encoder", settings["encoder"], "--max-epoch", 2, "--batch-size", 8, "--lr", 1e-3,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    fitted[0].save(tmp_path / "saved")
    names = [tmp_path / folder / "checkpoint_best.pt" for folder in ("model", "saved")]
    runs.assert_same_weights(*names)
    loaded = SCLClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(texts), fitted[0].predict_proba(texts))


def test_callbacks_are_told_of_updates_and_validations(fitted):
    model, seen = fitted
    assert [one.updates for one in seen if one.scores is None][-1] == seen[-1].total
    accuracies = [one.scores["accuracy"] for one in seen if one.scores]
    assert model.dev_accuracy_ == max(accuracies)


def test_pickle_save_and_load_say_the_same(fitted, rows, tmp_path, capsys):
    model, _ = fitted
    texts, _ = rows
    expected = model.predict_proba(texts)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(texts), expected)
    model.save(tmp_path / "saved")
    loaded = SCLClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(texts), expected)
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.get_params() == {**model.get_params(), "callbacks": ()}
    hub = scl_fairseq.load(tmp_path / "saved", device="cpu")
    np.testing.assert_array_equal(hub.predict(texts).probabilities, expected)
    (tmp_path / "in.txt").write_text(f"{texts[0]}\n", "utf-8")
    own = [str(tmp_path / "saved"), "--input", str(tmp_path / "in.txt"), "--device", "cpu"]
    assert predict.main(own) == 0
    assert capsys.readouterr().out.splitlines()[1].split("\t")[0] == model.predict(texts[:1])[0]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    with pytest.raises(ValueError, match="holds something else"):
        model.save(tmp_path / "mine")


def test_it_leaves_no_files(settings, rows, own_temporary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = SCLClassifier(**settings).fit(*rows)
    pickle.loads(pickle.dumps(model)).predict(rows[0][:2])
    assert not list(own_temporary.iterdir())

    def interrupt(progress):
        if progress.updates == 3:
            assert list(own_temporary.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SCLClassifier(**settings, callbacks=[interrupt]).fit(*rows)
    assert not list(own_temporary.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    # What was interrupted leaves nothing behind in the process either.
    again = SCLClassifier(**settings).fit(*rows)
    np.testing.assert_array_equal(again.predict_proba(rows[0]), model.predict_proba(rows[0]))


KINDS = {
    "numpy": lambda texts, labels: (np.array(texts), np.array(labels)),
    "objects": lambda texts, labels: (np.array(texts, dtype=object), np.array(labels, object)),
    "pandas": lambda texts, labels: (
        pd.Series(texts, index=range(7, 7 + len(texts))),
        pd.Series(labels, dtype="category"),
    ),
    "a table": lambda texts, labels: (pd.DataFrame({"text": texts}), pd.Series(labels)),
    "a generator": lambda texts, labels: ((text for text in texts), tuple(labels)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_labels_of_any_kind(settings, rows, fitted, kind):
    found = SCLClassifier(**settings).fit(*KINDS[kind](*rows))
    expected = fitted[0].predict_proba(rows[0])
    np.testing.assert_array_equal(found.predict_proba(rows[0]), expected)
    assert found.predict(rows[0]).tolist() == fitted[0].predict(rows[0]).tolist()


def test_a_column_of_a_data_set(settings, rows, fitted):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": rows[0], "label": rows[1]})
    found = SCLClassifier(**settings).fit(data["text"], data["label"])
    expected = fitted[0].predict_proba(rows[0])
    np.testing.assert_array_equal(found.predict_proba(data["text"]), expected)


LABELS = {
    "numbers": [7, -3],
    "booleans": [True, False],
    "floats": [0.5, 2.0],
    "words and spaces": ["not good", "très bon, 良い"],
    "what fairseq cannot hold": ["<a>", " b "],
    "of two types": [1, "1"],
    "tuples": [(1, "a"), (2, "b")],
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_came(settings, rows, kind, tmp_path):
    texts, labels = rows
    first, second = LABELS[kind]
    own = [first if label == "good" else second for label in labels]
    model = SCLClassifier(**{**settings, "max_epoch": 1}).fit(texts, own)
    found = model.predict(texts).tolist()
    assert set(found) <= {first, second}
    assert {type(one) for one in found} <= {type(first), type(second)}
    assert sorted(map(repr, model.classes_.tolist())) == sorted(map(repr, {first, second}))
    if kind == "tuples":
        with pytest.raises(ValueError, match="pickle keeps it"):
            model.save(tmp_path / "model")
        return
    model.save(tmp_path / "model")
    loaded = SCLClassifier.load(tmp_path / "model")
    assert loaded.predict(texts).tolist() == found


def test_pairs(settings, rows, tmp_path):
    texts, labels = rows
    pairs = list(zip(texts, reversed(texts), strict=True))
    short = {**settings, "max_epoch": 1}
    model = SCLClassifier(**short).fit(pairs, labels)
    expected = model.predict_proba(pairs)
    for other in (np.array(pairs), pd.DataFrame(pairs), [list(pair) for pair in pairs]):
        np.testing.assert_array_equal(model.predict_proba(other), expected)
    with pytest.raises(ValueError, match=r"texts\[0\]: 1 texts, and 2 in the training"):
        model.predict(texts)


WRONG = {
    "one text": ("a film", ["a"], "expected a list of texts, not one str"),
    "a missing text": ([None, "b"], ["a", "b"], r"texts\[0\]: no text \(None\); fill it"),
    "NaN": (["a", float("nan")], ["a", "b"], r"texts\[1\]: no text \(nan\)"),
    "pandas' NA": (pd.Series(["a", pd.NA]), ["a", "b"], r"texts\[1\]: no text \((<NA>|nan)\)"),
    "an empty text": (["a", " \n"], ["a", "b"], r"texts\[1\]: an empty text"),
    "a number": (["a", 3], ["a", "b"], r"texts\[1\]: int, expected a text"),
    "half a pair": ([("a", "b"), ("a",)], ["a", "b"], r"texts\[1\]: 1 texts, and 2 in the first"),
    "a missing half": ([("a", "b"), ("a", None)], ["a", "b"], r"texts\[1\]: no text"),
    "a triple": ([("a", "b", "c")], ["a"], r"texts\[0\]: tuple, expected a text, or two"),
    "a surrogate": (["a", "\ud800"], ["a", "b"], r"texts\[1\]: a NUL, or half of a surrogate"),
    "no label": (["a", "b"], ["a", None], r"labels\[1\]: no label \(None\)"),
    "NaN as label": (["a", "b"], [1.0, float("nan")], r"labels\[1\]: no label \(nan\)"),
    "an empty label": (["a", "b"], ["a", ""], r"labels\[1\]: no label \(''\)"),
    "too few labels": (["a", "b"], ["a"], "2 texts and 1 labels"),
    "a table of labels": (["a", "b"], np.zeros((2, 2)), r"labels: expected one label a text"),
    "one class": (["a", "b"], ["a", "a"], "one class alone"),
    "one of a class": (["a", "b", "c"], ["x", "x", "y"], r"one example of the class 'y'"),
    "nothing": ([], [], "no texts"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_with_its_row(settings, kind):
    texts, labels, message = WRONG[kind]
    with pytest.raises((ValueError, TypeError), match=message):
        SCLClassifier(**settings).fit(texts, labels)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss", "scl", "loss 'scl', expected one of ce, ce"),
        ("device", "tpu", "device 'tpu', expected"),
        ("encoder", "no-such", "--encoder no-such: no such file or folder"),
        ("max_epoch", 0, "--max-epoch 0: expected 1 or more"),
        ("lr", "fast", "fairseq-train refuses it"),
        ("further_options", ["--arch", "roberta_large"], "contradicts roberta"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(settings, rows, name, value, message):
    with pytest.raises((ValueError, OSError), match=message):
        SCLClassifier(**{**settings, name: value}).fit(*rows)


def test_other_examples_can_choose_the_epoch(settings, rows):
    texts, labels = rows
    model = SCLClassifier(**{**settings, "max_epoch": 1})
    model.fit(texts[:32], labels[:32], validation_data=(texts[32:], labels[32:]))
    right = model.score(texts[32:], labels[32:])
    assert model.dev_accuracy_ == pytest.approx(100 * right, abs=0.051)
    with pytest.raises(ValueError, match=r"labels\[0\]: 'odd' is none of the classes"):
        model.fit(texts, labels, validation_data=(["a"], ["odd"]))


def test_refitting_forgets_what_was_before(settings, rows, fitted):
    texts, labels = rows
    model = SCLClassifier(**{**settings, "max_epoch": 1})
    model.fit(texts, [one == "good" for one in labels])
    assert model.classes_.tolist() == [False, True]
    model.set_params(max_epoch=2).fit(texts, labels)
    np.testing.assert_array_equal(model.predict_proba(texts), fitted[0].predict_proba(texts))


def test_cross_validation_grid_and_pipeline(settings, rows):
    texts, labels = rows[0][:24], rows[1][:24]
    short = {**settings, "max_epoch": 1}
    scores = cross_val_score(SCLClassifier(**short), texts, labels, cv=2)
    assert scores.shape == (2,)
    search = GridSearchCV(SCLClassifier(**short), {"loss": ["ce", "ce+scl"]}, cv=2, refit=False)
    search.fit(texts, labels)
    assert set(search.best_params_) == {"loss"}
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, SCLClassifier(**short)).fit(texts, labels)
    assert set(pipeline.predict(texts)) <= {"bad", "good"}
    on_top = make_pipeline(SCLClassifier(**short), LogisticRegression()).fit(texts, labels)
    assert on_top.score(texts, labels) > 0.5


def test_two_processes_at_once(settings, rows):
    texts, labels = rows[0][:24], rows[1][:24]
    model = SCLClassifier(**{**settings, "max_epoch": 1})
    side_by_side = cross_val_score(model, texts, labels, cv=2, n_jobs=2)
    np.testing.assert_array_equal(side_by_side, cross_val_score(model, texts, labels, cv=2))


def test_it_prints_and_changes_nothing_else(settings, rows, tmp_path):
    code = f"""
import logging, torch
torch.set_num_threads(2)
from scl_fairseq import SCLClassifier
model = SCLClassifier(**{ {**settings, "max_epoch": 1}!r}).fit({rows[0]!r}, {rows[1]!r})
model.predict(["a film"])
assert torch.get_num_threads() == 2
assert not logging.root.handlers and logging.root.manager.disable == 0
"""
    own = {**runs.ENVIRONMENT, "PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=own, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert not list(Path(tmp_path).iterdir())
