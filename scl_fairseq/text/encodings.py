"""The encodings that ``--bpe`` names, and token ids of sentences in bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from scl_fairseq.text.bpe_files import find_files, needed_files
from scl_fairseq.text.choices import FASTBPE, SENTENCEPIECE, WORDPIECE
from scl_fairseq.text.choices import GPT2 as GPT2_BPE
from scl_fairseq.text.description import DICTIONARY
from scl_fairseq.text.dictionary import EOS, UNK, Dictionary, read_dictionary
from scl_fairseq.text.fast_bpe import FastBPE
from scl_fairseq.text.gpt2 import GPT2
from scl_fairseq.text.gpt2_settings import AdjustedGPT2
from scl_fairseq.text.sentence_piece import SentencePiece
from scl_fairseq.text.settings import read_settings
from scl_fairseq.text.wordpiece import WordPiece

YOUNG_PIECES = 30_000  # memory must not grow with the file; this is some 10 MB


class Encoding(Protocol):
    """What every encoding can do."""

    def encode_lines(self, lines: Sequence[str]) -> list[str]:
        """Each line as space-separated symbols of the dictionary."""


class Encoder:
    """Sentences to the bytes that fairseq stores: dictionary indices, ``</s>`` last.

    Args:
        encoding: sentences to symbols.
        dictionary: symbols to indices, and how wide an index is.
    """

    def __init__(self, encoding: Encoding, dictionary: Dictionary):
        self.dictionary = dictionary
        self._encoding = encoding

    def encode(self, sentences: Sequence[str]) -> list[bytes]:
        """One string of bytes for each sentence."""
        find, typecode = self.dictionary.index.get, self.dictionary.typecode
        return [
            array(typecode, [*(find(symbol, UNK) for symbol in line.split()), EOS]).tobytes()
            for line in self._encoding.encode_lines(sentences)
        ]


class _IndexOf(dict):
    """GPT-2 id to dictionary index, looked up when it first comes."""

    def __init__(self, dictionary: Dictionary):
        super().__init__()
        self._find = dictionary.index.get

    def __missing__(self, gpt2_id: int) -> int:
        self[gpt2_id] = index = self._find(str(gpt2_id), UNK)
        return index


class PieceEncoder(Encoder):
    """The same for GPT-2, whose pieces of text are each encoded once and remembered."""

    def __init__(self, encoding: GPT2, dictionary: Dictionary):
        super().__init__(encoding, dictionary)
        # Two generations: what has not come up since the younger one was begun is forgotten.
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._index_of = _IndexOf(dictionary)

    def encode(self, sentences: Sequence[str]) -> list[bytes]:
        """One string of bytes for each sentence."""
        if len(self._young) > YOUNG_PIECES:
            self._old, self._young = self._young, {}
        young, old = self._young, self._old
        split = list(map(self._encoding.split, sentences))
        missing = {piece for pieces in split for piece in pieces if piece not in young}
        new = [piece for piece in missing if piece not in old]
        young.update((piece, old[piece]) for piece in missing if piece in old)
        young.update(zip(new, self._encode_pieces(new), strict=True))
        find, eos = young.__getitem__, array(self.dictionary.typecode, [EOS]).tobytes()
        return [b"".join(map(find, pieces)) + eos for pieces in split]

    def _encode_pieces(self, pieces: Sequence[str]) -> Iterator[bytes]:
        find, typecode = self._index_of.__getitem__, self.dictionary.typecode
        for ids in self._encoding.encode_pieces(pieces):
            yield array(typecode, map(find, ids)).tobytes()


def load_encoder(bpe: str, folder: Path) -> Encoder:
    """The encoder of a ``--bpe-dir``; loaded once while its files stay as they are.

    Args:
        bpe: one of ``BPES``.
        folder: holds the encoding's files and fairseq's ``dict.txt``.

    Raises:
        ValueError: a file is malformed.
        FileNotFoundError: a file is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--bpe-dir {folder} is no folder")
    dictionary = folder / DICTIONARY
    if not dictionary.is_file():
        needed = ", ".join((*needed_files(bpe), DICTIONARY))
        raise FileNotFoundError(f"{folder} has no {DICTIONARY}; --bpe {bpe} needs {needed}")
    _read(dictionary, _stamp(dictionary))
    return encoder_of(bpe, find_files(bpe, folder), dictionary)


def encoder_of(bpe: str, files: Mapping[str, Path], dictionary: Path) -> Encoder:
    """The encoder of certain files; loaded once while they stay as they are.

    Raises:
        ValueError: a file is malformed.
        FileNotFoundError: a file is missing.
    """
    paths = tuple(files.values())
    return _load(bpe, paths, dictionary, tuple(map(_stamp, (*paths, dictionary))))


def _stamp(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path.resolve(), status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4)
def _read(path: Path, stamp: tuple) -> Dictionary:
    return read_dictionary(path)


@lru_cache(maxsize=4)
def _load(bpe: str, files: tuple[Path, ...], dictionary_path: Path, stamps: tuple) -> Encoder:
    dictionary = _read(dictionary_path, _stamp(dictionary_path))
    if bpe == GPT2_BPE:
        encoder_json, vocab_bpe = files[:2]
        if read_settings(encoder_json).changes_bytes:
            return Encoder(AdjustedGPT2(encoder_json, vocab_bpe), dictionary)
        return PieceEncoder(GPT2(encoder_json, vocab_bpe), dictionary)
    make = {WORDPIECE: WordPiece, SENTENCEPIECE: SentencePiece, FASTBPE: FastBPE}[bpe]
    return Encoder(make(files[0]), dictionary)
