"""Every command finds what a checkpoint needs by one rule, and a folder means its checkpoint."""

import shutil

import pytest
import torch

from scl_fairseq.cli import convert, embed, evaluate, plot, predict

NAME = "checkpoint_best.pt"


def edited(classifier, folder, **options):
    """A checkpoint alone in a folder, whose own options of fairseq were changed."""
    folder.mkdir(parents=True)
    state = torch.load(classifier / NAME, weights_only=True)
    for group, values in options.items():
        state["cfg"][group] = {**(state["cfg"].get(group) or {}), **values}
    torch.save(state, folder / NAME)
    return folder


def beside(classifier, tiny, folder):
    return shutil.copytree(classifier, folder / "run")


def in_the_data(classifier, tiny, folder):
    data = shutil.copytree(tiny.data, folder / "data")
    return edited(classifier, folder / "run", task={"data": str(data)})


def in_the_data_folder_itself(classifier, tiny, folder):
    data = shutil.copytree(tiny.data, folder / "data")
    for path in (data / "bpe").iterdir():
        path.rename(data / path.name)
    (data / "bpe").rmdir()
    return edited(classifier, folder / "run", task={"data": str(data)})


def by_its_own_options(classifier, tiny, folder):
    """As after a training on data of fairseq-preprocess, under names of the user's."""
    data = shutil.copytree(tiny.data, folder / "data")
    shutil.rmtree(data / "bpe")
    (data / "preprocess.json").unlink()
    (folder / "words").mkdir()
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(tiny.encoder / name, folder / "words" / name.replace("vocab", "words"))
    bpe = {"_name": "wordpiece", "wordpiece_vocab": str(folder / "words" / "words.txt")}
    return edited(classifier, folder / "run", task={"data": str(data)}, bpe=bpe)


PLACES = [beside, in_the_data, in_the_data_folder_itself, by_its_own_options]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("a fine film\na bad film\n")
    return path


def run(main, *arguments):
    return main(list(map(str, arguments)))


def all_commands(checkpoint, text, data, out, capsys, *where):
    """What each command makes of a checkpoint: its output, or its files."""
    found = {}
    for name, call in {
        "predict": (predict.main, checkpoint, "--input", text, *where),
        "embed": (embed.main, checkpoint, "--input", text, "--output", out / "v.npy", *where),
        "evaluate": (evaluate.main, checkpoint, "--data", data, "--name", "x", "--bootstrap", 10),
        "convert": (convert.main, "--to", "huggingface", checkpoint, out / "converted", *where),
        "tsne": (
            *(plot.main, "tsne", checkpoint, "--data", data, "--out", out / "tsne.png"),
            *("--perplexity", 5, "--names", "x"),
        ),
    }.items():
        assert run(*call) == 0, (name, capsys.readouterr().err)
        shown = capsys.readouterr().out
        found[name] = shown if name in ("predict", "evaluate") else None
    found["vectors"] = (out / "v.npy").read_bytes()
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        found[name] = (out / "converted" / name).read_bytes()
    return found


@pytest.fixture
def expected(classifier, tiny, text, tmp_path, capsys):
    (tmp_path / "expected").mkdir()
    told = ("--data-dir", tiny.data, "--bpe", "wordpiece", "--bpe-dir", tiny.encoder)
    found = all_commands(classifier / NAME, text, tiny.data, tmp_path / "expected", capsys, *told)
    assert "0 1" in found["predict"].splitlines()[0].replace("\t", " ")
    return found


@pytest.mark.parametrize("place", PLACES)
def test_one_rule(place, classifier, tiny, text, expected, tmp_path, capsys):
    """A file, its folder, and what was told in words come to the same."""
    (tmp_path / "place").mkdir()
    folder = place(classifier, tiny, tmp_path / "place")
    for checkpoint, name in ((folder, "folder"), (folder / NAME, "file")):
        out = tmp_path / name
        out.mkdir()
        found = all_commands(checkpoint, text, tiny.data, out, capsys)
        assert found == expected


def test_sts_too(classifier, tiny, tmp_path, capsys):
    sts = tmp_path / "sts" / "STSBenchmark"
    sts.mkdir(parents=True)
    rows = [f"g\tf\ty\t{i}\t{i % 6}\ta fine film\ta {'bad ' * i}film\n" for i in range(12)]
    for split in ("train", "dev", "test"):
        (sts / f"sts-{split}.csv").write_text("".join(rows))
    (tmp_path / "place").mkdir()
    folder = by_its_own_options(classifier, tiny, tmp_path / "place")
    assert run(evaluate.main, folder, "--sts", tmp_path / "sts", "--name", "x") == 0
    found = capsys.readouterr().out
    assert run(evaluate.main, classifier / NAME, "--sts", tmp_path / "sts", "--name", "x") == 0
    assert capsys.readouterr().out == found


@pytest.mark.parametrize("command", [predict, embed, evaluate, convert, plot])
def test_help_says_which_checkpoint_a_folder_means(command, capsys):
    with pytest.raises(SystemExit):
        command.main(["tsne", "--help"] if command is plot else ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "a folder with checkpoint_best.pt, model.pt or checkpoint_last.pt" in shown
    if command not in (evaluate, plot):
        assert "by default those next to the checkpoint, or else in the data it was" in shown


@pytest.mark.parametrize("command", [predict, embed, evaluate, convert, plot])
def test_folders_without_a_checkpoint(command, tiny, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    before = ["tsne"] if command is plot else []
    more = {
        convert: [tmp_path / "out", "--to", "huggingface"],
        evaluate: ["--data", tiny.data],
        plot: ["--data", tiny.data, "--out", tmp_path / "x.png"],
        embed: ["--output", tmp_path / "x.npy"],
    }.get(command, [])
    assert run(command.main, *before, tmp_path / "empty", *more) == 2
    error = capsys.readouterr().err
    assert "empty holds no checkpoint_best.pt, model.pt or checkpoint_last.pt" in error
    assert not list(tmp_path.glob("x.*"))


def test_the_split_that_is_there(classifier, tiny, tmp_path, capsys):
    """Test where it can be scored, else valid; a test set without labels serves predictions."""
    data = shutil.copytree(tiny.data, tmp_path / "data")
    arguments = [classifier, "--data", data, "--bootstrap", 10]
    assert run(evaluate.main, *arguments) == 0
    assert f"{data}, test: " in capsys.readouterr().out
    for path in (data / "label").glob("test.*"):
        path.unlink()
    assert run(evaluate.main, *arguments) == 0
    assert f"{data}, valid: " in capsys.readouterr().out
    assert run(evaluate.main, *arguments, "--predictions", tmp_path / "p.tsv") == 0
    assert f"{data}: test has no labels" in capsys.readouterr().out
    for path in (data / "input0").glob("test.*"):
        path.unlink()
    assert run(evaluate.main, *arguments) == 0
    assert f"{data}, valid: " in capsys.readouterr().out
