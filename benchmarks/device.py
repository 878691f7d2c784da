"""Timing on a CPU and on a GPU, what the device is, and where its results go."""

from __future__ import annotations

import functools
import gc
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
# On a GPU the first calls load kernels, take memory and make an optimizer's state.
WARM_UP = {"cuda": 3, "cpu": 1}


def kind_of(device: str) -> str:
    """``cuda`` or ``cpu``."""
    return device.partition(":")[0]


def seconds(function: Callable[[], object], device: str) -> float:
    """What a call takes; on a GPU between two events."""
    if kind_of(device) == "cpu":
        started = time.perf_counter()
        function()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def median_seconds(function: Callable[[], object], device: str, times: int) -> float:
    """Median of some calls, after the device's warm-up."""
    for _ in range(WARM_UP[kind_of(device)]):
        function()
    return statistics.median(seconds(function, device) for _ in range(times))


@functools.cache
def matrix_rate(device: str, dtype: torch.dtype, side: int | None = None) -> float:
    """Operations a second of a large matrix product: the best of ten, of random numbers.

    Of equal numbers a GPU draws less power and keeps a higher clock than of those it is for.
    """
    side = side or (8192 if kind_of(device) == "cuda" else 2048)
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    out = left @ right

    def product() -> None:
        torch.mm(left, right, out=out)

    for _ in range(WARM_UP[kind_of(device)]):
        product()
    return 2 * side**3 / min(seconds(product, device) for _ in range(10))


def clear(device: str) -> None:
    """Give back memory that nothing holds."""
    gc.collect()
    if kind_of(device) == "cuda":
        torch.cuda.empty_cache()


def described(device: str) -> str:
    """The device for people: a card with driver and CUDA, or a CPU with its cores."""
    if kind_of(device) == "cpu":
        return (
            f"CPU ({platform.machine()}), {os.cpu_count()} cores, {torch.get_num_threads()} threads"
        )
    return f"{torch.cuda.get_device_name()}, driver {driver()}, CUDA {torch.version.cuda}"


@functools.cache
def driver() -> str:
    """Version of NVIDIA's driver, as its own command tells it."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.splitlines()[0].strip()


def result_file(name: str, device: str, further: str = "") -> Path:
    """Where a benchmark's results go: a GPU's never over a CPU's."""
    suffix = f"-cuda{further}" if kind_of(device) == "cuda" else ""
    return RESULTS / f"{name}{suffix}.md"
