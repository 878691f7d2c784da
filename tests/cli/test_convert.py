"""``scl-convert`` from the command line's side."""

import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scl_fairseq.checkpoints.huggingface import architecture_flags
from scl_fairseq.cli import preprocess
from scl_fairseq.cli.convert import main
from tests import runs

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]


@pytest.fixture
def source(tmp_path) -> Path:
    """A BERT without MLM head: the smallest that has every tensor."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=len(TOKENS),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
    )
    folder = tmp_path / "source"
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    return folder


def test_says_what_it_wrote_and_what_fairseq_needs(source, tmp_path, capsys):
    assert main([str(source), str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    for name in ("config.json", "dict.txt", "model.pt", "tokenizer_config.json", "vocab.txt"):
        assert name in output
        assert (tmp_path / "out" / name).is_file()
    assert "2 layers, 8 wide, 2 heads, 12 positions, 8 tokens (wordpiece)" in output
    assert " ".join(architecture_flags(tmp_path / "out")) in output
    assert "no masked-language-model head" in output
    assert (tmp_path / "out" / "dict.txt").read_text() == "good 1\nbad 1\nfilm 1\n"


def test_what_this_and_scl_preprocess_print_is_what_training_on_text_needs(
    source, tmp_path, capsys
):
    from fairseq.models.roberta import RobertaModel

    encoder, text = tmp_path / "an encoder", tmp_path / "text"
    assert main([str(source), str(encoder)]) == 0
    words = _printed(capsys)
    text.mkdir()
    for name in ("train", "dev"):
        (text / f"{name}.tsv").write_text("sentence\tlabel\ngood film\t1\nbad film\t0\n")
    named = ["--task", "SST-2", "--data-dir", str(text), "--destdir", str(tmp_path / "data")]
    bpe = ["--bpe", "wordpiece", "--bpe-dir", str(encoder)]
    assert preprocess.main([*named, *bpe, "--workers", "1"]) == 0
    words = [*_printed(capsys), *words]
    options = ["--criterion", "sentence_prediction_scl", "--distributed-world-size", 1, "--cpu"]
    options += ["--batch-size", 2, "--optimizer", "adam", "--max-update", 1, "--max-positions", 12]
    places = ["--user-dir", runs.ROOT / "scl_fairseq", "--save-dir", tmp_path / "run"]
    runs.train([runs.FAIRSEQ_TRAIN, *words, *places, *options])
    hub = RobertaModel.from_pretrained(
        str(tmp_path / "run"), "checkpoint_last.pt", str(tmp_path / "data")
    )
    assert hub.encode("good film").tolist() == [0, 4, 6, 2]  # fairseq's own four come first


def _printed(capsys):
    """The words after "fairseq-train needs:"."""
    needs = capsys.readouterr().out.split("fairseq-train needs:\n")[1].splitlines()
    lines = itertools.takewhile(lambda line: line.startswith("  "), needs)
    return shlex.split(" ".join(line.rstrip("\\") for line in lines))


def test_cased_vocabulary_stays_cased(source, tmp_path):
    config = {"do_lower_case": False, "model_max_length": 12}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    assert main([str(source), str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert written["do_lower_case"] is False


@pytest.mark.parametrize("spoil", ["no folder", "hash", "destination", "config", "permission"])
def test_bad_input_is_one_line_and_exit_code_2(source, tmp_path, capsys, spoil, monkeypatch):
    arguments = [str(source), str(tmp_path / "out")]
    if spoil == "no folder":
        arguments[0] = str(tmp_path / "nowhere")
    elif spoil == "hash":
        arguments += ["--sha256", "ab12"]
    elif spoil == "destination":
        arguments[1] = str(source / "config.json")
    elif spoil == "config":
        (source / "config.json").write_text("{\n\n")
    else:
        arguments[1] = str(tmp_path / "above" / "out")
        monkeypatch.setattr(Path, "mkdir", refuse_permission)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("scl-convert: error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def refuse_permission(self, **_):
    raise PermissionError(13, "Permission denied", str(self))


@pytest.mark.parametrize("arguments", [[], ["one"], ["a", "b", "c"], ["a", "b", "--unknown"]])
def test_wrong_arguments_are_one_line_and_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("scl-convert: error: ")
    assert error.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback(source, tmp_path, monkeypatch):
    import scl_fairseq.checkpoints.huggingface as huggingface

    def broken(*_, **__):
        raise KeyError("bug")

    monkeypatch.setattr(huggingface, "convert", broken)
    with pytest.raises(KeyError):
        main([str(source), str(tmp_path / "out")])


def test_help_shows_an_example_and_starts_quickly(root):
    code = (
        "import sys\n"
        "from scl_fairseq.cli.convert import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    print(sorted({'torch', 'fairseq', 'numpy', 'transformers'} & {*sys.modules}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "example:\n  scl-convert " in done.stdout
    assert done.stdout.endswith("[]\n")  # nothing that takes long to import
