"""InfoNCE against explicit loops, and against sentence-transformers' loss."""

import math

import pytest
import torch

from scl_fairseq.losses import info_nce, info_nce_loss, tiles


def loops(queries, candidates, positives, temperature):
    """The printed formula, pair by pair in float64."""
    losses = []
    for query, positive in zip(queries, positives, strict=True):
        similarities = [
            float(query @ row / query.norm() / row.norm()) / temperature for row in candidates
        ]
        total = math.log(sum(math.exp(value) for value in similarities))
        losses.append(total - similarities[positive])
    return losses


def rows(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
def test_equals_loops(temperature):
    queries, candidates = rows(6, 5), rows(9, 5, seed=1)
    positives = torch.tensor([3, 0, 8, 8, 1, 5])
    found = info_nce_loss(queries, candidates, positives, temperature, "none")
    expected = loops(queries, candidates, positives.tolist(), temperature)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    for reduction, value in (("sum", sum(expected)), ("mean", sum(expected) / 6)):
        loss = info_nce_loss(queries, candidates, positives, temperature, reduction)
        assert float(loss) == pytest.approx(value, abs=1e-12)
    assert torch.equal(
        info_nce_loss(queries, candidates), info_nce_loss(queries, candidates, torch.arange(6))
    )


def test_gradients_are_those_of_the_formula():
    """Against the derivative written out, and against finite differences."""
    queries, candidates = rows(4, 3).requires_grad_(), rows(7, 3, seed=1).requires_grad_()
    positives = torch.tensor([0, 6, 2, 2])
    info_nce_loss(queries, candidates, positives, 0.2, "sum").backward()
    of_queries, of_candidates = torch.zeros(4, 3).double(), torch.zeros(7, 3).double()
    for i in range(4):
        q = queries[i].detach()
        unit = q / q.norm()
        others = candidates.detach() / candidates.detach().norm(dim=1, keepdim=True)
        weights = torch.softmax(others @ unit / 0.2, dim=0)
        for j in range(7):
            pull = (weights[j] - float(j == positives[i])) / 0.2
            of_queries[i] += pull * (others[j] - (others[j] @ unit) * unit) / q.norm()
            across = unit - (unit @ others[j]) * others[j]
            of_candidates[j] += pull * across / candidates[j].detach().norm()
    assert torch.allclose(queries.grad, of_queries, atol=1e-10)
    assert torch.allclose(candidates.grad, of_candidates, atol=1e-10)
    assert torch.autograd.gradcheck(
        lambda q, c: info_nce_loss(q, c, positives, 0.2, "none"), (queries, candidates)
    )


def test_equals_sentence_transformers():
    """``MultipleNegativesRankingLoss`` at its scale of 20, with hard negatives too."""
    losses = pytest.importorskip("sentence_transformers.losses")
    theirs = losses.MultipleNegativesRankingLoss(model=None, scale=20.0)
    columns = [rows(64, 32, seed=seed, dtype=torch.float32) for seed in range(3)]
    columns[1] += columns[0]
    for count in (2, 3):
        ours = [part.clone().requires_grad_() for part in columns[:count]]
        others = [part.clone().requires_grad_() for part in columns[:count]]
        found = info_nce_loss(ours[0], torch.cat(ours[1:]), temperature=0.05)
        expected = theirs.compute_loss_from_embeddings(others, labels=None)
        assert float(found) == pytest.approx(float(expected), abs=1e-5)
        found.backward()
        expected.backward()
        for one, other in zip(ours, others, strict=True):
            assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_many_rows_go_in_blocks(monkeypatch):
    queries, candidates = rows(50, 8), rows(70, 8, seed=1)
    positives = torch.randperm(70)[:50]

    def run():
        given = [part.clone().requires_grad_() for part in (queries, candidates)]
        losses = info_nce_loss(*given, positives, 0.1, "none")
        losses.square().sum().backward()
        return [losses.detach(), *(part.grad for part in given)]

    whole, blocks = run(), []
    one_block = info_nce._block
    monkeypatch.setattr(tiles, "CPU_TILE", 20)
    monkeypatch.setattr(
        info_nce, "_block", lambda rows, *rest: blocks.append(len(rows)) or one_block(rows, *rest)
    )
    for one, other in zip(whole, run(), strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    assert max(blocks) == 400 // 70


def test_half_precision_and_zero_rows():
    queries, candidates = rows(8, 16, dtype=torch.float16), rows(8, 16, dtype=torch.float16)
    queries[2] = 0
    queries.requires_grad_()
    loss = info_nce_loss(queries, candidates, temperature=0.01)
    assert loss.dtype == torch.float32
    loss.backward()
    assert torch.isfinite(queries.grad).all()
    assert (queries.grad[2] == 0).all()


def test_autocast_leaves_the_products_in_full_precision():
    queries, candidates = (rows(8, 16, seed=seed, dtype=torch.float32) for seed in (0, 1))
    alone = info_nce_loss(queries, candidates, temperature=0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce_loss(queries, candidates, temperature=0.01), alone)


def test_no_query_is_zero_and_part_of_the_graph():
    queries, candidates = rows(0, 4).requires_grad_(), rows(3, 4).requires_grad_()
    for reduction in ("sum", "mean"):
        loss = info_nce_loss(queries, candidates, reduction=reduction)
        loss.backward()
        assert float(loss.detach()) == 0
        assert (candidates.grad == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((rows(3, 4), rows(3, 5)), r"got \(3, 4\) and \(3, 5\)"),
        ((rows(3, 4), rows(2, 4)), "one of 2 candidates for each of 3 queries"),
        ((rows(3, 4), rows(3, 4), torch.arange(2)), "one of 3 candidates for each of 3"),
        ((rows(3, 4), rows(3, 4), None, 0.0), "temperature must be a finite number"),
        ((rows(3, 4), rows(3, 4), None, 0.1, "total"), "reduction must be one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        info_nce_loss(*arguments)
