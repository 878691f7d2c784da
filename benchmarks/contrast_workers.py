"""A contrastive loss over the rows of several workers, forward and backward, on the CPU over gloo.

    python -m benchmarks.contrast_workers NAME ROWS DIMENSION REPETITIONS WORLD

Starts the workers itself and prints the median seconds of the slowest.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from benchmarks.contrast_losses import TEMPERATURE, Loss, metric_learning
from scl_fairseq.distributed import RowGatherer
from scl_fairseq.losses import supervised_contrastive_loss


def ours() -> Loss:
    """What this package computes: own rows are anchors, everybody's are keys."""
    gather = RowGatherer()

    def loss(embeddings: Tensor, labels: Tensor) -> Tensor:
        found = gather(embeddings, labels)
        total = supervised_contrastive_loss(found.rows, found.labels, TEMPERATURE, "sum", found.own)
        return total / len(found.rows)

    return loss


def wrapped_metric_learning(efficient: bool) -> Callable[[], Loss]:
    """pytorch-metric-learning's, in its wrapper for several workers."""

    def make() -> Loss:
        from pytorch_metric_learning.utils.distributed import DistributedLossWrapper

        return DistributedLossWrapper(metric_learning(), efficient=efficient)

    return make


PEERS = {
    "scl-fairseq": ours,
    "pytorch-metric-learning, wrapper": wrapped_metric_learning(False),
    "pytorch-metric-learning, efficient wrapper": wrapped_metric_learning(True),
}


def worker(rank: int, world: int, store: str, name: str, numbers: list[int]) -> None:
    """One of them; the first writes what the slowest took beside the store."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    size, dimension, repetitions = numbers
    generator = torch.Generator().manual_seed(rank)
    embeddings = torch.randn(size, dimension, generator=generator).requires_grad_()
    labels = torch.arange(size) % 2
    loss = PEERS[name]()
    seconds = []
    for _ in range(repetitions + 1):
        embeddings.grad = None
        dist.barrier()
        started = time.perf_counter()
        loss(embeddings, labels).backward()
        seconds.append(time.perf_counter() - started)
    slowest = torch.tensor(seconds[1:])  # the first finds out how large batches are
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    if rank == 0:
        with open(f"{store}.seconds", "w", encoding="utf-8") as file:
            json.dump(statistics.median(slowest.tolist()), file, allow_nan=False)
    dist.destroy_process_group()


def main(name: str, size: str, dimension: str, repetitions: str, world: str) -> None:
    """Start the workers and wait for them."""
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        numbers = [int(size), int(dimension), int(repetitions)]
        mp.spawn(worker, (int(world), store, name, numbers), nprocs=int(world))
        with open(f"{store}.seconds", encoding="utf-8") as file:
            print(json.dumps({"seconds": json.load(file)}, allow_nan=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
