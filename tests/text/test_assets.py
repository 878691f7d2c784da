"""Where a checkpoint finds what text needs, and what is refused."""

import shutil

import pytest

import scl_fairseq
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import custom_task
from tests import runs

WEIGHTS = "checkpoint_best.pt"


@pytest.fixture
def alone(classifier, tmp_path):
    """A checkpoint without anything beside it."""
    (tmp_path / "alone").mkdir()
    return shutil.copy(classifier / WEIGHTS, tmp_path / "alone" / WEIGHTS)


@pytest.fixture(scope="module")
def expected(classifier):
    return scl_fairseq.load(classifier).embed(["a fine film"])


def same(model, expected):
    assert model.labels == ["0", "1"]
    return model.embed(["a fine film"]).equal(expected)


def test_next_to_the_checkpoint(classifier, expected, tmp_path):
    moved = shutil.copytree(classifier, tmp_path / "moved")
    assert same(scl_fairseq.load(moved), expected)
    assert same(scl_fairseq.load(str(moved / WEIGHTS)), expected)
    (moved / WEIGHTS).unlink()
    assert scl_fairseq.load(moved).labels == ["0", "1"]  # of checkpoint_last.pt


def test_as_told_before_what_lies_beside(classifier, tiny, expected, tmp_path):
    for name in ("dict.txt", "vocab.txt"):
        moved = shutil.copytree(classifier, tmp_path / name)
        for path in moved.rglob(name):
            path.write_text("nonsense 1\n")
        with pytest.raises(ValueError, match=rf"{name} is not the {name} that .* trained with"):
            scl_fairseq.load(moved)
        told = {"data_dir": tiny.data, "bpe": "wordpiece", "bpe_dir": tiny.encoder}
        assert same(scl_fairseq.load(moved, **told), expected)


def test_the_data_of_the_training(train, tiny, tmp_path):
    train(tmp_path / "run", "--max-update", 1)
    weights = tmp_path / "run" / "checkpoint_last.pt"
    expected = scl_fairseq.load(weights).embed(["a fine film"])
    (tmp_path / "alone").mkdir()
    alone = shutil.copy(weights, tmp_path / "alone")
    assert same(scl_fairseq.load(alone), expected)


def test_no_dictionary(alone, tmp_path):
    message = r"input0/dict\.txt; --data-dir names the data"
    with pytest.raises(FileNotFoundError, match=message):
        scl_fairseq.load(alone)
    with pytest.raises(FileNotFoundError, match=message):
        scl_fairseq.load(alone, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"--data-dir nowhere is no folder"):
        scl_fairseq.load(alone, "nowhere")


def test_no_bpe_files(alone, tiny, expected, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    shutil.rmtree(data / "bpe")
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt; --bpe and --bpe-dir name them"):
        scl_fairseq.load(alone, data)
    (data / "preprocess.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no BPE files in .*; --bpe and --bpe-dir"):
        scl_fairseq.load(alone, data)
    assert same(scl_fairseq.load(alone, data, bpe_dir=tiny.encoder), expected)
    with pytest.raises(FileNotFoundError, match=r"encoder\.json, vocab\.bpe; --bpe and"):
        scl_fairseq.load(alone, data, bpe="gpt2", bpe_dir=tiny.encoder)
    with pytest.raises(ValueError, match=r"--bpe bert, expected one of gpt2, wordpiece"):
        scl_fairseq.load(alone, data, bpe="bert")
    with pytest.raises(FileNotFoundError, match=r"--bpe-dir nowhere is no folder"):
        scl_fairseq.load(alone, data, bpe_dir="nowhere")


def test_no_label_names(alone, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    (data / "label" / "dict.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no label/dict\.txt; --data-dir"):
        scl_fairseq.load(alone, data)


def test_a_dictionary_that_does_not_match(alone, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    with open(data / "input0" / "dict.txt", "a", encoding="utf-8") as file:
        file.write("further 1\n")
    with pytest.raises(ValueError, match=r"input0/dict\.txt is not the dict\.txt that"):
        scl_fairseq.load(alone, data)
    runs.forget_texts(alone)
    with pytest.raises(ValueError, match=r"dict\.txt has (\d+) symbols.* embeds (\d+)") as caught:
        scl_fairseq.load(alone, data)
    assert len(str(caught.value).splitlines()) == 1


def test_labels_that_do_not_match(alone, tiny, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for split in ("train", "dev"):
        text = "label\tsentence\nneg\tbad\nmid\tso\npos\tgood\n"
        (source / f"{split}.tsv").write_text(text)
    task = custom_task(["neg", "mid", "pos"])
    preprocess(task, source, tmp_path / "data", Settings("wordpiece", tiny.encoder), workers=1)
    with pytest.raises(ValueError, match=r"it has the labels neg, mid, pos, not 0, 1$"):
        scl_fairseq.load(alone, tmp_path / "data")
    runs.forget_texts(alone)
    message = r"3 labels \(neg, mid, pos\), but .*checkpoint_best\.pt tells 2 classes apart"
    with pytest.raises(ValueError, match=message):
        scl_fairseq.load(alone, tmp_path / "data")


def test_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.pt: no such checkpoint"):
        scl_fairseq.load(tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint_best\.pt, model\.pt or ch"):
        scl_fairseq.load(tmp_path)
