"""The gather by itself, over gloo: what arrives, in which order, and where gradients go."""

import pytest
import torch
import torch.distributed as dist

from scl_fairseq.distributed import RowGatherer
from tests import forked

WIDTH = 5
COUNTS = ((3, 3), (4, 1), (0, 2), (2, 0), (1, 0, 3))


def rows_of(rank, count, dtype=torch.float32):
    generator = torch.Generator().manual_seed(100 + rank)
    return torch.randn(count, WIDTH, generator=generator).to(dtype)


def labels_of(rank, count):
    return torch.arange(count) + 10 * rank - (1 << 40)  # past 32 bits


def weight(rank, size):
    """What worker ``rank`` multiplies all rows with: different everywhere."""
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(size, WIDTH, generator=generator)


def worker(rank, meeting, counts, dtype, path):
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=len(counts)
    )
    gather = RowGatherer()
    for _ in range(2):  # the second time it knows how large batches are
        rows = rows_of(rank, counts[rank], dtype).requires_grad_()
        found = gather(rows, labels_of(rank, counts[rank]))
        (found.rows * weight(rank, len(found.rows))).sum().backward()
    own = (found.own.start, found.own.stop)
    torch.save((found.rows.detach(), found.labels, own, rows.grad), path)
    dist.destroy_process_group()


@pytest.fixture
def gathered(tmp_path):
    """``gathered(counts)``: what each of so many workers found."""

    def run(counts, dtype=torch.float32):
        meeting = tmp_path / "meeting"  # no port, which others could take
        meeting.unlink(missing_ok=True)
        paths = [tmp_path / f"{rank}.pt" for rank in range(len(counts))]
        calls = [(rank, meeting, counts, dtype, path) for rank, path in enumerate(paths)]
        forked.run_together(worker, calls, [path.with_suffix(".log") for path in paths])
        found = [torch.load(path) for path in paths]
        return [(rows, labels, slice(*own), grad) for rows, labels, own, grad in found]

    return run


@pytest.mark.parametrize("counts", COUNTS)
def test_rows_labels_and_gradients(counts, gathered):
    size = sum(counts)
    all_rows = torch.cat([rows_of(rank, count) for rank, count in enumerate(counts)])
    all_labels = torch.cat([labels_of(rank, count) for rank, count in enumerate(counts)])
    gradient = sum(weight(rank, size) for rank in range(len(counts)))
    start = 0
    for count, (rows, labels, own, grad) in zip(counts, gathered(counts), strict=True):
        assert torch.equal(rows, all_rows)
        assert torch.equal(labels, all_labels)
        assert own == slice(start, start + count)
        torch.testing.assert_close(grad, gradient[own])
        start += count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype, gathered):
    for rank, (rows, _, own, grad) in enumerate(gathered((3, 2), dtype)):
        assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        sent = rows_of(rank, len(rows[own]), dtype)
        assert torch.equal(rows[own].to(dtype), sent)
        assert grad.dtype == dtype
        expected = (weight(0, 5) + weight(1, 5))[own].to(dtype)
        torch.testing.assert_close(grad, expected)
