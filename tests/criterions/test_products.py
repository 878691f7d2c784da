"""``--scl-products`` and ``--scl-kernel`` reach the loss of every criterion."""

import pytest
import torch

from scl_fairseq.kernels import choice
from tests import runs
from tests.criterions import test_sentence_prediction_scl as scl
from tests.criterions import unlabelled


def value(built, batch):
    built.model.eval()
    with torch.no_grad():
        return float(built.criterion(built.model, batch)[0])


@pytest.mark.parametrize("criterion", ["sentence_prediction_scl", "supcon"])
def test_labelled_criterions(tiny, criterion):
    def found(*options):
        built = scl.build(tiny, "roberta", *options, criterion=criterion)
        if criterion == "supcon":
            built.criterion.prepare_model(built.model)
        torch.manual_seed(2)
        return value(built, built.batch)

    plain = found()
    assert found("--scl-products", "float32", "--scl-kernel", "torch") == plain
    assert found("--scl-products", "tf32") == plain  # which is a GPU's
    rounded = found("--scl-products", "bf16")
    assert rounded != plain
    assert rounded == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("criterion", ["simcse", "infocse"])
def test_unlabelled_criterions(lines, criterion):
    def found(*options):
        own = ["--infocse-lambda", 0] if criterion == "infocse" else []
        built = unlabelled.build(lines.data, *own, *options, criterion=criterion)
        built.model.float()
        return value(built, built.batch(range(8)))

    plain, rounded = found(), found("--scl-products", "bf16")
    assert rounded != plain
    assert rounded == pytest.approx(plain, rel=1e-2)


def test_a_kernel_that_cannot_run_is_refused_before_training(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setitem(runs.ENVIRONMENT, "TRITON_INTERPRET", "0")
    monkeypatch.setattr(choice, "is_interpreted", lambda: False)
    command = runs.command(tiny, tmp_path / "save", "--scl-kernel", "triton")
    done = runs.train(command, check=False, cwd=runs.ROOT)  # not forked: of that environment
    assert done.returncode != 0
    assert "--scl-kernel triton needs a GPU and the package triton" in done.stdout
    assert not list(tmp_path.glob("save/*.pt"))


@pytest.mark.parametrize("words", [("--scl-products", "fp16"), ("--scl-kernel", "cuda")])
def test_other_names_are_refused(tiny, words):
    with pytest.raises(SystemExit):
        scl.build(tiny, "roberta", *words)
