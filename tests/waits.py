"""Where a computation waits for a GPU.

On a GPU torch itself tells. On a CPU operations are looked at that a GPU's host would have to wait
for: those whose result, or its size, depends on the numbers in a tensor. Copies between devices
are not seen there.
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ASKS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
MASKS = (torch.bool, torch.uint8)
INDEXING = ("index", "index_put", "index_put_", "_unsafe_index")
READING = ("tolist", "numpy", "cpu")  # which a CPU does without an operation
OWN = str(Path(__file__))
TORCH = str(Path(torch.__file__).parent)


@contextlib.contextmanager
def waits(device: str = "cpu") -> Iterator[list[str]]:
    """A list that is filled with the places, ``folder/file.py:line``, each as often as it waits."""
    with (_on_a_gpu if device == "cuda" else _on_a_cpu)() as places:
        yield places


def ours(places: list[str]) -> list[str]:
    """The files of this package among them."""
    return [place.split(":")[0] for place in places if place.startswith("scl_fairseq/")]


@contextlib.contextmanager
def _on_a_gpu() -> Iterator[list[str]]:
    places: list[str] = []
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for one in seen:
        if "synchroniz" in str(one.message):
            places.append(_short(one.filename, one.lineno))


@contextlib.contextmanager
def _on_a_cpu() -> Iterator[list[str]]:
    places: list[str] = []

    def noting(original):
        def read(*args, **kwargs):
            places.append(_place())
            return original(*args, **kwargs)

        return read

    with contextlib.ExitStack() as stack:
        for name in READING:
            original = getattr(torch.Tensor, name)
            stack.enter_context(mock.patch.object(torch.Tensor, name, noting(original)))
        stack.enter_context(_Operations(places))
        yield places


class _Operations(TorchDispatchMode):
    def __init__(self, places: list[str]):
        super().__init__()
        self._places = places

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if _asks(func, args, kwargs or {}):
            self._places.append(_place())
        return func(*args, **(kwargs or {}))


def _asks(func, args, kwargs) -> bool:
    name = func._schema.name.removeprefix("aten::")
    if name in INDEXING:
        return any(index is not None and index.dtype in MASKS for index in args[1])
    if name == "repeat_interleave" and kwargs.get("output_size") is not None:
        return False
    return bool(ASKS.intersection(func.tags))


def _place() -> str:
    """The innermost line that is neither torch's nor this file's."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith((TORCH, OWN)) and frame.f_back is not None:
        frame = frame.f_back
    return _short(frame.f_code.co_filename, frame.f_lineno)


def _short(filename: str, line: int) -> str:
    return f"{'/'.join(Path(filename).parts[-3:])}:{line}"
