"""The generated data: the project's readers take it, and its labels can be told."""

from collections import Counter

import pytest

from examples import smoke_data
from scl_fairseq.data import synthetic
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS

PAIRS = ("MRPC", "RTE", "QNLI", "MNLI")


def rows(task, folder, file="train.tsv"):
    smoke_data.write(task, folder, num_train=60, num_dev=24)
    return read_rows(TASKS[task], folder / file)


@pytest.mark.parametrize("task", smoke_data.FILES)
def test_layout_and_balance(task, tmp_path):
    train = rows(task, tmp_path)
    names = [path.name for path in tmp_path.iterdir()]
    dev = ["dev_matched.tsv", "dev_mismatched.tsv"] if task == "MNLI" else ["dev.tsv"]
    assert sorted(names) == [*dev, "train.tsv"]
    for name, size in [("train.tsv", 60), *((name, 24) for name in dev)]:
        counts = Counter(row.label for row in read_rows(TASKS[task], tmp_path / name))
        share = size // len(TASKS[task].labels)
        assert counts == dict.fromkeys(TASKS[task].labels, share)
    assert all(len(row.sentences) == (2 if task in PAIRS else 1) for row in train)


@pytest.mark.parametrize("task", smoke_data.REVIEWS)
def test_reviews(task, tmp_path):
    train = rows(task, tmp_path, "train.csv")
    test = read_rows(TASKS[task], tmp_path / "test.csv")
    assert Counter(row.label for row in train) == {"negative": 30, "positive": 30}
    assert Counter(row.label for row in test) == {"negative": 12, "positive": 12}
    told = dict(synthetic.generate(84, seed=2 + smoke_data.REVIEWS.index(task)))
    for row in train:
        (text,) = row.sentences
        sentence = text.split(" ", 3)[3] if task == "Amazon-2" else text
        assert row.label == ("negative", "positive")[told[sentence]]


def test_cola_has_no_header_and_others_have(tmp_path):
    for task in ("CoLA", "RTE"):
        smoke_data.write(task, tmp_path / task, 4, 4)
    lines = (tmp_path / "CoLA" / "train.tsv").read_text("utf-8").splitlines()
    assert [line.split("\t")[1] for line in lines] == ["0", "1", "0", "1"]
    header = (tmp_path / "RTE" / "train.tsv").read_text("utf-8").splitlines()[0]
    assert header == "index\tsentence1\tsentence2\tlabel"


@pytest.mark.parametrize("task", PAIRS)
def test_shared_words_tell_the_label_of_a_pair(task, tmp_path):
    told = {"MRPC": {"1"}, "MNLI": {"entailment", "contradiction"}}.get(task, {"entailment"})
    right = 0
    train = rows(task, tmp_path)
    for row in train:
        first, second = (set(sentence.split()) for sentence in row.sentences)
        shares = len(first & second) / min(len(first), len(second)) > 0.6
        right += shares == (row.label in told)
        denied = "it is not true that" in " ".join(row.sentences)
        assert denied == (row.label == "contradiction")
    assert right / len(train) > 0.95


def test_the_same_sentence_is_not_in_two_files(tmp_path):
    train = {row.sentences for row in rows("CoLA", tmp_path)}
    dev = {row.sentences for row in read_rows(TASKS["CoLA"], tmp_path / "dev.tsv")}
    assert not train & dev


def test_bad_requests(tmp_path):
    with pytest.raises(ValueError, match="no generated data for 'QQP'"):
        smoke_data.write("QQP", tmp_path)
    with pytest.raises(ValueError, match="2 rows or more"):
        smoke_data.write("RTE", tmp_path, num_dev=1)
    assert not list(tmp_path.iterdir())
