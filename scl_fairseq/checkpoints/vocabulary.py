"""Vocabularies of Hugging Face folders, put in the order of a fairseq dictionary.

A fairseq dictionary begins with ``<s> <pad> </s> <unk>`` and, once the task has added it, ends
with ``<mask>``; ``dict.txt`` lists only what lies between.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.source_rules import BYTE_LEVEL, UNIGRAM, WORD_PIECE, check_unigram
from scl_fairseq.checkpoints.source_tokenizer import (
    FAIRSEQ_SPECIALS,
    SENTENCE_PIECE,
    WORDPIECE_SPECIALS,
    SourceTokenizer,
    read_source_tokenizer,
)
from scl_fairseq.text.choices import GPT2, SENTENCEPIECE, WORDPIECE
from scl_fairseq.text.sentence_piece_model import CONTROL, UNKNOWN, read_sentence_piece
from scl_fairseq.text.settings import FILE as SETTINGS

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary in fairseq's order.

    Attributes:
        tokenizer: the folder's.
        order: for each fairseq id, the id that the source gives to the same token.
        symbols: the entries of ``dict.txt``, fairseq's special symbols left out.
        bpe: the name for ``--bpe``.
        files: the BPE files to lay beside ``dict.txt``, name → contents.
    """

    tokenizer: SourceTokenizer
    order: tuple[int, ...]
    symbols: tuple[str, ...]
    bpe: str
    files: Mapping[str, str | bytes]

    @property
    def source(self) -> str:
        """The file that it was read from, for messages."""
        return self.tokenizer.source

    @property
    def dictionary(self) -> str:
        """The text of ``dict.txt``; no corpus was counted, so every symbol counts 1."""
        return "".join(f"{symbol} 1\n" for symbol in self.symbols)


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Read a Hugging Face folder's vocabulary.

    That is WordPiece, byte-level BPE or SentencePiece. It comes from ``vocab.txt``, or from
    ``vocab.json`` and ``merges.txt``; where these are not there, from ``tokenizer.json``, the only
    file that newer versions write. SentencePiece's own file must be there: fairseq reads no other.

    Args:
        folder: the folder.
        config: its ``config.json``.

    Raises:
        ValueError: the files are missing, or cannot be told in a fairseq dictionary.
    """
    source = read_source_tokenizer(folder, config)
    return _MAKE[source.kind](source, folder)


def gpt2_numbering(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Number byte-level tokens as OpenAI's ``encoder.json`` does, from the merges alone.

    GPT-2 counts the 256 bytes first, printable ones before the rest, then one token a merge,
    then ``<|endoftext|>``. Token strings spell byte b as its character if printable, otherwise
    as the next character from U+0100 on.
    """
    printable = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
    tokens = [chr(byte) for byte in printable]
    tokens += [chr(0x100 + rank) for rank in range(0x100 - len(printable))]
    tokens += [left + right for left, right in merges]
    numbering: dict[str, int] = {}
    for number, token in enumerate([*tokens, END_OF_TEXT]):
        # Two merges may spell one token; the first names it.
        numbering.setdefault(token, number)
    return numbering


def _word_piece(source: SourceTokenizer, folder: Path) -> Vocabulary:
    order, tokens = _fairseq_order(source)
    symbols = _unspaced(tokens)
    _refuse_symbols(symbols, source.source)
    own = dict(zip(source.specials, WORDPIECE_SPECIALS, strict=True))
    # In the source's order; what text cannot give is no piece.
    pieces = [own.get(token, token) for token in _by_id(source.ids, source.source)]
    pieces = [piece for piece in pieces if piece.split() == [piece] and piece not in source.beyond]
    settings = {"tokenizer_class": "BertTokenizer", **source.settings}
    files = {
        "vocab.txt": "".join(f"{piece}\n" for piece in pieces),
        SETTINGS: json.dumps(settings, indent=2, allow_nan=False) + "\n",
    }
    return Vocabulary(source, order, tuple(symbols), WORDPIECE, files)


def _byte_level(source: SourceTokenizer, folder: Path) -> Vocabulary:
    numbering = gpt2_numbering(source.merges)
    if END_OF_TEXT not in source.ids:
        del numbering[END_OF_TEXT]
    lacking = [token for token in numbering if token not in source.ids]
    if lacking:
        raise ValueError(f"{source.source} lacks tokens that merges.txt makes: {_names(lacking)}")
    order, tokens = _fairseq_order(source)
    symbols = [str(numbering[token]) if token in numbering else token for token in tokens]
    symbols = _unspaced(symbols)
    _refuse_symbols(symbols, source.source)
    merges = "".join(f"{left} {right}\n" for left, right in source.merges)
    files = {
        # ASCII, since fairseq opens it in the locale's encoding.
        "encoder.json": json.dumps(numbering, allow_nan=False),
        "vocab.bpe": "#version: 0.2\n" + merges,
    }
    if source.settings:
        settings = {"tokenizer_class": "RobertaTokenizer", **source.settings}
        files[SETTINGS] = json.dumps(settings, indent=2, allow_nan=False) + "\n"
    return Vocabulary(source, order, tuple(symbols), GPT2, files)


def _unigram(source: SourceTokenizer, folder: Path) -> Vocabulary:
    path = folder / SENTENCE_PIECE
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no {SENTENCE_PIECE}, the only form in which fairseq reads a "
            "SentencePiece model; it is among the files that the model was published with"
        )
    model = read_sentence_piece(path)
    special = [spelling for spelling, _, _ in model.pieces[:3]]
    if special != ["<unk>", "<s>", "</s>"]:
        raise ValueError(f"{path} begins with {_names(special)}; expected <unk>, <s>, </s>")
    pieces = [piece for piece in model.pieces[3:] if piece[2] not in (UNKNOWN, CONTROL)]
    if len(pieces) != len(model.pieces) - 3:
        raise ValueError(f"{path} holds more special pieces than <unk>, <s> and </s>")
    if source.described is None:
        symbols = [spelling for spelling, _, _ in pieces]
        # XLM-R's ids are those that fairseq gave to its tokens.
        order = tuple(range(len(symbols) + len(FAIRSEQ_SPECIALS)))
    else:
        check_unigram(source.described, model, path)
        order, tokens = _fairseq_order(source)
        symbols = _unspaced(tokens)
    _refuse_symbols(symbols, source.source)
    files = {path.name: path.read_bytes()}
    return Vocabulary(source, order, tuple(symbols), SENTENCEPIECE, files)


_MAKE = {WORD_PIECE: _word_piece, BYTE_LEVEL: _byte_level, UNIGRAM: _unigram}


def _unspaced(tokens: Sequence[str]) -> list[str]:
    """Symbols without the space by which an export marks those that text must not give."""
    return [token[1:] if token[:1] == " " and token[1:].strip() else token for token in tokens]


def _fairseq_order(source: SourceTokenizer) -> tuple[tuple[int, ...], list[str]]:
    """Ids in fairseq's order, and the tokens between ``<unk>`` and ``<mask>``."""
    absent = [token for token in source.specials if token not in source.ids]
    if absent:
        raise ValueError(f"{source.source} lacks the special tokens {_names(absent)}")
    tokens = _by_id(source.ids, source.source)
    *first, mask = (source.ids[token] for token in source.specials)
    between = [number for number in range(len(tokens)) if number not in {*first, mask}]
    return (*first, *between, mask), [tokens[number] for number in between]


def _refuse_symbols(symbols: Sequence[str], source: str) -> None:
    seen = set(FAIRSEQ_SPECIALS)
    wrong = []
    for symbol in symbols:
        # fairseq splits its input at white space, whatever its kind.
        if symbol in seen or symbol.split() != [symbol]:
            wrong.append(symbol)
        seen.add(symbol)
    if wrong:
        raise ValueError(
            f"{source}: a fairseq dictionary cannot hold twice, empty or with a space: "
            + _names([repr(symbol) for symbol in wrong])
        )


def _by_id(ids: Mapping[str, int], source: str) -> list[str]:
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"{source}: the ids of its tokens are not 0, 1, 2 and so on")
    return sorted(ids, key=ids.__getitem__)


def _names(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
