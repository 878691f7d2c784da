"""A matrix of vectors written row by row, in memory that does not grow: .npy or .safetensors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

HEADER_BYTES = 128  # both formats allow spaces behind what the header says
KEY = "embeddings"


class VectorFile:
    """Rows of float32 that come block by block; their number is known only at the end.

    Args:
        file: a binary file that is empty and can be sought in.
        kind: ``npy``, or ``safetensors`` with the rows as ``embeddings``.
    """

    def __init__(self, file: BinaryIO, kind: str):
        self._file, self._kind = file, kind
        self._rows, self._width = 0, 0
        file.write(bytes(HEADER_BYTES))

    def write(self, vectors: np.ndarray) -> None:
        """Append rows, (n, width)."""
        self._file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        self._rows += len(vectors)
        self._width = vectors.shape[1]

    def finish(self) -> None:
        """Write what comes first: how many rows there are."""
        self._file.seek(0)
        self._file.write(self._npy() if self._kind == "npy" else self._safetensors())
        self._file.seek(0, os.SEEK_END)

    def _npy(self) -> bytes:
        shape = (self._rows, self._width)
        about = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
        return start + about.encode().ljust(HEADER_BYTES - 11) + b"\n"

    def _safetensors(self) -> bytes:
        end = self._rows * self._width * 4
        about = {"dtype": "F32", "shape": [self._rows, self._width], "data_offsets": [0, end]}
        text = json.dumps({KEY: about}, separators=(",", ":"), allow_nan=False).encode()
        return (HEADER_BYTES - 8).to_bytes(8, "little") + text.ljust(HEADER_BYTES - 8)


def kind_of(path: Path) -> str:
    """``npy`` or ``safetensors``, by the ending of a name.

    Raises:
        ValueError: it ends otherwise.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in ("npy", "safetensors"):
        raise ValueError(f"--output {path}: expected a name that ends with .npy or .safetensors")
    return kind
