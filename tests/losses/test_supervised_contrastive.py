import json
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq.losses import anchor_losses, supervised_contrastive_loss

from . import reference


def make_batch(n, d, classes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, d, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    return embeddings.to(dtype), labels


def assert_matches_reference(embeddings, labels, temperature):
    leaf = embeddings.clone().requires_grad_()
    value = supervised_contrastive_loss(leaf, labels, temperature, reduction="sum")
    value.backward()
    expected, gradient = reference.loss_and_gradient(
        embeddings.tolist(), labels.tolist(), temperature
    )
    assert abs(value.item() - expected) <= 1e-12 * max(1, abs(expected))
    expected_gradient = torch.tensor(gradient, dtype=torch.float64)
    bound = 1e-10 * expected_gradient.abs().clamp(min=1)
    assert ((leaf.grad - expected_gradient).abs() <= bound).all()


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 24),
    d=st.integers(1, 12),
    classes=st.integers(1, 26),
    temperature=st.floats(0.01, 10),
    seed=st.integers(0, 2**31),
    duplicated=st.booleans(),
    zero_row=st.booleans(),
)
def test_value_and_gradient_equal_the_double_loop(
    n, d, classes, temperature, seed, duplicated, zero_row
):
    embeddings, labels = make_batch(n, d, classes, seed)
    if duplicated:
        embeddings[-1] = embeddings[0]
    if zero_row:
        embeddings[n // 2] = 0
    assert_matches_reference(embeddings, labels, temperature)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 10.0])
@pytest.mark.parametrize(
    "labels",
    [[0], [0, 1, 2, 3], [5, 5, 5, 5], [0, 0, 1], [1, 0, 1, 0, 2, 1], [0, 0]],
    ids=["one row", "only singletons", "one class", "a singleton", "mixed", "one pair"],
)
def test_named_label_sets_equal_the_double_loop(labels, temperature):
    embeddings, _ = make_batch(len(labels), 5, 2, seed=7)
    assert_matches_reference(embeddings, torch.tensor(labels), temperature)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_gradcheck(temperature):
    embeddings, labels = make_batch(9, 4, 3, seed=1)
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda e: supervised_contrastive_loss(e, labels, temperature), (embeddings,)
    )


def test_reductions_agree():
    embeddings, labels = make_batch(10, 4, 3, seed=2)
    each = supervised_contrastive_loss(embeddings, labels, reduction="none")
    assert each.shape == (10,)
    expected = reference.anchor_losses(
        [reference.normalized(row) for row in embeddings.tolist()], labels.tolist(), 0.3
    )
    torch.testing.assert_close(each, torch.tensor(expected, dtype=torch.float64))
    total = supervised_contrastive_loss(embeddings, labels, reduction="sum")
    mean = supervised_contrastive_loss(embeddings, labels, reduction="mean")
    torch.testing.assert_close(total, each.sum())
    torch.testing.assert_close(mean, each.sum() / 10)


def test_singletons_contribute_zero_but_stay_in_denominator_and_count():
    embeddings, _ = make_batch(4, 3, 1, seed=3)
    labels = torch.tensor([0, 0, 1, 2])
    each = supervised_contrastive_loss(embeddings, labels, reduction="none")
    assert each[2] == 0
    assert each[3] == 0
    without = supervised_contrastive_loss(embeddings[:2], labels[:2], reduction="none")
    assert (each[:2] > without).all()  # two rows alone: the positive is the whole denominator
    torch.testing.assert_close(
        supervised_contrastive_loss(embeddings, labels), each[:2].sum() / 4, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("labels", [[0], [0, 1, 2]])
@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_no_positive_gives_exact_zero_on_a_connected_graph(labels, temperature):
    embeddings = torch.randn(len(labels), 4, requires_grad=True)
    loss = supervised_contrastive_loss(embeddings, torch.tensor(labels), temperature)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_zero_row_gets_gradient_exactly_zero_and_others_stay_finite():
    embeddings, labels = make_batch(6, 4, 2, seed=4, dtype=torch.float32)
    embeddings[2] = 0
    embeddings.requires_grad_()
    supervised_contrastive_loss(embeddings, labels, 0.01).backward()
    assert torch.equal(embeddings.grad[2], torch.zeros(4))
    assert embeddings.grad.isfinite().all()
    assert embeddings.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("dtype", "rounding"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8), (torch.float32, 0)]
)
@pytest.mark.parametrize("temperature", [0.01, 0.3, 10.0])
def test_narrow_inputs_are_computed_in_float32(dtype, rounding, temperature):
    embeddings, labels = make_batch(32, 64, 3, seed=5)
    narrow = embeddings.to(dtype).requires_grad_()
    value = supervised_contrastive_loss(narrow, labels, temperature)
    assert value.dtype == torch.float32
    value.backward()
    assert narrow.grad.isfinite().all()
    # What the rounded inputs stand for, in float64: only float32 arithmetic lies between.
    same = supervised_contrastive_loss(narrow.detach().double(), labels, temperature)
    assert abs(value.item() - same.item()) <= 2e-5 * max(1, same.item())
    # A relative change of each entry moves a cosine by at most twice that.
    exact = supervised_contrastive_loss(embeddings, labels, temperature)
    assert abs(value.item() - exact.item()) <= 4 * rounding / temperature + 2e-5 * max(
        1, exact.item()
    )


def test_half_precision_rows_beyond_the_square_root_of_its_range():
    embeddings, labels = make_batch(8, 16, 2, seed=6)
    for scale, dtype in [(1e4, torch.float16), (1e-7, torch.float16), (1e30, torch.float32)]:
        scaled = (embeddings * scale).to(dtype)
        expected = supervised_contrastive_loss(scaled.double(), labels)
        value = supervised_contrastive_loss(scaled, labels)
        assert value.item() == pytest.approx(expected.item(), abs=1e-5)


def test_autocast_does_not_reach_the_loss():
    embeddings, labels = make_batch(16, 32, 2, seed=8, dtype=torch.float32)
    plain = supervised_contrastive_loss(embeddings, labels, 0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = supervised_contrastive_loss(embeddings, labels, 0.01)
    assert torch.equal(plain, inside)


def test_invariances():
    embeddings, labels = make_batch(12, 6, 3, seed=9)
    value = supervised_contrastive_loss(embeddings, labels)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    relabelled = torch.tensor([-4, 10**12, 7])[labels]
    scales = torch.rand(12, 1, generator=torch.Generator().manual_seed(1)).double() * 1e6 + 1e-6
    for other in (
        supervised_contrastive_loss(embeddings[order], labels[order]),
        supervised_contrastive_loss(embeddings, relabelled),
        supervised_contrastive_loss(embeddings * scales, labels),
    ):
        torch.testing.assert_close(other, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [2, 5, 64])
@pytest.mark.parametrize("temperature", [0.01, 0.3, 10])
def test_equal_embeddings_give_log_n_minus_one(n, temperature):
    embeddings = torch.ones(n, 3, dtype=torch.float64) * 0.7
    value = supervised_contrastive_loss(embeddings, torch.zeros(n, dtype=torch.long), temperature)
    assert value.item() == pytest.approx(math.log(n - 1), abs=1e-12)


def test_recorded_supcon_values(shared_data):
    path = shared_data / "supcon_vectors" / "google_research_supcon.json"
    if not path.exists():
        pytest.skip("recorded SupCon values are not on this machine")
    for case in json.loads(path.read_text())["cases"]:
        features = torch.tensor(case["features"], dtype=torch.float64)
        n, views = features.shape[:2]
        labels = torch.tensor(case["labels"]).repeat_interleave(views)
        temperature = case["temperature"]
        losses = anchor_losses(features.flatten(0, 1), labels, temperature)
        per_sample = losses.reshape(n, views).mean(dim=1)
        if "expected_per_sample" in case:
            found, expected = per_sample, case["expected_per_sample"]
        elif "expected_mean" in case:
            found, expected = per_sample.mean(), case["expected_mean"]
        else:
            found = per_sample.mean() * temperature
            expected = case["expected_mean_times_temperature"]
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=0, atol=case["tol"], msg=case["name"])


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan, True, "0.3"])
def test_temperature_is_validated(temperature):
    with pytest.raises(ValueError, match="temperature.*got " + repr(temperature)):
        supervised_contrastive_loss(torch.randn(2, 3), torch.tensor([0, 0]), temperature)


@pytest.mark.parametrize(
    ("embeddings", "labels", "error", "message"),
    [
        (torch.randn(4), torch.zeros(4).long(), ValueError, r"\(4,\)"),
        (torch.randn(2, 3, 4), torch.zeros(2).long(), ValueError, r"\(2, 3, 4\)"),
        (torch.randn(0, 3), torch.zeros(0).long(), ValueError, r"\(0, 3\)"),
        (torch.randn(3, 2), torch.zeros(4).long(), ValueError, r"\(3,\).*\(4,\)"),
        (torch.randn(3, 2), torch.zeros(3, 1).long(), ValueError, r"\(3, 1\)"),
        (torch.zeros(3, 2).long(), torch.zeros(3).long(), TypeError, "int64"),
        (torch.randn(3, 2), torch.zeros(3), TypeError, "float32"),
        (torch.randn(3, 2), torch.zeros(3).bool(), TypeError, "bool"),
    ],
)
def test_shapes_and_dtypes_are_validated(embeddings, labels, error, message):
    with pytest.raises(error, match=message):
        supervised_contrastive_loss(embeddings, labels)


def test_reduction_is_validated():
    with pytest.raises(ValueError, match="'avg'"):
        supervised_contrastive_loss(torch.randn(2, 3), torch.tensor([0, 0]), reduction="avg")


def test_importing_the_losses_imports_no_fairseq():
    code = "import sys, scl_fairseq.losses; sys.exit('fairseq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gpu_equals_cpu(dtype):
    embeddings, labels = make_batch(64, 128, 3, seed=10, dtype=dtype)
    expected = supervised_contrastive_loss(embeddings, labels, 0.1)
    value = supervised_contrastive_loss(embeddings.cuda(), labels.cuda(), 0.1).cpu()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
def test_labels_on_another_device_are_refused():
    with pytest.raises(ValueError, match="one device"):
        supervised_contrastive_loss(torch.randn(2, 3, device="cuda"), torch.tensor([0, 0]))
