"""Every criterion with every task, model and kind of data: it trains, or one line says why not."""

import itertools
import shutil

import pytest

from tests.criterions.test_sentence_prediction_scl import SIZES
from tests.several import assert_refused, assert_trained, train_all

CRITERIONS = {
    "sentence_prediction": [],
    "sentence_prediction_scl": ["--scl-lambda", 0.5],
    "frozen": ["--scl-lambda", 0, "--freeze-encoder", "--pooler-activation-fn", "linear"],
    "supcon": [],
    "supcon unsupervised": ["--supcon-unsupervised"],
    "simcse": [],
    "infocse": [],
}
REGISTERED = {"frozen": "sentence_prediction_scl", "supcon unsupervised": "supcon"}
CLASSIFYING = ("sentence_prediction", "sentence_prediction_scl", "frozen")
TASKS = {
    "sentence_prediction": ["--num-classes", 2, "--init-token", 0],
    "sentence_embedding": [],
}
BART = SIZES["bart_base"].replace("--add-prev-output-tokens ", "").split()
MODELS = {
    "roberta": ["--arch", "roberta", *SIZES["roberta"].split()],
    "bart": ["--arch", "bart_base", *BART],
    "bart with input": ["--arch", "bart_base", *BART, "--add-prev-output-tokens"],
    "no heads": ["--arch", "masked_lm"],
}
DATA = ("labelled", "test alone labelled", "no labels", "lines", "triples", "numbers")


def is_made(criterion, task, model, data):
    """All pairs of criterion, task and model; of the data kinds, those of one model."""
    if model == "bart with input" and task == "sentence_embedding":
        return False  # no option of that task
    return model == "roberta" or data == "labelled"


def expected(criterion, task, model, data):
    """Parts of the message, in the order in which a reader would look; none where it trains."""
    if task == "sentence_embedding":
        if criterion in CLASSIFYING:
            return ["--task sentence_", REGISTERED.get(criterion, criterion)]
        if model != "roberta":
            return ["--task sentence_embedding", "RoBERTa" if model == "bart" else "heads"]
        if criterion == "supcon":
            return ["--supcon-unsupervised"]
        return []
    if criterion in ("simcse", "infocse"):
        return [f"--criterion {criterion}", "--task sentence_embedding"]
    if model == "bart":
        return ["--add-prev-output-tokens"]
    if model == "no heads":
        return ["heads", "--arch roberta_base"]
    if data in ("lines", "triples"):
        return ["dict.txt", "--task sentence_embedding"]
    if data in ("no labels", "numbers"):
        return ["label/dict.txt", "--regression-target"]
    if data == "test alone labelled" and criterion != "supcon unsupervised":
        hint = ["--supcon-unsupervised"] if criterion == "supcon" else []
        return ["train has no labels", *hint]
    return []


ALL = [
    case for case in itertools.product(CRITERIONS, TASKS, MODELS, DATA) if is_made(*case)
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tiny, lines, tmp_path_factory):
    """Where each kind of data lies."""
    folder = tmp_path_factory.mktemp("kinds")
    found = {"labelled": tiny.data, "lines": lines.data, "triples": lines.triples}
    for name in ("test alone labelled", "no labels", "numbers"):
        found[name] = shutil.copytree(tiny.data, folder / name)
    for split, end in itertools.product(("train", "valid"), ("idx", "bin")):
        (found["test alone labelled"] / "label" / f"{split}.{end}").unlink()
    for name in ("no labels", "numbers"):
        shutil.rmtree(found[name] / "label")
    (found["numbers"] / "label").mkdir()
    for split in ("train", "valid"):
        (found["numbers"] / "label" / f"{split}.label").write_text("0.5\n" * 64)
    return found


@pytest.fixture(scope="module")
def results(folders, tmp_path_factory):
    cases = {}
    for case in ALL:
        criterion, task, model, data = case
        columns = ["--text-columns", 3] if (task, data) == ("sentence_embedding", "triples") else []
        if criterion == "supcon unsupervised":
            columns = []
        cases[" | ".join(case)] = [
            *[folders[data], "--task", task, *TASKS[task], *MODELS[model], *columns, "--no-save"],
            *["--criterion", REGISTERED.get(criterion, criterion), *CRITERIONS[criterion]],
        ]
    return train_all(cases, tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize("case", ALL, ids=" | ".join)
def test_it_trains_or_is_refused_in_one_line(case, results):
    result, parts = results[" | ".join(case)], expected(*case)
    if parts:
        assert_refused(result, *parts)
    else:
        assert_trained(result)
