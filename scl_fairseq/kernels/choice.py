"""Whether a kernel in Triton is used: where it was measured faster, or where it is asked for."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import torch

# What `python -m benchmarks.gpu --record` measured: a list of objects with card, products and the
# seconds of both. A card that is not in it has torch's kernels.
MEASURED = Path(__file__).with_name("measured.json")


def check_runs() -> None:
    """Raise ``ValueError`` unless Triton's kernels can run on some device here."""
    if not has_triton() or not (torch.cuda.is_available() or is_interpreted()):
        raise ValueError("kernel triton needs a GPU and the package triton")


def takes_triton(kernel: str, products: str, rows: torch.Tensor) -> bool:
    """Whether Triton's kernel computes similarities of these rows.

    Args:
        kernel: ``auto``, ``torch`` or ``triton``.
        products: ``float32``, ``tf32`` or ``bf16``.
        rows: (N, D); in float64 they are torch's in any case.

    Raises:
        ValueError: ``triton`` is asked for where it cannot run.
    """
    if kernel == "torch" or rows.dtype == torch.float64:
        return False
    can_run = has_triton() and (rows.device.type == "cuda" or is_interpreted())
    if kernel == "triton":
        if not can_run:
            raise ValueError("kernel triton needs a GPU and the package triton")
        return True
    if rows.device.type != "cuda" or not can_run:
        return False
    return is_faster(torch.cuda.get_device_name(rows.device), products)


@functools.cache
def has_triton() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("triton") is not None


def is_interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, on a CPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


@functools.cache
def is_faster(card: str, products: str) -> bool:
    """Whether Triton's kernel was measured to be faster than torch on this card."""
    found = json.loads(MEASURED.read_text("utf-8")) if MEASURED.is_file() else []
    return any(
        one["triton_seconds"] < one["torch_seconds"]
        for one in found
        if (one["card"], one["products"]) == (card, products)
    )


def similarity_kernels() -> ModuleType:
    """The kernels, imported when they are first needed."""
    from scl_fairseq.kernels import similarity

    return similarity
