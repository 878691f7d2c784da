"""A kernel in Triton is off until it was measured faster, on this card and in this precision."""

import json

import pytest
import torch

from scl_fairseq.kernels import choice
from scl_fairseq.losses import supervised_contrastive_loss, tiles
from scl_fairseq.losses.precision import Arithmetic


class OnGPU:
    """Rows that say they are on a GPU."""

    device = torch.device("cuda")

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """``measured(lines)``: a card H with Triton, and a file of measurements."""

    def set_up(lines):
        file = tmp_path / "measured.json"
        if lines is not None:
            file.write_text(json.dumps(lines), encoding="utf-8")
        monkeypatch.setattr(choice, "MEASURED", file)
        monkeypatch.setattr(choice, "has_triton", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H")
        choice.is_faster.cache_clear()

    yield set_up
    choice.is_faster.cache_clear()


def line(card="H", products="bf16", torch_seconds=2.0, triton_seconds=1.0):
    return {
        "card": card,
        "products": products,
        "torch_seconds": torch_seconds,
        "triton_seconds": triton_seconds,
    }


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (None, False),
        ([], False),
        ([line()], True),
        ([line(triton_seconds=2.1)], False),
        ([line(card="A")], False),
        ([line(products="float32")], False),
        ([line(card="A"), line(products="tf32"), line()], True),
    ],
)
def test_auto_is_what_was_measured(measured, lines, expected):
    measured(lines)
    assert choice.takes_triton("auto", "bf16", OnGPU()) == expected
    assert choice.takes_triton("triton", "bf16", OnGPU())
    assert not choice.takes_triton("torch", "bf16", OnGPU())
    assert not choice.takes_triton("triton", "bf16", OnGPU(torch.float64))


def test_the_file_that_is_shipped_is_one():
    lines = json.loads(choice.MEASURED.read_text("utf-8"))
    assert all(line().keys() <= one.keys() for one in lines)


def test_on_a_cpu_auto_is_torch(measured, monkeypatch):
    measured([line()])
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not choice.takes_triton("auto", "bf16", torch.zeros(2, 2))


@pytest.mark.parametrize("why", ["no triton", "no GPU"])
def test_triton_where_it_cannot_run_is_refused(monkeypatch, why):
    monkeypatch.setattr(choice, "has_triton", lambda: why == "no GPU")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(tiles, "CPU_TILE", 4)
    rows, labels = torch.randn(10, 3), torch.arange(10) % 2
    with pytest.raises(ValueError, match="a GPU and the package triton"):
        supervised_contrastive_loss(rows, labels, arithmetic=Arithmetic(kernel="triton"))
