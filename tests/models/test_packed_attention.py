"""Attention of packed tokens against loops over sentences and heads in float64."""

import pytest
import torch

from scl_fairseq.models.packed_attention import attend
from scl_fairseq.models.packing import find_packing

HEADS, WIDTH, SCALING = 3, 4, 0.7
BATCHES = {
    "ragged": [5, 1, 9, 5, 2, 30],
    "equal": [6, 6, 6],
    "one sentence": [11],
    "one token each": [1, 1, 1, 1],
    "one token": [1],
}


def case(lengths, in_groups, dtype=torch.float64):
    is_token = torch.arange(max(lengths) + 1) < torch.tensor(lengths)[:, None]
    packing = find_packing(is_token, in_groups)
    torch.manual_seed(len(lengths))
    parts = torch.randn(3, sum(lengths), HEADS * WIDTH, dtype=dtype).unbind()
    return packing, [part.clone().requires_grad_() for part in parts]


def by_loops(query, key, value, packing, first_only):
    """Token by token, in the order of packing."""
    sentences = (packing.index // packing.shape[1]).tolist()
    found = []
    for row in packing.first.tolist() if first_only else range(len(key)):
        others = [other for other, one in enumerate(sentences) if one == sentences[row]]
        heads = []
        for head in range(HEADS):
            part = slice(head * WIDTH, (head + 1) * WIDTH)
            scores = torch.stack([query[row, part] @ key[other, part] for other in others])
            weights = (scores * SCALING).exp() / (scores * SCALING).exp().sum()
            heads.append(sum(w * value[o, part] for w, o in zip(weights, others, strict=True)))
        found.append(torch.cat(heads))
    return torch.stack(found)


@pytest.mark.parametrize("in_groups", [True, False], ids=["groups", "ragged kernel"])
@pytest.mark.parametrize("first_only", [False, True], ids=["all", "first"])
@pytest.mark.parametrize("name", BATCHES)
def test_results_and_gradients(name, first_only, in_groups):
    packing, parts = case(BATCHES[name], in_groups)
    query, key, value = parts
    expected = by_loops(query, key, value, packing, first_only)
    weights = torch.randn_like(expected)
    expected_grads = torch.autograd.grad((expected * weights).sum(), parts)

    given = query.index_select(0, packing.first) if first_only else query
    found = attend(given, key, value, packing, HEADS, SCALING, 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    grads = torch.autograd.grad((found * weights).sum(), parts)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-12)


def test_dropped_weights_have_their_gradient():
    """By finite differences, under the same draws."""
    packing, parts = case([4, 2, 5, 5], in_groups=True)

    def attend_alike(*parts):
        torch.manual_seed(7)
        return attend(*parts, packing, HEADS, SCALING, 0.4)

    assert torch.autograd.gradcheck(attend_alike, parts)
    without = attend(*parts, packing, HEADS, SCALING, 0.0)
    assert not torch.allclose(attend_alike(*parts), without)


def test_dropout_keeps_the_mean():
    packing, (query, key, value) = case([3, 3, 2], in_groups=True)
    with torch.no_grad():
        expected = attend(query, key, value, packing, HEADS, SCALING, 0.0)
        drawn = [attend(query, key, value, packing, HEADS, SCALING, 0.3) for _ in range(4000)]
    assert (torch.stack(drawn).mean(dim=0) - expected).abs().max() < 0.1
    assert torch.stack(drawn).std(dim=0).min() > 0.01


def test_all_weights_dropped():
    packing, parts = case([3, 2], in_groups=True)
    found = attend(*parts, packing, HEADS, SCALING, 1.0)
    found.sum().backward()
    assert not any(tensor.any() for tensor in (found, *(part.grad for part in parts)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    packing, parts = case([5, 1, 9], in_groups=True)
    halves = [part.detach().to(dtype).requires_grad_() for part in parts]
    wide = [part.detach().double().requires_grad_() for part in halves]
    expected = by_loops(*wide, packing, False)
    found = attend(*halves, packing, HEADS, SCALING, 0.0)
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    assert (found - expected).abs().max() < 4 * eps * expected.abs().max()
    found.float().square().sum().backward()
    expected.square().sum().backward()
    for half, one in zip(halves, wide, strict=True):
        assert (half.grad - one.grad).abs().max() < 20 * eps * one.grad.abs().max()
