"""What a folder of binarised data holds, read without importing fairseq."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data.binarize import INDEX_MAGIC
from scl_fairseq.files import file_sha256

REPORT = "preprocess.json"


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


def open_binarized(folder: Path, splits: tuple[str, ...]) -> BinarizedData:
    """Look through a folder of binarised data with labels.

    Args:
        folder: as ``scl-preprocess`` or ``fairseq-preprocess`` wrote it.
        splits: those that must be there.

    Raises:
        FileNotFoundError: the folder, a dictionary or a split is missing.
        ValueError: a split is malformed, is empty, or lacks labels of some examples.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    inputs = ["input0", *(["input1"] if (folder / "input1").is_dir() else [])]
    paths = [folder / part / "dict.txt" for part in ("input0", "label")]
    num_examples = {}
    for split in splits:
        counts = set()
        for part in (*inputs, "label"):
            index, data = (folder / part / f"{split}.{kind}" for kind in ("idx", "bin"))
            for path in (index, data):
                if not path.is_file():
                    raise FileNotFoundError(f"{path} is missing")
            counts.add(_count(index))
            paths += [index, data]
        if len(counts) != 1:
            raise ValueError(f"{folder}: {split} has different numbers of inputs and labels")
        num_examples[split] = counts.pop()
        if num_examples[split] == 0:
            raise ValueError(f"{folder}: {split} has no examples")
    for path in paths[:2]:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
    lines = (folder / "label" / "dict.txt").read_text("utf-8").splitlines()
    # fairseq-preprocess pads dictionaries with words of its own.
    labels = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("madeupword")]
    checksum = _checksum(folder, paths)
    return BinarizedData(folder, labels, len(inputs), num_examples, _bpe(folder), checksum)


def _bpe(folder: Path) -> str | None:
    try:
        return json.loads((folder / REPORT).read_text("utf-8"))["bpe"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _count(index: Path) -> int:
    with open(index, "rb") as file:
        header = file.read(len(INDEX_MAGIC) + 17)
    if not header.startswith(INDEX_MAGIC) or len(header) < len(INDEX_MAGIC) + 17:
        raise ValueError(f"{index} is no index of fairseq's mmap format")
    return struct.unpack("<QBQ", header[len(INDEX_MAGIC) :])[2]


def _checksum(folder: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(file_sha256(path).encode())
    return digest.hexdigest()
