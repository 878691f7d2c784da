"""What fairseq raises for files that do not suit it, told in one line."""

from __future__ import annotations

import pickle
import struct

# When it takes a file for a checkpoint that is none, or is of something else.
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


def one_line(error: Exception | str) -> str:
    """What an error says, at most so long that it can stand within a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
