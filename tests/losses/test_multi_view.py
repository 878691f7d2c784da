"""Several views against explicit loops, recorded values of another code, and identities."""

import json

import pytest
import torch
from torch.autograd import gradcheck

from scl_fairseq.losses import (
    anchor_losses,
    multi_view_contrastive_loss,
    supervised_contrastive_loss,
    tiles,
)
from scl_fairseq.losses.average_inside import anchor_losses_in
from tests.losses import reference

WITH_SINGLETONS = [0, 1, 0, 2, 1, 0, 3]
LABELS = {"singletons": WITH_SINGLETONS, "one class": [4] * 7, "none": None}


def drawn(n=7, views=2, width=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, views, width, generator=generator, dtype=dtype)


def flat_labels(labels, n, views):
    labels = range(n) if labels is None else labels
    return [label for label in labels for _ in range(views)]


def tensor(labels):
    return None if labels is None else torch.tensor(labels)


@pytest.mark.parametrize("average", ["out", "in"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("views", [1, 2, 4])
def test_loss_and_gradients_are_those_of_explicit_loops(views, labels, average):
    embeddings = drawn(views=views).requires_grad_()
    rows = embeddings.detach().flatten(0, 1).tolist()
    marked = flat_labels(labels, 7, views)
    expected, gradient = reference.loss_and_gradient(rows, marked, 0.2, average=average)
    loss = multi_view_contrastive_loss(embeddings, tensor(labels), 0.2, average, "sum")
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    torch.testing.assert_close(
        embeddings.grad.flatten(0, 1),
        torch.tensor(gradient, dtype=torch.float64),
        rtol=1e-9,
        atol=1e-12,
    )
    has_positives = labels is not None or views > 1
    assert (expected > 0.1) == has_positives


@pytest.mark.parametrize("average", ["out", "in"])
def test_reductions(average):
    embeddings = drawn(views=3)
    labels = torch.tensor(WITH_SINGLETONS)
    z = [reference.normalized(row) for row in embeddings.flatten(0, 1).tolist()]
    expected = reference.anchor_losses(z, flat_labels(WITH_SINGLETONS, 7, 3), 0.5, average)
    found = multi_view_contrastive_loss(embeddings, labels, 0.5, average, "none")
    assert found.shape == (7, 3)
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-12)
    mean = multi_view_contrastive_loss(embeddings, labels, 0.5, average)
    assert mean.item() == pytest.approx(sum(expected) / 21, rel=1e-12)


def test_one_view_is_the_supervised_contrastive_loss():
    embeddings = drawn(views=1, dtype=torch.float32)
    labels = torch.tensor(WITH_SINGLETONS)
    found = multi_view_contrastive_loss(embeddings, labels, 0.3, reduction="none")
    expected = supervised_contrastive_loss(embeddings[:, 0], labels, 0.3, "none")
    assert torch.equal(found[:, 0], expected)


def test_a_singleton_without_other_views_has_no_loss_and_stays_in_denominators():
    embeddings = drawn(views=1).requires_grad_()
    labels = torch.tensor(WITH_SINGLETONS)
    for average in ("out", "in"):
        losses = multi_view_contrastive_loss(embeddings, labels, 0.2, average, "none").flatten()
        assert losses[[3, 6]].tolist() == [0.0, 0.0]
        without = multi_view_contrastive_loss(embeddings[:6], labels[:6], 0.2, average, "none")
        assert losses[0] > without.flatten()[0]


def test_the_mean_inside_is_never_more_than_outside_and_the_same_for_one_positive():
    embeddings = drawn(n=6, views=3)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    outside, inside = (
        multi_view_contrastive_loss(embeddings, labels, 0.3, average, "none")
        for average in ("out", "in")
    )
    assert (inside < outside).all()
    pairs = [
        multi_view_contrastive_loss(embeddings[:, :2], None, 0.3, average, "none")
        for average in ("out", "in")
    ]
    torch.testing.assert_close(*pairs)


def recorded(shared_data):
    path = shared_data / "supcon_vectors" / "google_research_supcon.json"
    if not path.exists():
        pytest.skip("the recorded values are not at hand")
    return json.loads(path.read_text("utf-8"))["cases"]


def test_recorded_values_of_another_implementation(shared_data):
    """Features are not normalised there, so this is the function below the normalisation."""
    cases = recorded(shared_data)
    assert len(cases) >= 5
    for case in cases:
        features = torch.tensor(case["features"], dtype=torch.float64)
        n, views = features.shape[:2]
        labels = torch.tensor(case["labels"]).repeat_interleave(views)
        losses = anchor_losses(features.flatten(0, 1), labels, case["temperature"])
        each = losses.view(n, views).mean(dim=1)
        if "expected_per_sample" in case:
            assert each.tolist() == pytest.approx(case["expected_per_sample"], abs=case["tol"])
        elif "expected_mean" in case:
            assert each.mean().item() == pytest.approx(case["expected_mean"], abs=case["tol"])
        else:
            scaled = each.mean().item() * case["temperature"]
            expected = case["expected_mean_times_temperature"]
            assert scaled == pytest.approx(expected, abs=case["tol"])


@pytest.mark.parametrize("average", ["out", "in"])
@pytest.mark.parametrize("labels", [WITH_SINGLETONS, None], ids=["labels", "none"])
def test_a_memory_is_contrasted_with_and_gets_no_gradient(labels, average):
    embeddings = drawn(views=2).requires_grad_()
    memory = drawn(n=9, views=1, seed=1)[:, 0].requires_grad_()
    memory_labels = [0, 0, 3, 5, 1, 2, 2, 5, 0]
    rows = [*embeddings.detach().flatten(0, 1).tolist(), *memory.tolist()]
    marked = [*flat_labels(labels, 7, 2), *([-1] * 9 if labels is None else memory_labels)]
    expected, gradient = reference.loss_and_gradient(rows, marked, 0.2, range(14), average)
    given = None if labels is None else torch.tensor(memory_labels)
    loss = multi_view_contrastive_loss(
        embeddings, tensor(labels), 0.2, average, "sum", memory=memory, memory_labels=given
    )
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(
        embeddings.grad.flatten(0, 1), torch.tensor(gradient[:14], dtype=torch.float64)
    )
    assert memory.grad is None
    without = multi_view_contrastive_loss(embeddings, tensor(labels), 0.2, average, "sum")
    assert abs(without.item() - expected) > 0.1


def test_a_key_is_a_positive_where_its_label_says_so():
    """MoCo: each example's own class, whose key lies in the memory beside those of others."""
    embeddings, keys = drawn(views=1), drawn(views=1, seed=3)[:, 0]
    found = multi_view_contrastive_loss(
        embeddings, torch.arange(7), 0.2, "out", "sum", memory=keys, memory_labels=torch.arange(7)
    )
    z, k = (torch.nn.functional.normalize(rows, dim=-1) for rows in (embeddings[:, 0], keys))
    expected = 0.0
    for i in range(7):
        others = [z[i] @ z[j] for j in range(7) if j != i]
        scores = torch.stack([z[i] @ k[i], *(z[i] @ k[j] for j in range(7) if j != i), *others])
        expected += torch.nn.functional.cross_entropy(scores[None] / 0.2, torch.tensor([0])).item()
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("average", ["out", "in"])
def test_large_batches_are_the_same_function(monkeypatch, average):
    embeddings = drawn(n=40, views=2, dtype=torch.float32).requires_grad_()
    memory = drawn(n=50, views=1, seed=2, dtype=torch.float32)[:, 0]
    labels = torch.arange(40) % 5
    found = []
    for tile in (tiles.CPU_TILE, 16):
        monkeypatch.setattr(tiles, "CPU_TILE", tile)
        embeddings.grad = None
        loss = multi_view_contrastive_loss(
            embeddings, labels, 0.2, average, "sum", slice(3, 30), memory, torch.arange(50) % 7
        )
        loss.backward()
        found.append((loss.detach(), embeddings.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_the_mean_inside_of_a_large_batch_keeps_no_similarities(monkeypatch):
    monkeypatch.setattr(tiles, "CPU_TILE", 16)
    features, kept = drawn(n=256, views=1)[:, 0].requires_grad_(), []

    def keep(saved):
        kept.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        anchor_losses_in(features, torch.arange(256) % 4, 0.2)
    assert max(kept) <= 256 * 5


def test_gradients_by_finite_differences():
    embeddings = drawn(n=5, views=2, width=3).requires_grad_()
    labels = torch.tensor([0, 1, 0, 2, 1])
    for average in ("out", "in"):
        assert gradcheck(
            lambda e, average=average: multi_view_contrastive_loss(e, labels, 0.5, average),
            (embeddings,),
        )


def test_half_precision_is_computed_in_float32():
    embeddings = drawn(views=2).half().requires_grad_()
    memory = drawn(n=4, views=1)[:, 0].float()
    for average in ("out", "in"):
        loss = multi_view_contrastive_loss(embeddings, None, 0.01, average, memory=memory)
        assert loss.dtype == torch.float32
        loss.backward()
        assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"embeddings": torch.ones(4, 2)}, ValueError, r"\(N, V, D\).*got \(4, 2\)"),
        ({"embeddings": torch.ones(4, 0, 2)}, ValueError, r"got \(4, 0, 2\)"),
        ({"embeddings": torch.ones(4, 1, 2).int()}, TypeError, "floating point, got torch.int32"),
        ({"labels": torch.ones(3).int()}, ValueError, r"labels must have shape \(4,\).*\(3,\)"),
        ({"labels": torch.ones(4)}, TypeError, "labels must be integers, got torch.float32"),
        ({"average": "outside"}, ValueError, "one of out, in, got 'outside'"),
        ({"reduction": "max"}, ValueError, "got 'max'"),
        ({"temperature": 0.0}, ValueError, "greater than 0, got 0.0"),
        ({"anchors": slice(0, 9)}, ValueError, "anchors must be consecutive rows"),
        ({"memory": torch.ones(3, 5)}, ValueError, r"\(K, 2\).*got \(3, 5\)"),
        ({"memory": torch.ones(3, 2)}, ValueError, r"memory_labels.*\(3,\), got None"),
        (
            {"memory": torch.ones(3, 2), "memory_labels": torch.ones(2).long()},
            ValueError,
            r"\(3,\), got \(2,\)",
        ),
    ],
)
def test_bad_input_is_named(changes, error, message):
    arguments = {"embeddings": torch.ones(4, 1, 2), "labels": torch.tensor([0, 0, 1, 1])}
    for average in ("out", "in"):
        with pytest.raises(error, match=message):
            multi_view_contrastive_loss(**{**arguments, "average": average, **changes})
