"""fairseq's checkpoints as data: read whole, or refused in one line."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What fairseq raises when it takes a file for a checkpoint that is none, or is of something else.
UNFIT = (
    RuntimeError,  # a broken checkpoint, tensors of another shape
    pickle.UnpicklingError,  # globals that are not safe
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    AssertionError,
    EOFError,
    struct.error,
)
_LONGEST_SHOWN = 300  # characters of an error of fairseq's


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Contents of a checkpoint in today's terms: ``cfg`` and ``model`` are there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, not safe to load, or none of fairseq's.
    """
    from fairseq import checkpoint_utils

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        if state["cfg"].get("task") is None or not isinstance(state["model"], Mapping):
            raise TypeError("it has no task or no weights")
    except UNFIT as error:
        message = one_line(error)
        if str(path) not in message:
            message = f"{path} is no fairseq checkpoint ({message})"
        raise ValueError(message) from error
    except OSError as error:  # in a short rest of a file torch seeks to where there is nothing
        raise ValueError(f"{path} is truncated or damaged: {one_line(error)}") from error
    state["args"] = None  # of older files; fairseq has put them into cfg too
    return state


def one_line(error: Exception) -> str:
    """What an error says, at most so long that it can stand within a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
