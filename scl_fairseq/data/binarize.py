"""The indexed data sets that fairseq reads, written without importing it.

The bytes are those of ``fairseq-preprocess --dataset-impl mmap``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

INDEX_MAGIC = b"MMIDIDX\x00\x00"
DTYPE_CODES = {np.dtype(np.uint16): 8, np.dtype(np.uint32): 9}


class IndexedWriter:
    """Writes ``prefix.bin`` as examples come, and ``prefix.idx`` when it is closed.

    Args:
        prefix: path without an ending; its folder is made.
        dtype: how an index is stored.
    """

    def __init__(self, prefix: Path, dtype: np.dtype):
        prefix.parent.mkdir(parents=True, exist_ok=True)
        self._prefix, self._dtype = prefix, dtype
        self._data = open(f"{prefix}.bin", "wb")  # noqa: SIM115 (closed by close)
        self._lengths: list[np.ndarray] = []

    def write(self, data: bytes, lengths: np.ndarray) -> None:
        """Append examples: their indices one after another, and how many each has (int32)."""
        if len(lengths):
            self._data.write(data)
            self._lengths.append(lengths)

    def close(self) -> None:
        """Write the index."""
        self._data.close()
        with open(f"{self._prefix}.idx", "wb") as index:
            count = sum(map(len, self._lengths))
            index.write(INDEX_MAGIC + struct.pack("<QBQ", 1, DTYPE_CODES[self._dtype], count))
            for lengths in self._lengths:
                index.write(lengths.tobytes())
            offset = 0
            for lengths in self._lengths:
                ends = offset + np.cumsum(lengths, dtype=np.int64) * self._dtype.itemsize
                index.write(np.concatenate(([offset], ends[:-1])).astype(np.int64).tobytes())
                offset = int(ends[-1])

    def abandon(self) -> None:
        """Close the file without an index."""
        self._data.close()


def join(rows: Sequence[bytes], itemsize: int) -> tuple[bytes, np.ndarray]:
    """Examples one after another, and the number of indices of each."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)) // itemsize
    return b"".join(rows), lengths.astype(np.int32)
