"""What text needs lies next to every checkpoint, and no training fails of it."""

import json
import shutil

import pytest
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models.roberta import RobertaModel

import scl_fairseq
from scl_fairseq.checkpoints import companions
from tests import runs

LAYOUT = {
    "dict.txt": "dict.txt",
    "input0/dict.txt": "dict.txt",
    "vocab.txt": "vocab.txt",
    "tokenizer_config.json": "tokenizer_config.json",
}


def about(folder):
    return json.loads((folder / "text.json").read_text("utf-8"))


def setting(tiny, folder, data, *more):
    """Fairseq's own configuration and task of a training."""
    arguments = runs.command(tiny, folder, *more)[1:]
    arguments[0] = str(data)
    parsed = options.parse_args_and_arch(options.get_training_parser(), arguments)
    cfg = convert_namespace_to_omegaconf(parsed)
    return cfg, tasks.setup_task(cfg.task)


def write(run, *of_training):
    companions.write(*companions.describe(*setting(*of_training)), run)


@pytest.fixture
def stock_data(tiny, tmp_path):
    """Without what scl-preprocess adds to fairseq's layout."""
    data = shutil.copytree(tiny.data, tmp_path / "data")
    shutil.rmtree(data / "bpe")
    (data / "preprocess.json").unlink()
    return data


def test_a_training_leaves_what_text_needs(classifier, tiny):
    for name, source in LAYOUT.items():
        assert (classifier / name).read_bytes() == (tiny.encoder / source).read_bytes(), name
    assert (classifier / "label" / "dict.txt").read_text() == "0 1\n1 1\n"
    found = about(classifier)
    expected = {
        "task": "SST-2",
        "labels": ["0", "1"],
        "num_inputs": 1,
        "sentence_columns": ["sentence1"],
        "bpe": "wordpiece",
        "init_token": 0,
        "separator_token": None,
        "max_positions": 64,
    }
    assert {key: found[key] for key in expected} == expected
    assert set(found) == {*expected, "sha256", "versions"}
    assert found["versions"]["scl-fairseq"] == scl_fairseq.__version__


def test_stock_fairseq_finds_it(classifier):
    vocabulary = str(classifier / "vocab.txt")
    hub = RobertaModel.from_pretrained(
        str(classifier), "checkpoint_best.pt", ".", bpe="wordpiece", wordpiece_vocab=vocabulary
    )
    assert hub.predict("sentence_classification_head", hub.encode("a film")).shape == (1, 2)
    assert hub.task.label_dictionary.symbols[4:6] == ["0", "1"]


def test_the_bpe_of_the_trainings_own_options(tiny, stock_data, tmp_path):
    (tmp_path / "bpe").mkdir()
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(tiny.encoder / name, tmp_path / "bpe" / name.replace("vocab", "words"))
    named = ["--bpe", "wordpiece", "--wordpiece-vocab", tmp_path / "bpe" / "words.txt"]
    run = tmp_path / "run"
    run.mkdir()
    write(run, tiny, run, stock_data, *named)
    assert about(run)["bpe"] == "wordpiece"
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (run / name).read_bytes() == (tiny.encoder / name).read_bytes()


@pytest.mark.parametrize("named", [[], ["--bpe", "gpt2", "--gpt2-encoder-json", "nowhere.json"]])
def test_dictionaries_alone_where_no_bpe_is_known(tiny, stock_data, tmp_path, named):
    run = tmp_path / "run"
    run.mkdir()
    write(run, tiny, run, stock_data, *named)
    assert about(run)["bpe"] is None
    assert about(run)["missing"].startswith("the BPE files: ")
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert names == {"dict.txt", "input0/dict.txt", "label/dict.txt", "text.json"}


def test_another_training_replaces_them_and_foreign_files_stay(tiny, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for content in ("first 1\n", "second 1\n"):
        (tmp_path / "label").mkdir(exist_ok=True)
        data = shutil.copytree(tiny.data, tmp_path / content.split()[0])
        (data / "label" / "dict.txt").write_text(f"a 1\n{content}")
        write(run, tiny, run, data)
        assert about(run)["labels"] == ["a", content.split()[0]]
        assert (run / "label" / "dict.txt").read_text() == f"a 1\n{content}"
    (run / "text.json").unlink()
    with pytest.raises(ValueError, match=r"label/dict\.txt is there already, and is another"):
        write(run, tiny, run, tiny.data)
    assert (run / "label" / "dict.txt").read_text() == "a 1\nsecond 1\n"


def test_a_training_goes_on_where_they_cannot_be_written(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "dict.txt").write_text("thesis")
    done = train(tmp_path / "run", "--max-update", 1)
    assert "done training" in done.stdout
    assert "dict.txt is there already, and is another" in done.stdout
    assert (tmp_path / "run" / "dict.txt").read_text() == "thesis"
    assert not (tmp_path / "run" / "text.json").exists()


def test_nothing_where_no_checkpoint_is_saved(train, tmp_path):
    train(tmp_path / "run", "--max-update", 1, "--no-save")
    assert not list(tmp_path.rglob("*.txt"))
