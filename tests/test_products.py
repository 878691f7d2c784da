"""Products of matrices: what torch's own operator gives, whichever way they are computed."""

import pytest
import torch

from scl_fairseq import products


@pytest.fixture(params=["as it is here", "without oneDNN"])
def way(request, monkeypatch):
    if request.param == "without oneDNN":
        monkeypatch.setattr(products, "_has_onednn", False)


def matrices(rows, inner, columns, dtype):
    generator = torch.Generator().manual_seed(rows + inner + columns)
    left = torch.randn(rows, inner, generator=generator, dtype=torch.float64)
    right = torch.randn(columns, inner, generator=generator, dtype=torch.float64)
    return left.to(dtype), right.to(dtype)


SHAPES = [(1, 1, 1), (1, 5, 3), (7, 3, 1), (64, 48, 33), (130, 257, 65), (4, 0, 3)]
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


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_is_the_module(way, dtype):
    torch.manual_seed(0)
    for bias in (True, False):
        module = torch.nn.Linear(7, 5, bias=bias).to(dtype)
        x = torch.randn(3, 4, 7, dtype=dtype)
        expected = x @ module.weight.T
        expected = expected + module.bias if bias else expected
        torch.testing.assert_close(products.linear(module, x), expected)


@pytest.mark.parametrize("is_strided", [False, True])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 5), (1, 5), (0, 5)])
def test_affine_has_the_gradients_of_the_sums(way, shape, has_bias, is_strided):
    """Against sums in float64."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), torch.randn(6, 5), torch.randn(6)
    given = [part.requires_grad_() for part in (x, weight, bias)]
    wide = [part.detach().double().requires_grad_() for part in given]
    expected = (wide[0][..., None, :] * wide[1]).sum(dim=-1) + (wide[2] if has_bias else 0)
    found = products.affine(x, weight, bias if has_bias else None)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    grad = torch.randn(*shape[:-1], 6)
    if is_strided:
        grad = torch.stack([grad, grad], dim=-1)[..., 0]
    found.backward(grad)
    expected.backward(grad.double())
    for one, other in zip(given, wide, strict=True):
        if other.grad is None:
            assert one.grad is None
            continue
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient(way, frozen):
    given = [torch.randn(3, 5), torch.randn(6, 5), torch.randn(6)]
    for index, part in enumerate(given):
        part.requires_grad_(index != frozen)
    products.affine(*given).sum().backward()
    assert [part.grad is None for part in given] == [index == frozen for index in range(3)]


@torch.no_grad()
def test_linear_runs_hooks_and_other_modules(way):
    module, x = torch.nn.Linear(7, 5), torch.ones(2, 7)
    hook = module.register_forward_hook(lambda module, args, output: output + 1)
    torch.testing.assert_close(products.linear(module, x), module(x))
    hook.remove()
    torch.nn.utils.spectral_norm(module)
    module.eval()
    module.weight_orig *= 3  # the hook takes the norm's share of it
    torch.testing.assert_close(products.linear(module, x), module(x))
    doubled = torch.nn.Sequential(module, module.__class__(5, 5))
    torch.testing.assert_close(products.linear(doubled, x), doubled(x))
