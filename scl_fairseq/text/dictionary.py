"""fairseq's ``dict.txt``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

SPECIAL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")  # every fairseq dictionary starts with these
BOS = SPECIAL_SYMBOLS.index("<s>")
EOS = SPECIAL_SYMBOLS.index("</s>")
UNK = SPECIAL_SYMBOLS.index("<unk>")
OVERWRITE = " #fairseq:overwrite"
PADDING = "madeupword"  # so begin words with which fairseq-preprocess fills a dictionary up


@dataclass(frozen=True)
class Dictionary:
    """Symbols and their indices.

    Attributes:
        index: symbol to index.
        size: how many indices there are, the special ones included.
        text: the file as fairseq writes it.
    """

    index: dict[str, int]
    size: int
    text: str

    @cached_property
    def dtype(self) -> np.dtype:
        """How fairseq stores an index of a dictionary of this size."""
        return np.dtype(np.uint16 if self.size < 65500 else np.uint32)

    @property
    def typecode(self) -> str:
        """``dtype`` for ``array.array``."""
        return self.dtype.char


def make_dictionary(symbols: tuple[str, ...]) -> Dictionary:
    """A dictionary of these symbols in this order."""
    index = {symbol: place for place, symbol in enumerate((*SPECIAL_SYMBOLS, *symbols))}
    return Dictionary(index, len(index), "".join(f"{symbol} 1\n" for symbol in symbols))


def read_dictionary(path: Path) -> Dictionary:
    """Read a ``dict.txt``, one ``symbol count`` a line.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    index = {symbol: place for place, symbol in enumerate(SPECIAL_SYMBOLS)}
    size, text = len(index), []
    for number, line in enumerate(_read(path).split("\n"), start=1):
        line = line.rstrip()
        if not line:
            continue
        may_repeat = line.endswith(OVERWRITE)
        symbol, _, count = line.removesuffix(OVERWRITE).rpartition(" ")
        if not symbol or not (count.isascii() and count.isdigit()):
            raise ValueError(f"{path}:{number}: {line!r}, expected a symbol and its count")
        # Left out, it would shift every index after it; fairseq refuses it too.
        if symbol in index and not may_repeat:
            raise ValueError(f"{path}:{number}: {symbol!r} is in the dictionary twice")
        index[symbol] = size
        size += 1
        text.append(f"{symbol} {int(count)}{OVERWRITE if may_repeat else ''}\n")
    return Dictionary(index, size, "".join(text))


def label_names(path: Path) -> list[str]:
    """Labels of a ``label/dict.txt`` in the order of a classifier's outputs."""
    lines = path.read_text("utf-8").splitlines()
    return [line.rsplit(" ", 1)[0] for line in lines if not line.startswith(PADDING)]


def labels_of(dictionary) -> list[str]:
    """The same of a label dictionary that a task of fairseq has loaded, and added ``<mask>`` to."""
    symbols = dictionary.symbols[dictionary.nspecial :]
    return [one for one in symbols if one != "<mask>" and not one.startswith(PADDING)]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
