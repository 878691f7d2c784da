"""The loss alone, to N = 262,144: its rate beside a plain product's, tiles, precisions, kernels."""

from __future__ import annotations

import torch

from benchmarks import contrast_losses
from benchmarks.device import clear, matrix_rate, median_seconds, seconds
from benchmarks.gpu.check import Check
from scl_fairseq.kernels.choice import has_triton
from scl_fairseq.losses import supervised_contrastive_loss, tiles
from scl_fairseq.losses.precision import PRODUCTS, Arithmetic, tf32_allowed

MIN_SHARE, MEMORY_LIMIT = 0.5, 4e9
WIDTH = 1024


def run(check: Check) -> None:
    """All of them."""
    width, sizes, largest, compared = (
        (32, [600], 700, 600) if check.dry else (WIDTH, [8192, 65536], 262_144, 32_768)
    )
    rates = {products: rate(check, products, width) for products in PRODUCTS}
    for size in sizes:
        for products in PRODUCTS:
            measure(check, rates, size, width, products)
        peers(check, size, width)
    for products in PRODUCTS:
        kernels(check, compared, width, products)
    scan(check, compared, width)
    for products in ("bf16", "tf32", "float32"):
        limited(check, rates, largest, width, products)


def rate(check: Check, products: str, width: int) -> float:
    """Operations a second of a plain product in this precision, from a matrix of that width."""
    dtype = torch.bfloat16 if products == "bf16" else torch.float32
    with tf32_allowed(torch.device(check.device), products == "tf32"):
        matrix_rate.cache_clear()
        found = matrix_rate(check.device, dtype, 256 if check.dry else None)
    check.add("product", products=products, tflops=found / 1e12)
    return found


def step_of(check: Check, size: int, width: int, arithmetic: Arithmetic):
    """Forward and backward of random rows of two classes."""
    generator = torch.Generator(check.device).manual_seed(0)
    rows = torch.randn(size, width, generator=generator, device=check.device).requires_grad_()
    labels = torch.arange(size, device=check.device) % 2

    def step() -> None:
        rows.grad = None
        supervised_contrastive_loss(rows, labels, 0.3, arithmetic=arithmetic).backward()

    return step


def measure(check: Check, rates: dict[str, float], size: int, width: int, products: str) -> None:
    """One size in one precision."""
    about = {"N": size, "products": products}
    if not check.has_time("loss_time", 5, **about):
        return
    with check.part("loss_time", **about):
        if not check.dry:
            torch.cuda.reset_peak_memory_stats()
        step = step_of(check, size, width, Arithmetic(products, "torch"))
        took = median_seconds(step, check.device, 3)
        # Forward once and backward twice an N x N x D product, as the formula without tricks has.
        of_rate = 6 * size**2 * width / took / rates[products]
        extra = {} if check.dry else {"peak_gb": torch.cuda.max_memory_allocated() / 1e9}
        check.add("loss_time", **about, seconds=took, of_product_rate=of_rate, **extra)


def limited(check: Check, rates: dict[str, float], size: int, width: int, products: str) -> None:
    """The largest size under a limit of memory."""
    about = {"N": size, "products": products}
    if not check.has_time("loss_limited", 15 if not check.dry else 1, **about):
        return
    with check.part("loss_limited", **about):
        clear(check.device)
        if not check.dry:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(MEMORY_LIMIT / total)
            torch.cuda.reset_peak_memory_stats()
        try:
            step = step_of(check, size, width, Arithmetic(products, "torch"))
            step()  # one warms up: it has thousands of tiles
            took = seconds(step, check.device)
            share = 6 * size**2 * width / took / rates[products]
            peak = 0 if check.dry else torch.cuda.max_memory_allocated()
            ok = check.dry or (share >= MIN_SHARE and peak < MEMORY_LIMIT)
            check.add(
                "loss_limited", **about, ok=ok, seconds=took, of_product_rate=share,
                least=MIN_SHARE, peak_gb=peak / 1e9,
            )  # fmt: skip
        finally:
            if not check.dry:
                torch.cuda.set_per_process_memory_fraction(1.0)


def peers(check: Check, size: int, width: int) -> None:
    """The plain formula and pytorch-metric-learning, where their matrices fit."""
    for name in list(contrast_losses.PEERS)[1:]:
        about = {"N": size, "loss": name}
        if size > 2**14:
            check.add("loss_peer", **about, skipped="matrices of all similarities do not fit")
        elif check.has_time("loss_peer", 5, **about):
            with check.part("loss_peer", **about):
                found = contrast_losses.measure(name, size, width, check.device, "float32")
                check.add("loss_peer", **about, **found)


def kernels(check: Check, size: int, width: int, products: str) -> None:
    """Triton's kernel beside torch; what is faster is used from then on, see ``--record``."""
    about = {"N": size, "products": products}
    if check.dry or not has_triton():
        check.add("kernel", **about, skipped="Triton's interpreter is timed for nothing"
                  if check.dry else "the package triton is not installed")  # fmt: skip
        return
    if not check.has_time("kernel", 6, **about):
        return
    with check.part("kernel", **about):
        found = {
            f"{kernel}_seconds": median_seconds(
                step_of(check, size, width, Arithmetic(products, kernel)), check.device, 3
            )
            for kernel in ("torch", "triton")
        }
        card = torch.cuda.get_device_name()
        check.add("kernel", **about, card=card, torch=torch.__version__, **found)


def scan(check: Check, size: int, width: int) -> None:
    """Seconds by the rows of a tile."""
    name = "CPU_TILE" if check.dry else "GPU_TILE"
    before = getattr(tiles, name)
    try:
        for rows in (256, 512) if check.dry else (2048, 4096, 8192):
            for products in ("float32", "bf16"):
                about = {"rows": rows, "N": size, "products": products}
                if not check.has_time("tile", 5, **about):
                    continue
                with check.part("tile", **about):
                    setattr(tiles, name, rows)
                    step = step_of(check, size, width, Arithmetic(products, "torch"))
                    check.add("tile", **about, seconds=median_seconds(step, check.device, 3))
    finally:
        setattr(tiles, name, before)
