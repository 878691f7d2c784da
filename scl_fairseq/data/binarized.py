"""What a folder of binarised data holds, read without importing fairseq."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scl_fairseq.data.binarize import INDEX_MAGIC
from scl_fairseq.files import file_sha256
from scl_fairseq.text.description import REPORT
from scl_fairseq.text.dictionary import label_names

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
    paths = [folder / part / "dict.txt" for part in ("input0", "label")]
    num_examples = {}
    for split in splits:
        counts = set()
        is_labelled = needs_labels or has_labels(folder, split)
        for part in (*inputs, *(["label"] if is_labelled else [])):
            index, data = (folder / part / f"{split}.{kind}" for kind in ("idx", "bin"))
            for path in (index, data):
                if not path.is_file():
                    raise FileNotFoundError(f"{path} is missing")
            counts.add(_count(index))
            paths += [index, data]
        if len(counts) != 1:
            raise ValueError(f"{folder}: {split} has different numbers of inputs and labels")
        num_examples[split] = counts.pop()
        if is_labelled:
            _check_labels(folder / "label" / f"{split}.idx", num_examples[split])
        if num_examples[split] == 0:
            raise ValueError(f"{folder}: {split} has no examples")
    for path in paths[:2]:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
    labels = label_names(folder / "label" / "dict.txt")
    checksum = _checksum(folder, paths)
    return BinarizedData(folder, labels, len(inputs), num_examples, _bpe(folder), checksum)


def has_labels(folder: Path, split: str) -> bool:
    """Whether there are labels of a split; GLUE's test sets have none."""
    return any((folder / "label" / f"{split}.{kind}").exists() for kind in ("idx", "bin"))


def _bpe(folder: Path) -> str | None:
    try:
        return json.loads((folder / REPORT).read_text("utf-8"))["bpe"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _count(index: Path) -> int:
    with open(index, "rb") as file:
        header = file.read(_HEADER)
    if not header.startswith(INDEX_MAGIC) or len(header) < _HEADER:
        raise ValueError(f"{index} is no index of fairseq's mmap format")
    return struct.unpack("<QBQ", header[len(INDEX_MAGIC) :])[2]


def _check_labels(index: Path, count: int) -> None:
    """Refuse labels of several words: fairseq would take each word for a label."""
    with open(index, "rb") as file:
        file.seek(_HEADER)
        lengths = np.frombuffer(file.read(4 * count), np.int32)
    wrong = np.flatnonzero(lengths != 2)  # the label and </s>
    if len(wrong):
        row, words = wrong[0], lengths[wrong[0]] - 1
        raise ValueError(f"{index}: the label of row {row} has {words} words, expected one")


def _checksum(folder: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(file_sha256(path).encode())
    return digest.hexdigest()
