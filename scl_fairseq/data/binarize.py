"""Write text as the indexed data sets that fairseq's ``sentence_prediction`` task reads.

The bytes are those of ``fairseq-preprocess --dataset-impl mmap``, made without importing fairseq.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from scl_fairseq.data.sampling import SAMPLE_FILES
from scl_fairseq.data.tasks import Task, read_rows
from scl_fairseq.files import replaced_folder, write_text

# fairseq's names of the splits that --valid-subset and --gen-subset take.
SPLITS = dict(zip(SAMPLE_FILES, ("train", "valid", "test"), strict=True))
SPECIAL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")  # every fairseq dictionary starts with these
EOS = SPECIAL_SYMBOLS.index("</s>")
UNK = SPECIAL_SYMBOLS.index("<unk>")
INDEX_MAGIC = b"MMIDIDX\x00\x00"
DTYPE_CODES = {np.dtype(np.uint16): 8, np.dtype(np.uint32): 9}

EncodeLines = Callable[[Sequence[str]], Sequence[str]]


def binarize_sample(
    task: Task, sample_dir: Path, encode_lines: EncodeLines, dictionary: Path, destination: Path
) -> None:
    """Binarise ``train.tsv``, ``dev.tsv`` and ``test.tsv`` of a few-shot sample.

    Args:
        task: names columns and label order.
        sample_dir: holds the three files.
        encode_lines: sentences to space-separated symbols of the dictionary.
        dictionary: fairseq's ``dict.txt``.
        destination: receives ``input0``, ``input1`` for pairs, and ``label``; replaced whole.

    Raises:
        ValueError: a file is malformed.
    """
    vocabulary = read_dictionary(dictionary)
    label_text = "".join(f"{label} 1\n" for label in task.labels)
    with replaced_folder(destination) as folder:
        for name, split in SPLITS.items():
            rows = read_rows(task, sample_dir / f"{name}.tsv")
            for part in range(len(task.sentence_columns)):
                lines = encode_lines([row.sentences[part] for row in rows])
                ids = (to_ids(line, vocabulary) for line in lines)
                write_indexed(folder / f"input{part}" / split, ids, len(vocabulary))
            first_label = len(SPECIAL_SYMBOLS)
            labels = ([first_label + task.labels.index(row.label), EOS] for row in rows)
            write_indexed(folder / "label" / split, labels, first_label + len(task.labels))
        for part in range(len(task.sentence_columns)):
            write_text(folder / f"input{part}" / "dict.txt", dictionary.read_text("utf-8"))
        write_text(folder / "label" / "dict.txt", label_text)


def read_dictionary(path: Path) -> dict[str, int]:
    """Symbol to index of a fairseq ``dict.txt``, its four special symbols first.

    Raises:
        ValueError: a line is not ``symbol count``.
    """
    vocabulary = {symbol: index for index, symbol in enumerate(SPECIAL_SYMBOLS)}
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not line:
            continue
        symbol, _, count = line.rpartition(" ")
        if not symbol or not count.isdigit():
            raise ValueError(f"{path}:{number}: {line!r}, expected a symbol and its count")
        if symbol in vocabulary:  # it would shift every id after it; fairseq refuses it too
            raise ValueError(f"{path}:{number}: {symbol!r} is in the dictionary twice")
        vocabulary[symbol] = len(vocabulary)
    return vocabulary


def to_ids(line: str, vocabulary: dict[str, int]) -> list[int]:
    """Indices of the space-separated symbols of ``line``, ``</s>`` last."""
    return [*(vocabulary.get(symbol, UNK) for symbol in line.split()), EOS]


def write_indexed(prefix: Path, rows: Iterable[Sequence[int]], vocabulary_size: int) -> None:
    """Write ``prefix.bin`` and ``prefix.idx`` in fairseq's mmap format.

    Args:
        prefix: path without an ending; its folder is made.
        rows: token ids of each example.
        vocabulary_size: decides how wide an id is stored, as in fairseq.
    """
    dtype = np.dtype(np.uint16 if vocabulary_size < 65500 else np.uint32)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    sizes = []
    with open(f"{prefix}.bin", "wb") as data:
        for row in rows:
            data.write(np.asarray(row, dtype=dtype).tobytes())
            sizes.append(len(row))
    lengths = np.asarray(sizes, dtype=np.int32)
    offsets = np.zeros(len(sizes), dtype=np.int64)
    np.cumsum(lengths[:-1] * dtype.itemsize, out=offsets[1:])
    with open(f"{prefix}.idx", "wb") as index:
        index.write(INDEX_MAGIC + struct.pack("<QBQ", 1, DTYPE_CODES[dtype], len(sizes)))
        index.write(lengths.tobytes() + offsets.tobytes())
