"""Weights that load into another network than theirs without a word are refused."""

import json
import shutil

import pytest
import torch

import scl_fairseq
from scl_fairseq.cli import convert, evaluate, predict
from tests import runs

HEADS = ["--encoder-attention-heads", 2]
REFUSED = {
    "heads": (HEADS, r"--encoder-attention-heads is 2, and \S+model\.pt has 4"),
    "activation": (["--activation-fn", "relu"], "--activation-fn is relu, and .* has gelu"),
    "pre-norm": (["--encoder-normalize-before"], "--encoder-normalize-before is True, and .*False"),
    "layers": (["--encoder-layers", 1], "--encoder-layers is 1, and .* has 2"),
    "width": (["--encoder-embed-dim", 16], "--encoder-embed-dim is 16, and .* has 32"),
    "inside": (["--encoder-ffn-embed-dim", 32], "--encoder-ffn-embed-dim is 32, and .* has 64"),
    "positions": (["--max-positions", 32], "has 64 positions, and --max-positions makes 32"),
}


def assert_refused(done, message, folder):
    import re

    assert done.returncode == 2, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert re.search(message, line), line
    assert not list(folder.glob("*.pt"))


@pytest.mark.parametrize("case", REFUSED)
def test_other_networks_are_refused_before_the_first_update(tiny, tmp_path, case):
    options, message = REFUSED[case]
    done = runs.train(runs.command(tiny, tmp_path / "run", *options), check=False)
    assert_refused(done, message, tmp_path / "run")


def test_so_they_are_with_restore_file(tiny, tmp_path):
    start = ["--restore-file", tiny.encoder / "model.pt", "--reset-optimizer"]
    start += ["--reset-dataloader", "--reset-meters", "--reset-lr-scheduler"]
    done = runs.train(runs.command(tiny, tmp_path / "run", *start, *HEADS), check=False)
    assert_refused(done, REFUSED["heads"][1], tmp_path / "run")


def test_so_is_another_pooler_where_the_head_is_kept(tiny, classifier, tmp_path):
    start = ["--finetune-from-model", classifier / "checkpoint_best.pt"]
    pooler = ["--pooler-activation-fn", "relu"]
    done = runs.train(runs.command(tiny, tmp_path / "run", *start, *pooler), check=False)
    assert_refused(done, "--pooler-activation-fn is relu, and .* has tanh", tmp_path / "run")


def test_what_training_may_choose_is_free(tiny, tmp_path):
    options = ["--dropout", 0.3, "--attention-dropout", 0, "--pooler-activation-fn", "relu"]
    options += ["--pooler-dropout", 0.2, "--arch", "roberta_base", "--max-update", 1]
    runs.train(runs.command(tiny, tmp_path / "run", *options))


@pytest.fixture
def contradicted(tiny, tmp_path):
    """A converted encoder beside whose weights lies another ``config.json``."""
    folder = shutil.copytree(tiny.encoder, tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    config["num_attention_heads"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    return folder


SAYS_BOTH = r"encoder_attention_heads 4, and \S+config.json makes it 2"


def test_a_config_of_another_network_is_refused_everywhere(tiny, contradicted, tmp_path, capsys):
    with pytest.raises(ValueError, match=SAYS_BOTH):
        scl_fairseq.load(contradicted)
    out = tmp_path / "out"
    assert convert.main(["--to", "huggingface", str(contradicted), str(out)]) == 2
    assert predict.main([str(contradicted), "--input", str(contradicted / "dict.txt")]) == 2
    assert evaluate.main([str(contradicted), "--data", str(tiny.data)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all("makes it 2" in error for error in errors), errors
    assert not out.exists()
    start = ["--finetune-from-model", contradicted / "model.pt"]
    done = runs.train(runs.command(tiny, tmp_path / "run", *start), check=False)
    assert_refused(done, SAYS_BOTH, tmp_path / "run")


def test_a_config_of_something_else_does_not_matter(tiny, contradicted):
    (contradicted / "config.json").write_text('{"model_type": "gpt2"}')
    scl_fairseq.load(contradicted)
    (contradicted / "config.json").write_text("no JSON")
    scl_fairseq.load(contradicted)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int64, torch.bool, torch.float64, torch.complex64, "int8", "half"]
)
def test_a_dtype_that_models_do_not_compute_in_is_refused(tiny, dtype):
    with pytest.raises(ValueError, match="expected one of fp32, bf16, fp16"):
        scl_fairseq.load(tiny.encoder, dtype=dtype)
