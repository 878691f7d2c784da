"""A training goes on with, and saves beside, checkpoints of its own texts only."""

import json
import shutil

import pytest
import torch

import scl_fairseq
from scl_fairseq.checkpoints import loading, training_state
from scl_fairseq.cli import predict
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import TASKS, custom_task
from tests import runs

ONE_UPDATE = ("--max-update", 1)
ROWS = [("neg", "a bad film"), ("pos", "a fine film")] * 4


def binarise(tiny, folder, labels, task="custom", columns=1):
    """``folder/bin``: eight rows, their labels in this order."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    names = [f"sentence{place + 1}" for place in range(columns)]
    made = custom_task(labels, "label", names) if task == "custom" else TASKS[task]
    names = list(made.sentence_columns)
    lines = ["\t".join([made.label_column, *names])]
    for row, (_, text) in enumerate(ROWS):
        lines.append("\t".join([labels[row % 2], *[text] * len(names)]))
    for split in ("train", "dev"):
        (source / f"{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    preprocess(made, source, folder / "bin", Settings("wordpiece", tiny.encoder), workers=1)
    return folder / "bin"


def train(tiny, data, save_dir, *options, **kwargs):
    arguments = runs.command(tiny, save_dir, *options)
    arguments[1] = str(data)
    return runs.train(arguments, check=False, **kwargs)


def refused(done, *words):
    """One line that names both sides; the training has not begun."""
    assert done.returncode == 2, done.stdout[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    for word in words:
        assert str(word) in line, line
    assert "Traceback" not in done.stdout
    assert "begin training epoch" not in done.stdout


@pytest.fixture(scope="module")
def first(tiny, tmp_path_factory):
    """A folder with ``bin``, of the labels neg, pos, and ``ck``, trained on it."""
    folder = tmp_path_factory.mktemp("first")
    data = binarise(tiny, folder, ["neg", "pos"])
    done = train(tiny, data, folder / "ck", "--max-epoch", 1)
    assert done.returncode == 0, done.stdout[-3000:]
    return folder


@pytest.fixture
def place(first, tmp_path):
    """The same, to be changed."""
    shutil.copytree(first / "ck", tmp_path / "ck")
    shutil.copytree(first / "bin", tmp_path / "bin")
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_checkpoint_says_what_its_folder_says(first):
    loading.allow_globals()
    state = torch.load(first / "ck" / "checkpoint_best.pt", weights_only=True)
    text = training_state.text_of(state["extra_state"])
    assert text == json.loads((first / "ck" / "text.json").read_text("utf-8"))
    assert text["labels"] == ["neg", "pos"]
    assert set(text["sha256"]) == {
        "dict.txt",
        "label/dict.txt",
        "vocab.txt",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize("is_recorded", [True, False])
def test_labels_swapped_in_the_data(is_recorded, tiny, place, tmp_path):
    """The data are binarised again to the same place, with the labels the other way round."""
    if not is_recorded:  # as earlier versions left them
        for path in (place / "ck").glob("*.pt"):
            runs.forget_texts(path)
    data = binarise(tiny, place, ["pos", "neg"])
    before = contents(place / "ck")
    done = train(tiny, data, place / "ck", "--max-epoch", 2)
    refused(done, place / "ck", "labels neg, pos, not pos, neg", data, "another --save-dir")
    assert contents(place / "ck") == before


CHANGES = {
    "another task of as many classes": {"labels": ["0", "1"], "task": "SST-2"},
    "other labels": {"labels": ["bad", "good"]},
    "one more label": {"labels": ["neg", "pos", "mixed"]},
    "pairs": {"labels": ["neg", "pos"], "columns": 2},
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_folder_of_another_task(case, tiny, place, tmp_path):
    how = dict(CHANGES[case])
    if case == "one more label":  # train has no row of it, so it is made by hand
        data = place / "bin"
        with open(data / "label" / "dict.txt", "a", encoding="utf-8") as file:
            file.write("mixed 1\n")
    else:
        data = binarise(tiny, tmp_path / "other", **how)
    more = ["--num-classes", len(how["labels"])]
    done = train(tiny, data, place / "ck", "--max-epoch", 2, *more)
    refused(done, place / "ck", ", not ", data)


def test_a_folder_of_another_dictionary(tiny, place):
    path = place / "bin" / "input0" / "dict.txt"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n", "utf-8")
    refused(train(tiny, place / "bin", place / "ck", "--max-epoch", 2), "dict.txt", place / "ck")


@pytest.mark.parametrize("option", ["--finetune-from-model", "--restore-file"])
def test_a_start_whose_head_is_kept(option, tiny, first, tmp_path):
    start = first / "ck" / "checkpoint_best.pt"
    resets = ["--reset-optimizer", "--reset-dataloader", "--reset-meters", "--reset-lr-scheduler"]
    more = [option, start, *ONE_UPDATE, *(resets if option == "--restore-file" else [])]
    swapped = binarise(tiny, tmp_path / "swapped", ["pos", "neg"])
    done = train(tiny, swapped, tmp_path / "a", *more)
    refused(done, start, "labels neg, pos, not pos, neg", "--classification-head-name")
    assert not (tmp_path / "a").exists() or not list((tmp_path / "a").iterdir())
    # Another head is begun anew, and --keep-head says that the labels correspond.
    for way in (["--classification-head-name", "other"], ["--keep-head"]):
        done = train(tiny, swapped, tmp_path / way[-1], *more, *way)
        assert done.returncode == 0, done.stdout[-3000:]
    assert "--keep-head: the head of" in done.stdout
    # As many classes of another task.
    other = binarise(tiny, tmp_path / "other", ["0", "1"], task="SST-2")
    refused(train(tiny, other, tmp_path / "b", *more), "labels neg, pos, not 0, 1")
    # Where the tokens are others, no head makes it right.
    path = swapped / "input0" / "dict.txt"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n", "utf-8")
    done = train(tiny, swapped, tmp_path / "c", *more, "--keep-head")
    refused(done, "another dict.txt", start)


def test_an_encoder_with_another_dictionary(tiny, first, tmp_path):
    """A converted encoder says nothing itself; its dictionary lies beside it."""
    data = shutil.copytree(first / "bin", tmp_path / "bin")
    path = data / "input0" / "dict.txt"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n", "utf-8")
    done = train(tiny, data, tmp_path / "run", *ONE_UPDATE)
    refused(done, tiny.encoder / "model.pt", "another dict.txt", data)


def test_folders_of_earlier_versions_resume_with_a_note(tiny, place):
    for path in (place / "ck").glob("*.pt"):
        runs.forget_texts(path)
    for name in ("text.json", "dict.txt"):
        (place / "ck" / name).unlink()
    done = train(tiny, place / "bin", place / "ck", "--max-epoch", 2)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "does not say itself which labels it was trained with" in done.stdout
    state = torch.load(place / "ck" / "checkpoint_last.pt", weights_only=True)
    assert training_state.text_of(state["extra_state"])["labels"] == ["neg", "pos"]


def test_resuming_with_its_own_data_says_nothing(tiny, place):
    done = train(tiny, place / "bin", place / "ck", "--max-epoch", 2)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "does not say itself" not in done.stdout


@pytest.mark.parametrize("option", ["--finetune-from-model", "--restore-file"])
def test_a_start_that_is_a_folder_or_not_there(option, tiny, first, tmp_path):
    """Fairseq would begin with random weights in silence, or with a traceback."""
    still = ["--lr", 0, *ONE_UPDATE]
    done = train(tiny, first / "bin", tmp_path / "folder", option, first / "ck", *still)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"Loaded checkpoint {first / 'ck' / 'checkpoint_best.pt'}" in done.stdout
    done = train(tiny, first / "bin", tmp_path / "none", option, tmp_path / "none.pt", *still)
    if option == "--restore-file":  # by which some mean it
        assert done.returncode == 0, done.stdout[-3000:]
        assert "none.pt is not there: the weights begin at random" in done.stdout
    else:
        refused(done, option, "none.pt: no such checkpoint")
        assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["label/dict.txt", "input0/dict.txt", "vocab.txt"])
def test_a_side_file_that_is_not_its_own(name, place, capsys):
    """It is known by its hash, wherever it lies."""
    path = place / "ck" / name
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n", "utf-8")
    (place / "text").write_text("a film\n")
    assert predict.main([str(place / "ck"), "--input", str(place / "text")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"{path} is not the " in captured.err
    assert "was trained with" in captured.err


def test_counts_and_line_ends_of_a_dictionary_do_not_matter(place):
    expected = scl_fairseq.load(place / "ck").predict(["a film"]).probabilities
    for name in ("label/dict.txt", "input0/dict.txt"):
        path = place / "ck" / name
        lines = [line.split()[0] for line in path.read_text("utf-8").splitlines()]
        lines += ["madeupword0000"] if name == "label/dict.txt" else []
        path.write_bytes("".join(f"{line} 7\r\n" for line in lines).encode())
    found = scl_fairseq.load(place / "ck").predict(["a film"]).probabilities
    assert found.equal(expected)
