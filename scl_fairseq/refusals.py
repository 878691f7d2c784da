"""What fairseq raises for files that do not suit it, told in one line."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence

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
_MOST_LISTED = 20


class NotFiniteError(ValueError):
    """Outputs of a model are NaN or infinite.

    Attributes:
        index: of the first example that has such outputs.
    """

    def __init__(self, index: int, message: str = "its outputs are not finite"):
        super().__init__(f"example {index + 1}: {message}")
        self.index = index


def one_line(error: Exception) -> str:
    """What an error says, at most so long that it can stand within a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def listed(names: Sequence[str]) -> str:
    """Names for a message, of many the first."""
    shown = ", ".join(names[:_MOST_LISTED])
    return shown if len(names) <= _MOST_LISTED else f"{shown}, ... ({len(names)} in all)"
