"""What is found in a folder of binarised data."""

import shutil

import pytest

from scl_fairseq.data.binarized import has_labels, open_binarized
from tests import pipeline

SPLITS = ("train", "valid", "test")


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny.data, tmp_path / "data")


def test_counts_labels_and_encoding_are_those_of_fairseq(tiny):
    from fairseq.data import data_utils
    from fairseq.tasks.sentence_prediction import SentencePredictionTask

    found = open_binarized(tiny.data, SPLITS)
    dictionary = SentencePredictionTask.load_dictionary(str(tiny.data / "label" / "dict.txt"))
    assert found.labels == dictionary.symbols[dictionary.nspecial : -1]
    for split in SPLITS:
        dataset = data_utils.load_indexed_dataset(str(tiny.data / "input0" / split))
        assert found.num_examples[split] == len(dataset)
    assert (found.num_inputs, found.bpe) == (1, "wordpiece")


def test_padding_words_are_no_labels(copy):
    with open(copy / "label" / "dict.txt", "a") as file:
        file.write("madeupword0000 0\n")
    assert open_binarized(copy, SPLITS).labels == ["0", "1"]


@pytest.mark.parametrize(
    ("name", "at", "change"),
    [("input0/train.bin", 0, 1), ("label/valid.bin", 0, 1), ("label/dict.txt", 0, 3)],
)
def test_the_checksum_covers_every_file(tiny, copy, name, at, change):
    assert open_binarized(copy, SPLITS).sha256 == open_binarized(tiny.data, SPLITS).sha256
    data = bytearray((copy / name).read_bytes())
    data[at] ^= change
    (copy / name).write_bytes(bytes(data))
    assert open_binarized(copy, SPLITS).sha256 != open_binarized(tiny.data, SPLITS).sha256


@pytest.mark.parametrize(
    "name", ["input0/train.bin", "label/test.idx", "label/dict.txt", "input0/dict.txt"]
)
def test_what_is_missing_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        open_binarized(copy, SPLITS)


def test_a_damaged_index_is_named(copy):
    (copy / "input0" / "train.idx").write_bytes(b"MMIDIDX")
    with pytest.raises(ValueError, match=r"train.idx is no index"):
        open_binarized(copy, SPLITS)


@pytest.mark.parametrize(
    ("name", "at", "message"),
    [
        ("label/valid.bin", -1, r"label/valid\.bin: row 39 has symbol 258, of 6 there are"),
        ("input0/test.idx", -1, r"test\.idx is damaged: its rows are not one after another"),
        ("input0/test.idx", 9, r"test\.idx is damaged: its rows are not one after another"),
    ],
)
def test_a_changed_byte_is_named(copy, name, at, message):
    data = bytearray((copy / name).read_bytes())
    data[at] ^= 1
    (copy / name).write_bytes(bytes(data))
    with pytest.raises(ValueError, match=message):
        open_binarized(copy, SPLITS)


def test_labels_of_another_split_are_refused(copy):
    for end in ("idx", "bin"):
        shutil.copy(copy / "label" / f"train.{end}", copy / "label" / f"valid.{end}")
    with pytest.raises(ValueError, match="valid has different numbers"):
        open_binarized(copy, SPLITS)


def test_a_split_may_be_without_labels_where_none_are_needed(copy):
    assert has_labels(copy, "test")
    for end in ("idx", "bin"):
        (copy / "label" / f"test.{end}").unlink()
    assert not has_labels(copy, "test")
    found = open_binarized(copy, ("test",), needs_labels=False)
    assert found.num_examples == {"test": 40}
    with pytest.raises(FileNotFoundError, match=r"label/test\.idx is missing"):
        open_binarized(copy, ("test",))


@pytest.mark.parametrize("end", ["idx", "bin"])
def test_half_of_the_labels_is_not_none(copy, end):
    (copy / "label" / f"test.{end}").unlink()
    with pytest.raises(FileNotFoundError, match=rf"label/test\.{end} is missing"):
        open_binarized(copy, ("test",), needs_labels=False)


def test_a_label_of_two_words_is_refused(tmp_path):
    """Both would be labels to fairseq: the first of its row, the second of the next row."""
    texts = {"train": ["entailment", "not entailment"]}
    (tmp_path / "dict.txt").write_text("entailment 2\nnot 1\n")
    for part in ("input0", "label"):
        pipeline.preprocess(texts, tmp_path / "dict.txt", tmp_path / "data" / part)
    message = r"label/train\.idx: the label of row 1 has 2 words, expected one"
    with pytest.raises(ValueError, match=message):
        open_binarized(tmp_path / "data", ("train",))


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        open_binarized(tmp_path / "none", SPLITS)
