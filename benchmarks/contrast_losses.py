"""One contrastive loss, forward and backward, in a process of its own: prints seconds and bytes.

    python -m benchmarks.contrast_losses NAME N DIMENSION DEVICE DTYPE [GRADIENT]

Embeddings are random, of two classes. Of two times, on a GPU of four, the last is told, as of an
update amid a training; memory is what was held at most beyond embeddings and labels.
The gradient is written to GRADIENT, where that is given, for a comparison. The name ``product`` is
no loss, but one matrix product of as many operations as this package's loss has.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.device import WARM_UP, kind_of, median_seconds, seconds
from scl_fairseq.losses import supervised_contrastive_loss

TEMPERATURE = 0.3
Loss = Callable[[Tensor, Tensor], Tensor]


def plain(embeddings: Tensor, labels: Tensor) -> Tensor:
    """The formula over a matrix of all similarities, as it is usually written."""
    features = torch.nn.functional.normalize(embeddings.float(), dim=1)
    similarities = features @ features.T / TEMPERATURE
    own = torch.eye(len(features), dtype=torch.bool, device=features.device)
    positive = (labels[:, None] == labels[None]) & ~own
    log_shares = torch.log_softmax(similarities.masked_fill(own, float("-inf")), dim=1)
    sums = log_shares.masked_fill(~positive, 0).sum(dim=1)
    return -(sums / positive.sum(dim=1).clamp(min=1)).mean()


def ours(embeddings: Tensor, labels: Tensor) -> Tensor:
    """What this package computes."""
    return supervised_contrastive_loss(embeddings, labels, TEMPERATURE)


def metric_learning() -> Loss:
    """pytorch-metric-learning's."""
    from pytorch_metric_learning.losses import SupConLoss

    return SupConLoss(temperature=TEMPERATURE)


# How each loss is made.
PEERS: dict[str, Callable[[], Loss]] = {
    "scl-fairseq": lambda: ours,
    "plain N × N": lambda: plain,
    "pytorch-metric-learning": metric_learning,
}


def operations(size: int, dimension: int) -> float:
    """Floating-point operations of this package's products: twice an N x N x D product.

    Half the matrix forward, the same half again in backward, and its two products with the rows.
    """
    return 2 * 2 * size**2 * dimension


def measure(
    name: str, size: int, dimension: int, device: str, dtype: str, gradient: str | None = None
) -> dict[str, float]:
    """Seconds and extra bytes of forward and backward."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(size, dimension, generator=generator)
    embeddings = embeddings.to(device, getattr(torch, dtype)).requires_grad_()
    labels = (torch.arange(size) % 2).to(device)
    loss = PEERS[name]()
    warm_up = embeddings.detach()[:256].clone().requires_grad_()
    loss(warm_up, labels[:256]).backward()
    warm_up = None

    def step() -> None:
        embeddings.grad = None
        loss(embeddings, labels).backward()

    before = held(device)
    for _ in range(WARM_UP[kind_of(device)]):
        seconds(step, device)
    found = {"extra_bytes": peak(device) - before, "seconds": seconds(step, device)}
    if gradient:
        torch.save(embeddings.grad.float().cpu(), gradient)
    return found


def product(size: int, dimension: int, device: str, dtype: str) -> dict[str, float]:
    """Seconds that as many operations as the loss of this size has take as one matrix product.

    In ``dtype``, of random numbers.
    """
    rows = min(size, 4096 if device == "cpu" else 16384)
    left = torch.randn(rows, dimension, device=device).to(getattr(torch, dtype))
    right = torch.randn(dimension, rows, device=device).to(left.dtype)
    out = left @ right
    repetitions = 8

    def products() -> None:
        for _ in range(repetitions):
            torch.mm(left, right, out=out)

    took = median_seconds(products, device, 1)
    share = repetitions * 2 * rows**2 * dimension / operations(size, dimension)
    return {"seconds": took / share, "extra_bytes": 0}


def held(device: str) -> int:
    """Bytes held now."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak(device: str) -> int:
    """The most bytes held so far."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(name: str, size: str, dimension: str, *rest: str) -> dict[str, float]:
    """What was measured of one."""
    function = product if name == "product" else lambda *how: measure(name, *how)
    return function(int(size), int(dimension), *rest)


if __name__ == "__main__":
    print(json.dumps(measured(*sys.argv[1:]), allow_nan=False))
