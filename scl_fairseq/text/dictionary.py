"""fairseq's ``dict.txt``, read as fairseq reads it: what it takes is taken, and means the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SPECIAL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")  # every fairseq dictionary starts with these
BOS = SPECIAL_SYMBOLS.index("<s>")
PAD = SPECIAL_SYMBOLS.index("<pad>")
EOS = SPECIAL_SYMBOLS.index("</s>")
UNK = SPECIAL_SYMBOLS.index("<unk>")
MASK = "<mask>"  # fairseq's tasks on text add it where a dictionary lacks it
_OVERWRITE = "#fairseq:overwrite"
_PADDING = "madeupword"  # fairseq-preprocess fills dictionaries with such words
_LONGEST_SHOWN = 80  # characters of a line in a message


@dataclass(frozen=True)
class Dictionary:
    """Symbols and their indices.

    Attributes:
        symbols: in the order of their indices, the special ones first; one that a later one of the
            same spelling replaced stays.
        counts: of the symbols behind the special ones.
        index: symbol to index.
    """

    symbols: tuple[str, ...]
    counts: tuple[int, ...]
    index: dict[str, int]

    @property
    def size(self) -> int:
        """How many indices there are, the special ones included."""
        return len(self.symbols)

    @property
    def size_in_models(self) -> int:
        """How many embeddings a model has for it: ``<mask>`` is added where it is missing."""
        return self.size + (MASK not in self.index)

    @property
    def own_symbols(self) -> list[str]:
        """What the file adds to the special symbols, without the words that only pad it."""
        first = len(SPECIAL_SYMBOLS)
        return [symbol for symbol in self.symbols[first:] if not symbol.startswith(_PADDING)]

    @property
    def text(self) -> str:
        """The file as fairseq writes it, with the flag where a symbol is there already."""
        lines, seen = [], set(SPECIAL_SYMBOLS)
        for symbol, count in zip(self.symbols[len(SPECIAL_SYMBOLS) :], self.counts, strict=True):
            lines.append(f"{symbol} {count}{' ' + _OVERWRITE if symbol in seen else ''}\n")
            seen.add(symbol)
        return "".join(lines)

    @cached_property
    def sha256(self) -> str:
        """Of the symbols in their order: counts, line ends and padding do not matter to a model."""
        return hashlib.sha256("\n".join(self.own_symbols).encode()).hexdigest()

    @cached_property
    def dtype(self) -> np.dtype:
        """How fairseq stores an index of a dictionary of this size."""
        import numpy as np  # commands name files of this room in their --help, which is to be quick

        return np.dtype(np.uint16 if self.size < 65500 else np.uint32)

    @property
    def typecode(self) -> str:
        """``dtype`` for ``array.array``."""
        return self.dtype.char


def make_dictionary(symbols: Sequence[str]) -> Dictionary:
    """A dictionary of these symbols in this order."""
    everything = (*SPECIAL_SYMBOLS, *symbols)
    index = {symbol: place for place, symbol in enumerate(everything)}
    return Dictionary(everything, (1,) * len(symbols), index)


def read_dictionary(path: Path) -> Dictionary:
    """Read a ``dict.txt``, one ``symbol count`` a line.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``, where fairseq refuses it too.
    """
    symbols, counts = list(SPECIAL_SYMBOLS), []
    index = {symbol: place for place, symbol in enumerate(symbols)}
    for number, line in enumerate(_lines(path), start=1):
        try:
            symbol, count = line.rstrip().rsplit(" ", 1)
            may_repeat = count == _OVERWRITE
            if may_repeat:
                symbol, count = symbol.rsplit(" ", 1)
            counted = int(count)
        except ValueError:
            shown = line.rstrip("\n")[:_LONGEST_SHOWN]
            raise ValueError(
                f"{path}:{number}: {shown!r}, expected a symbol and its count"
            ) from None
        # Left out, it would shift every index after it.
        if symbol in index and not may_repeat:
            raise ValueError(f"{path}:{number}: {symbol!r} is in the dictionary twice")
        index[symbol] = len(symbols)
        symbols.append(symbol)
        counts.append(counted)
    return Dictionary(tuple(symbols), tuple(counts), index)


def label_names(path: Path) -> list[str]:
    """Labels of a ``label/dict.txt`` in the order of a classifier's outputs.

    Raises:
        ValueError: as :func:`read_dictionary`.
    """
    return read_dictionary(path).own_symbols


def labels_of(dictionary) -> list[str]:
    """The same of a label dictionary that a task of fairseq has loaded, and added ``<mask>`` to."""
    symbols = dictionary.symbols[dictionary.nspecial :]
    return [one for one in symbols if one != MASK and not one.startswith(_PADDING)]


def _lines(path: Path) -> list[str]:
    # As fairseq opens it: a lone CR ends a line, a byte order mark is part of the first symbol.
    try:
        with path.open(encoding="utf-8") as file:
            return file.readlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
