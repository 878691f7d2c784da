"""The weights of a Hugging Face folder: one file or shards, safetensors or an older pickle."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scl_fairseq.files import read_json

# The first that is there is taken: a pickle only where there is nothing else.
SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"


def find_weights(folder: Path) -> tuple[Path, ...]:
    """The files that hold a folder's weights, and in front of shards their index.

    Raises:
        ValueError: there are none, or a shard is missing.
    """
    for name in (SAFETENSORS, PICKLE):
        if (folder / name).is_file():
            return (folder / name,)
        index = folder / (name + INDEX)
        if index.is_file():
            shards = sorted(set(_weight_map(index).values()))
            missing = [shard for shard in shards if not (folder / shard).is_file()]
            if missing:
                raise ValueError(f"{index} names {missing[0]}, which is not there")
            return (index, *(folder / shard for shard in shards))
    raise ValueError(f"{folder} holds no {SAFETENSORS}")


def read_weights(paths: tuple[Path, ...]) -> dict[str, Tensor]:
    """The tensors of the files that :func:`find_weights` found.

    Raises:
        ValueError: a file is damaged, holds anything but tensors, or not what the index says.
    """
    first, *shards = paths
    if not shards:
        return _read(first)
    weight_map = _weight_map(first)
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        stored = _read(shard)
        expected = {name for name, file in weight_map.items() if file == shard.name}
        if wrong := sorted(expected ^ stored.keys()):
            fault = "lacks" if wrong[0] in expected else "holds besides what its index names"
            raise ValueError(f"{shard} {fault} {wrong[0]}")
        tensors |= stored
    return tensors


def read_pickle(path: Path) -> Any:
    """Read what ``torch.save`` wrote, with ``weights_only``: nothing in it can run.

    Raises:
        ValueError: the file is damaged, or needs more than tensors and plain data.
        OSError: it cannot be read.
    """
    try:
        # Mapping leaves the tensors on the disk; files in torch's older format cannot be mapped.
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        # torch's own message goes on to recommend reading without weights_only.
        refused = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
        if refused:
            raise ValueError(
                f"{path} refers to {refused[1]}, which weights do not need; nothing in it was run"
            ) from None
        reason = re.search(r"Unpickler error: (.+)", str(error))
        raise ValueError(
            f"{path} cannot be read: {reason[1] if reason else 'not what torch.save writes'}"
        ) from None
    except Exception as error:  # what torch raises for a damaged file depends on where it ends
        if isinstance(error, OSError) and error.filename:
            raise
        # Of these, only what the reader of archives says is said in words.
        reason = f": {_first_line(error)}" if isinstance(error, RuntimeError) else ""
        raise ValueError(f"{path} is truncated, damaged or no checkpoint{reason}") from error


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    stored = read_pickle(path)
    if not isinstance(stored, dict) or not all(isinstance(t, Tensor) for t in stored.values()):
        raise ValueError(f"{path} holds something else than named tensors")
    return stored


def _weight_map(index: Path) -> dict[str, str]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index} has no weight_map")
    for file in names.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise ValueError(f"{index}: {file!r} is no name of a file beside it")
    return names


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
