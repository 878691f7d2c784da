"""In which precision similarities are computed, and what stays as it is."""

from contextlib import contextmanager

import pytest
import torch

from scl_fairseq.losses import (
    info_nce_loss,
    multi_view_contrastive_loss,
    precision,
    supervised_contrastive_loss,
    tiles,
)
from scl_fairseq.losses.precision import Arithmetic

BF16, TF32 = Arithmetic("bf16"), Arithmetic("tf32")


def batch(kind, n, d, seed=0):
    """(n, d) rows of three classes, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64)
    labels = torch.arange(n) % 3
    if kind == "clustered":
        rows = 0.3 * rows + 2 * torch.randn(3, d, generator=generator, dtype=torch.float64)[labels]
    if kind == "in pairs":
        rows = rows[: n // 2].repeat_interleave(2, dim=0)
    return rows.float(), labels


def loop(rows, labels, temperature):
    """The mean loss in float64, an anchor at a time."""
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    total = 0.0
    for i in range(len(unit)):
        scores = (unit @ unit[i] / temperature).tolist()
        others = [k for k in range(len(unit)) if k != i]
        log_sum = torch.tensor([scores[k] for k in others], dtype=torch.float64).logsumexp(0)
        positives = [k for k in others if labels[k] == labels[i]]
        if positives:
            total += log_sum.item() - sum(scores[k] for k in positives) / len(positives)
    return total / len(unit)


@pytest.mark.parametrize("tile", [512, 32], ids=["one matrix", "tiles"])
@pytest.mark.parametrize("temperature", [0.3, 0.1, 0.05, 0.01])
@pytest.mark.parametrize("kind", ["spread", "clustered", "in pairs"])
def test_bf16_stays_near_the_loop_in_float64(monkeypatch, kind, temperature, tile):
    monkeypatch.setattr(tiles, "CPU_TILE", tile)
    rows, labels = batch(kind, 90, 384)
    expected = loop(rows, labels, temperature)
    found = supervised_contrastive_loss(rows, labels, temperature, arithmetic=BF16)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert found.item() != supervised_contrastive_loss(rows, labels, temperature).item()


@pytest.mark.parametrize("tile", [512, 32], ids=["one matrix", "tiles"])
def test_gradients_of_bf16_point_where_those_of_float64_do(monkeypatch, tile):
    """Where there is something to learn; of what is learnt, little but rounding is left."""
    monkeypatch.setattr(tiles, "CPU_TILE", tile)
    rows, labels = batch("spread", 90, 384)
    found = []
    for one, arithmetic in ((rows, BF16), (rows.double(), Arithmetic())):
        leaf = one.clone().requires_grad_()
        supervised_contrastive_loss(leaf, labels, 0.1, arithmetic=arithmetic).backward()
        found.append(leaf.grad.double())
    assert (found[0] - found[1]).norm() <= 1e-2 * found[1].norm()


def losses(arithmetic, dtype):
    rows, labels = batch("clustered", 40, 32)
    rows = rows.to(dtype)
    views = rows.view(20, 2, 32)
    yield supervised_contrastive_loss(rows, labels, arithmetic=arithmetic)
    yield info_nce_loss(rows[:20], rows[20:], arithmetic=arithmetic)
    for average in ("out", "in"):
        yield multi_view_contrastive_loss(views, labels[:20], 0.1, average, arithmetic=arithmetic)


@pytest.mark.parametrize("tile", [512, 16], ids=["one matrix", "tiles"])
def test_every_loss_takes_the_precision(monkeypatch, tile):
    monkeypatch.setattr(tiles, "CPU_TILE", tile)
    plain = list(losses(Arithmetic(), torch.float32))
    for one, other in zip(plain, losses(BF16, torch.float32), strict=True):
        assert one != other
        assert one.item() == pytest.approx(other.item(), rel=3e-3)
    # On a CPU tf32 is float32, and rows in float64 stay there.
    assert plain == list(losses(TF32, torch.float32))
    assert list(losses(Arithmetic(), torch.float64)) == list(losses(BF16, torch.float64))


def test_the_products_of_backward_are_in_the_same_precision(monkeypatch):
    """They run when the setting of the process is in force again."""
    seen = []

    @contextmanager
    def record(device, is_allowed):
        seen.append(is_allowed)
        yield

    monkeypatch.setattr(precision, "tf32_allowed", record)
    left, right = (batch("spread", 8, 5, seed)[0].requires_grad_() for seed in (0, 1))
    for products, is_allowed in (("float32", False), ("bf16", True), ("tf32", True)):
        seen.clear()
        precision._Similarities.apply(left, right, products).sum().backward()
        assert seen == [is_allowed] * 3


# What users may have set, in torch's older words and in its newer ones.
def set_legacy(is_allowed):
    torch.backends.cuda.matmul.allow_tf32 = is_allowed


def set_by_name(is_allowed):
    torch.set_float32_matmul_precision("high" if is_allowed else "highest")


def set_anew(is_allowed):
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has no such setting")
    torch.backends.cuda.matmul.fp32_precision = "tf32" if is_allowed else "ieee"


@pytest.fixture
def restored():
    yield
    set_legacy(False)


@pytest.mark.parametrize("is_allowed", [False, True])
@pytest.mark.parametrize("set_tf32", [set_legacy, set_by_name, set_anew])
def test_tf32_is_what_was_asked_for_and_then_as_it_was(restored, set_tf32, is_allowed):
    device = torch.device("cuda")
    set_tf32(is_allowed)
    assert precision._is_tf32(device) == is_allowed
    for wanted in (True, False):
        with precision.tf32_allowed(device, wanted):
            assert precision._is_tf32(device) == wanted
        assert precision._is_tf32(device) == is_allowed
    with pytest.raises(ZeroDivisionError), precision.tf32_allowed(device, not is_allowed):
        1 / 0  # noqa: B018
    assert precision._is_tf32(device) == is_allowed


@pytest.mark.parametrize("arithmetic", [Arithmetic("fp16"), Arithmetic(kernel="cuda")])
def test_what_is_no_way_to_compute_is_refused(arithmetic):
    rows, labels = batch("spread", 6, 4)
    wrong = "'fp16'" if arithmetic.products == "fp16" else "'cuda'"
    with pytest.raises(ValueError, match=wrong):
        supervised_contrastive_loss(rows, labels, arithmetic=arithmetic)


@pytest.mark.gpu
@pytest.mark.parametrize("is_allowed", [False, True])
def test_on_a_gpu_float32_is_float32_whatever_is_allowed(restored, is_allowed):
    set_legacy(is_allowed)
    for size in (64, 5000):
        rows, labels = batch("clustered", size, 256)
        expected = rows.double().requires_grad_()
        supervised_contrastive_loss(expected, labels, 0.1).backward()
        errors = {}
        for products in precision.PRODUCTS:
            leaf = rows.cuda().requires_grad_()
            loss = supervised_contrastive_loss(
                leaf, labels.cuda(), 0.1, arithmetic=Arithmetic(products)
            )
            loss.backward()
            error = (leaf.grad.cpu() - expected.grad).norm() / expected.grad.norm()
            errors[products] = error.item()
        assert errors["float32"] < 1e-5 < errors["tf32"] < errors["bf16"] < 2e-2
