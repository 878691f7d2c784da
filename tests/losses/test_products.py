"""Products of tiles: what torch's own operator gives, whichever way they are computed."""

import pytest
import torch

from scl_fairseq.losses import products


@pytest.fixture(params=["as it is here", "without oneDNN"])
def way(request, monkeypatch):
    if request.param == "without oneDNN":
        monkeypatch.setattr(products, "_has_onednn", False)


def matrices(rows, inner, columns, dtype):
    generator = torch.Generator().manual_seed(rows + inner + columns)
    left = torch.randn(rows, inner, generator=generator, dtype=torch.float64)
    right = torch.randn(columns, inner, generator=generator, dtype=torch.float64)
    return left.to(dtype), right.to(dtype)


SHAPES = [(1, 1, 1), (1, 5, 3), (7, 3, 1), (64, 48, 33), (130, 257, 65)]
# Of the terms' size: a sum of so many float32 products is no more exact.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_times_transposed(way, shape, dtype):
    left, right = matrices(*shape, dtype)
    found = products.times_transposed(left, right)
    assert found.dtype == dtype
    expected = torch.einsum("rk,ck->rc", left.double(), right.double())
    assert (found.double() - expected).abs().max() <= TOLERANCE[dtype] * shape[1] ** 0.5


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_add_product(way, shape, dtype, is_transposed):
    left, right = matrices(*shape, dtype)
    given = left.T.contiguous().T if is_transposed else left
    total = torch.full((shape[0] + 2, shape[2]), 3.0, dtype=dtype)
    products.add_product(total[1:-1], given, right.T.contiguous())
    expected = 3 + torch.einsum("rk,ck->rc", left.double(), right.double())
    assert (total[1:-1].double() - expected).abs().max() <= TOLERANCE[dtype] * shape[1] ** 0.5
    assert (total[[0, -1]] == 3).all()


def test_a_torch_without_the_operator_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not products._onednn_works()
    monkeypatch.undo()

    def refuse(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", refuse)
    assert not products._onednn_works()
