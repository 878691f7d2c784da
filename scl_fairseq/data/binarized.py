"""What a folder of binarised data holds, read without importing fairseq."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scl_fairseq.data.binarize import INDEX_MAGIC
from scl_fairseq.files import file_sha256
from scl_fairseq.text.description import INPUT, LABELS, REPORT, read_description
from scl_fairseq.text.dictionary import label_names, read_dictionary

# fairseq's codes of whole numbers; it writes uint16 and int32, and reads all.
_DTYPES = {
    **{1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64},
    **{8: np.uint16, 9: np.uint32, 10: np.uint64},
}
_HEADER = len(INDEX_MAGIC) + 17  # bytes of an index before the lengths of its rows


@dataclass(frozen=True)
class BinarizedData:
    """A folder that ``sentence_prediction`` reads.

    Attributes:
        folder: where it is.
        labels: class names in the order of their indices.
        num_inputs: sentences of an example, 1 or 2.
        num_examples: split to number of examples.
        bpe: its encoding, where ``scl-preprocess`` has noted it.
        sha256: of all that the splits and dictionaries hold.
    """

    folder: Path
    labels: list[str]
    num_inputs: int
    num_examples: dict[str, int]
    bpe: str | None
    sha256: str


def open_binarized(
    folder: Path, splits: tuple[str, ...], needs_labels: bool = True
) -> BinarizedData:
    """Look through a folder of binarised data.

    Args:
        folder: as ``scl-preprocess`` or ``fairseq-preprocess`` wrote it.
        splits: those that must be there.
        needs_labels: refuse splits without labels.

    Raises:
        FileNotFoundError: the folder, a dictionary or a split is missing.
        ValueError: a split is malformed, is empty, or lacks labels of some examples; a label has
            several words.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    inputs = ["input0", *(["input1"] if (folder / "input1").is_dir() else [])]
    paths = [folder / INPUT, folder / LABELS]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
    tokens = read_dictionary(paths[0]).size_in_models
    symbols_of = {**dict.fromkeys(inputs, tokens), "label": read_dictionary(paths[1]).size}
    num_examples = {}
    for split in splits:
        counts = set()
        is_labelled = needs_labels or has_labels(folder, split)
        for part in (*inputs, *(["label"] if is_labelled else [])):
            index, data = (folder / part / f"{split}.{kind}" for kind in ("idx", "bin"))
            for path in (index, data):
                if not path.is_file():
                    raise FileNotFoundError(f"{path} is missing")
            counts.add(len(_check_split(index, data, symbols_of[part])))
            paths += [index, data]
        if len(counts) != 1:
            raise ValueError(f"{folder}: {split} has different numbers of inputs and labels")
        num_examples[split] = counts.pop()
        if num_examples[split] == 0:
            raise ValueError(f"{folder}: {split} has no examples")
    labels = label_names(folder / LABELS)
    checksum = _checksum(folder, paths)
    return BinarizedData(folder, labels, len(inputs), num_examples, _bpe(folder), checksum)


def default_split(folder: Path, needs_labels: bool = True) -> str:
    """The split that commands evaluate: test, or valid where test is not there or has no labels.

    Args:
        folder: binarised data.
        needs_labels: a test set without labels does not do.
    """
    has_test = (folder / "input0" / "test.idx").is_file()
    if has_test and (has_labels(folder, "test") or not needs_labels):
        return "test"
    return "valid" if (folder / "input0" / "valid.idx").is_file() else "test"


def has_labels(folder: Path, split: str) -> bool:
    """Whether there are labels of a split; GLUE's test sets have none."""
    return any((folder / "label" / f"{split}.{kind}").exists() for kind in ("idx", "bin"))


def _bpe(folder: Path) -> str | None:
    return read_description(folder / REPORT).get("bpe")


def _check_split(index: Path, data: Path, symbols: int) -> np.ndarray:
    """Refuse files that fairseq would misread, or fail of; returns the lengths of the rows.

    fairseq would also take each word of a label of several for a label.
    """
    lengths, dtype = _read_index(index)
    if data.stat().st_size != lengths.sum(dtype=np.int64) * dtype.itemsize:
        raise ValueError(f"{data} does not have the size that {index.name} tells: it is damaged")
    stored = np.fromfile(data, dtype)
    wrong = np.flatnonzero((stored < 0) | (stored >= symbols))
    if len(wrong):
        row = int(np.searchsorted(np.cumsum(lengths), wrong[0], side="right"))
        raise ValueError(f"{data}: row {row} has symbol {stored[wrong[0]]}, of {symbols} there are")
    long = np.flatnonzero(lengths != 2) if index.parent.name == "label" else []
    if len(long):
        row, words = long[0], lengths[long[0]] - 1
        raise ValueError(f"{index}: the label of row {row} has {words} words, expected one")
    return lengths


def _read_index(index: Path) -> tuple[np.ndarray, np.dtype]:
    """Lengths of the rows, (R,) int32, and how a symbol is stored."""
    content = index.read_bytes()
    if not content.startswith(INDEX_MAGIC) or len(content) < _HEADER:
        raise ValueError(f"{index} is no index of fairseq's mmap format")
    version, code, count = struct.unpack("<QBQ", content[len(INDEX_MAGIC) : _HEADER])
    if version == 1 and code in _DTYPES and len(content) == _HEADER + 12 * count:
        dtype = np.dtype(_DTYPES[code])
        lengths = np.frombuffer(content, np.int32, count, _HEADER)
        offsets = np.frombuffer(content, np.int64, count, _HEADER + 4 * count)
        ends = np.cumsum(lengths, dtype=np.int64) * dtype.itemsize
        if (lengths > 0).all() and np.array_equal(offsets[1:], ends[:-1]):
            return lengths, dtype
    raise ValueError(f"{index} is damaged: its rows are not one after another")


def _checksum(folder: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(file_sha256(path).encode())
    return digest.hexdigest()
