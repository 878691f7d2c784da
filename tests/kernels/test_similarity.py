"""The kernel in Triton equals explicit loops: in the interpreter on a CPU, as compiled on a GPU."""

import math

import pytest
import torch

from scl_fairseq.losses import supervised_contrastive_loss, tiles
from scl_fairseq.losses.precision import Arithmetic

similarity = pytest.importorskip(
    "scl_fairseq.kernels.similarity", reason="the package triton is not installed"
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TRITON = Arithmetic(kernel="triton")
# The interpreter's products of bf16 are wrong.
HALVES = [torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def rows(n, d, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(n, d, generator=generator)
    return (found / found.norm(dim=1, keepdim=True) * 0.3**-0.5).to(DEVICE, dtype)


def loop(left, right, offset):
    """exp(left . right) pair by pair in float64, 0 where a row meets itself."""
    left, right = left.double().tolist(), right.double().tolist()
    return torch.tensor(
        [
            [
                0.0 if r + offset == c else math.exp(sum(map(float.__mul__, one, other)))
                for c, other in enumerate(right)
            ]
            for r, one in enumerate(left)
        ],
        dtype=torch.float64,
    )


def assert_near(found, expected, dtype):
    error = (found.double().cpu() - expected).abs().max()
    assert error <= TOLERANCE[dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
# Less than a block, several with a rest, narrower and wider than what goes through at a time.
@pytest.mark.parametrize(("n", "d"), [(1, 3), (17, 8), (70, 33), (64, 64)])
def test_sums_of_a_symmetric_matrix(n, d, dtype):
    x = rows(n, d, dtype)
    found, of_columns = similarity.sums(x, x, 0, is_whole=True, is_mirrored=False)
    assert of_columns is None
    assert found.dtype == torch.float32
    assert_near(found, loop(x, x, 0).sum(dim=1), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("offset", [-60, -7, 0, 12, 100])
def test_sums_of_two_parts(dtype, is_mirrored, offset):
    left, right = rows(45, 20, dtype), rows(38, 20, dtype, seed=1)
    expected = loop(left, right, offset)
    of_rows, of_columns = similarity.sums(left, right, offset, False, is_mirrored)
    assert_near(of_rows, expected.sum(dim=1), dtype)
    if is_mirrored:
        assert_near(of_columns, expected.sum(dim=0), dtype)
    else:
        assert of_columns is None


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_shares(dtype, is_mirrored):
    left, right = rows(45, 20, dtype), rows(38, 20, dtype, seed=1)
    of_rows = torch.rand(45, device=DEVICE)
    of_columns = torch.rand(38, device=DEVICE) if is_mirrored else None
    scales = of_rows[:, None].double().cpu()
    if is_mirrored:
        scales = scales + of_columns.double().cpu()
    found = similarity.shares(left, right, of_rows, of_columns)
    assert found.dtype == dtype
    assert_near(found, loop(left, right, 1000) * scales, dtype)


@pytest.mark.parametrize("anchors", [None, slice(10, 75), slice(0, 1), slice(40, 40)])
def test_the_loss_by_the_kernel_is_that_by_torch(monkeypatch, anchors):
    """All rows and some as anchors, in several tiles with a rest."""
    monkeypatch.setattr(tiles, "CPU_TILE", 24)
    monkeypatch.setattr(tiles, "GPU_TILE", 24)
    x, labels = rows(90, 20, torch.float32), (torch.arange(90) % 4).to(DEVICE)
    sums = []
    monkeypatch.setattr(
        similarity, "sums", lambda *given, sums_=similarity.sums: sums.append(1) or sums_(*given)
    )
    found = []
    for arithmetic in (TRITON, Arithmetic(kernel="torch")):
        leaf = x.clone().requires_grad_()
        value = supervised_contrastive_loss(
            leaf, labels, 0.3, "sum", anchors, arithmetic=arithmetic
        )
        value.backward()
        found.append((value.item(), leaf.grad))
    assert bool(sums) == (anchors != slice(40, 40) and anchors != slice(0, 1))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert (found[0][1] - found[1][1]).norm() <= 1e-5 * found[1][1].norm()


def test_where_exponentials_have_no_bound_torch_computes(monkeypatch):
    monkeypatch.setattr(tiles, "CPU_TILE", 24)
    monkeypatch.setattr(similarity, "sums", None)
    x, labels = rows(60, 20, torch.float32), (torch.arange(60) % 4).to(DEVICE)
    by_kernel = supervised_contrastive_loss(x, labels, 0.01, arithmetic=TRITON)
    assert by_kernel == supervised_contrastive_loss(x, labels, 0.01)


def test_the_same_bits_each_time():
    x = rows(70, 33, torch.float32)
    first, _ = similarity.sums(x, x, 0, True, False)
    second, _ = similarity.sums(x, x, 0, True, False)
    assert torch.equal(first, second)
