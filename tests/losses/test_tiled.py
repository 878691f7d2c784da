"""Large batches: the same function as the matrix of all similarities, tile by tile."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq.losses import supervised_contrastive, supervised_contrastive_loss

from . import reference


@pytest.fixture
def tiles_of(monkeypatch):
    """``tiles_of(n)``: every batch is computed in tiles of n rows."""

    def set_tile(rows):
        monkeypatch.setattr(supervised_contrastive, "_is_large", lambda *_: True)
        monkeypatch.setattr(supervised_contrastive, "tile_for", lambda device: rows)

    return set_tile


def make_batch(n, d, classes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return embeddings.to(dtype), torch.randint(classes, (n,), generator=generator)


def value_and_gradient(embeddings, labels, temperature, anchors=None):
    leaf = embeddings.clone().requires_grad_()
    value = supervised_contrastive_loss(leaf, labels, temperature, "sum", anchors)
    value.backward()
    return value.item(), leaf.grad


def assert_matches_reference(embeddings, labels, temperature, anchors):
    value, gradient = value_and_gradient(embeddings, labels, temperature, anchors)
    expected, rows = reference.loss_and_gradient(
        embeddings.tolist(), labels.tolist(), temperature, range(anchors.start, anchors.stop)
    )
    assert abs(value - expected) <= 1e-12 * max(1, abs(expected))
    expected_gradient = torch.tensor(rows, dtype=torch.float64)
    assert ((gradient - expected_gradient).abs() <= 1e-10 * expected_gradient.abs().clamp(1)).all()


batches = {
    "n": st.integers(1, 24),
    "d": st.integers(1, 8),
    "classes": st.integers(1, 26),
    "temperature": st.floats(0.01, 10),
    "seed": st.integers(0, 2**31),
    "duplicated": st.booleans(),
    "zero_row": st.booleans(),
    "ends": st.tuples(st.floats(0, 1), st.floats(0, 1)),
}


def drawn(n, d, classes, seed, duplicated, zero_row, ends):
    embeddings, labels = make_batch(n, d, classes, seed)
    if duplicated:
        embeddings[-1] = embeddings[0]
    if zero_row:
        embeddings[n // 2] = 0
    start, stop = sorted(round(n * end) for end in ends)
    return embeddings, labels, slice(start, stop)


@settings(max_examples=150, deadline=None)
@given(**batches, tile=st.integers(1, 30), has_others=st.booleans())
def test_tiles_equal_the_double_loop(tile, temperature, has_others, n, **batch):
    embeddings, labels, anchors = drawn(n, **batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised_contrastive, "_is_large", lambda *_: True)
        patch.setattr(supervised_contrastive, "tile_for", lambda device: tile)
        chosen = anchors if has_others else slice(0, n)
        assert_matches_reference(embeddings, labels, temperature, chosen)


@settings(max_examples=100, deadline=None)
@given(**batches)
def test_some_anchors_among_all_rows_equal_the_double_loop(temperature, n, **batch):
    embeddings, labels, anchors = drawn(n, **batch)
    assert_matches_reference(embeddings, labels, temperature, anchors)


# Exponentials are added as they are from 0.025 on, below they would leave the range of float32.
@pytest.mark.parametrize("temperature", [0.01, 0.0249, 0.0251, 0.3])
@pytest.mark.parametrize("size", [520, 2100])
def test_what_is_chosen_by_size_is_the_same_function(size, temperature):
    """Float32, past the size up to which there is one matrix; the last tiles are small."""
    embeddings, labels = make_batch(size, 48, 5, seed=size, dtype=torch.float32)
    assert supervised_contrastive._is_large(slice(0, size), embeddings)
    value, gradient = value_and_gradient(embeddings, labels, temperature)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised_contrastive, "_is_large", lambda *_: False)
        dense_value, dense = value_and_gradient(embeddings, labels, temperature)
    assert value == pytest.approx(dense_value, rel=1e-5)
    assert (gradient - dense).norm() <= 1e-5 * dense.norm()


# Terms as large as 40 cancel, in float32 those of one matrix leave no more digits either.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("temperature", [0.0251, 0.1])
def test_rows_that_are_far_from_all_others(temperature, dtype, tolerance):
    """Both ends of the range: one anchor's largest similarity is the smallest there can be."""
    embeddings = torch.ones(600, 6, dtype=dtype)
    embeddings[7] = -1
    labels = torch.arange(600) % 2
    value, gradient = value_and_gradient(embeddings, labels, temperature)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised_contrastive, "_is_large", lambda *_: False)
        dense_value, dense = value_and_gradient(embeddings.double(), labels, temperature)
    assert value == pytest.approx(dense_value, rel=tolerance)
    assert (gradient - dense).abs().max() <= tolerance


def test_small_batches_stay_as_they_were(monkeypatch):
    def fail(*_):
        raise AssertionError("tiles for a small batch")

    monkeypatch.setattr(supervised_contrastive.TiledAnchorLosses, "apply", fail)
    value_and_gradient(*make_batch(512, 4, 3, seed=0), 0.3)
    with pytest.raises(AssertionError, match="tiles for a small batch"):
        value_and_gradient(*make_batch(513, 4, 3, seed=0), 0.3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-4, 1, 1e4])
def test_half_precision_is_widened(tiles_of, dtype, scale):
    embeddings, labels = make_batch(40, 16, 3, seed=3)
    half = (embeddings * scale).to(dtype)
    expected, expected_gradient = value_and_gradient(half.float(), labels, 0.1)
    tiles_of(7)
    value, gradient = value_and_gradient(half, labels, 0.1)
    assert gradient.dtype == dtype
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, expected_gradient.to(dtype), rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_norms_outside_of_float32(tiles_of, scale):
    embeddings, labels = make_batch(20, 8, 2, seed=4, dtype=torch.float32)
    tiles_of(6)
    value, gradient = value_and_gradient(embeddings, labels, 0.3)
    scaled_value, scaled = value_and_gradient(embeddings * scale, labels, 0.3)
    assert scaled_value == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(scaled * scale, gradient, rtol=1e-4, atol=1e-6)


def test_gradients_of_gradients_are_refused_rather_than_wrong(tiles_of):
    tiles_of(5)
    embeddings, labels = make_batch(12, 4, 2, seed=5)
    leaf = embeddings.requires_grad_()
    value = supervised_contrastive_loss(leaf, labels)
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_backward_twice_through_one_graph(tiles_of, temperature):
    """Tiles that were kept for backward are still what they were after it."""
    tiles_of(5)
    embeddings, labels = make_batch(12, 16, 2, seed=5)
    leaf = embeddings.requires_grad_()
    value = supervised_contrastive_loss(leaf, labels, temperature)
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    (second,) = torch.autograd.grad(value, leaf)
    assert torch.equal(first, second)


def test_no_matrix_of_all_similarities_is_made():
    """Nothing as large as N x N is allocated, in forward or backward."""
    embeddings, labels = make_batch(6000, 8, 4, seed=6, dtype=torch.float32)
    leaf = embeddings.requires_grad_()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        supervised_contrastive_loss(leaf, labels).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest < 6000 * 6000 * 4 / 4


@pytest.mark.parametrize(
    "anchors", [slice(0, 9), slice(3, 2), slice(-2, 4), slice(0, 8, 2), slice(1, None)]
)
def test_anchors_that_do_not_fit_are_refused(anchors):
    embeddings, labels = make_batch(8, 4, 2, seed=7)
    with pytest.raises(ValueError, match="anchors must be consecutive rows of 8"):
        supervised_contrastive_loss(embeddings, labels, anchors=anchors)


@pytest.mark.parametrize("is_large", [False, True])
def test_no_anchor_at_all_has_a_gradient_of_zero(tiles_of, is_large):
    """An idle worker's share: it must still take part in backward."""
    if is_large:
        tiles_of(3)
    embeddings, labels = make_batch(8, 4, 2, seed=8)
    for reduction in ("sum", "mean"):
        leaf = embeddings.clone().requires_grad_()
        value = supervised_contrastive_loss(leaf, labels, 0.3, reduction, slice(5, 5))
        value.backward()
        assert value.item() == 0
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))
