"""Vocabularies of Hugging Face folders, put in the order of a fairseq dictionary.

A fairseq dictionary begins with ``<s> <pad> </s> <unk>`` and, once the task has added it, ends
with ``<mask>``; ``dict.txt`` lists only what lies between.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.files import read_json
from scl_fairseq.text.sentence_piece_model import CONTROL, UNKNOWN, read_sentence_piece

FAIRSEQ_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
WORDPIECE_SPECIALS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
END_OF_TEXT = "<|endoftext|>"
SENTENCE_PIECE = "sentencepiece.bpe.model"
CASING_KEYS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary in fairseq's order.

    Attributes:
        source: the file it was read from, for messages.
        order: for each fairseq id, the id that the source gives to the same token.
        symbols: the entries of ``dict.txt``, fairseq's special symbols left out.
        files: the BPE files to lay beside ``dict.txt``, name → contents.
    """

    source: str
    order: tuple[int, ...]
    symbols: tuple[str, ...]
    files: Mapping[str, str | bytes]

    @property
    def dictionary(self) -> str:
        """The text of ``dict.txt``; no corpus was counted, so every symbol counts 1."""
        return "".join(f"{symbol} 1\n" for symbol in self.symbols)


def read_vocabulary(folder: Path, model_type: str) -> Vocabulary:
    """Read a Hugging Face folder's vocabulary.

    That is WordPiece (``bert``), byte-level BPE (``roberta``) or SentencePiece (``xlm-roberta``).
    It comes from ``vocab.txt``, or from ``vocab.json`` and ``merges.txt``; where these are not
    there, from ``tokenizer.json``, the only file that newer versions write. SentencePiece's own
    file must be there: fairseq reads no other.

    Raises:
        ValueError: the files are missing, or cannot be told in a fairseq dictionary.
    """
    read = {
        "bert": _read_wordpiece,
        "roberta": _read_byte_level,
        "xlm-roberta": _read_sentence_piece,
    }
    return read[model_type](folder)


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


def _read_wordpiece(folder: Path) -> Vocabulary:
    path = folder / "vocab.txt"
    described = _tokenizer_json(folder, "WordPiece")
    if path.exists():
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        tokens = [line.rstrip("\r") for line in lines]
    elif described:
        path = folder / "tokenizer.json"
        tokens = _by_id(_described_vocabulary(described), path.name)
    else:
        raise ValueError(f"{folder} holds neither vocab.txt nor a WordPiece tokenizer.json")
    order, symbols = _fairseq_order(tokens, WORDPIECE_SPECIALS, path.name)
    files = {
        "vocab.txt": "".join(f"{token}\n" for token in tokens),
        "tokenizer_config.json": json.dumps(_casing(folder, described), indent=2, allow_nan=False)
        + "\n",
    }
    return Vocabulary(path.name, order, tuple(symbols), files)


def _read_byte_level(folder: Path) -> Vocabulary:
    described = _tokenizer_json(folder, "BPE")
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        source = "vocab.json"
        ids = read_json(folder / source)
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip()]
        if pairs and pairs[0][0] == "#version:":
            pairs = pairs[1:]
    elif described:
        source = "tokenizer.json"
        ids = _described_vocabulary(described)
        merges = described["model"]["merges"]
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    else:
        raise ValueError(
            f"{folder} holds neither vocab.json with merges.txt nor a BPE tokenizer.json"
        )
    wrong = [" ".join(pair) for pair in pairs if len(pair) != 2 or not all(pair)]
    if wrong:
        raise ValueError(f"merges.txt: not two symbols a line: {_names(wrong)}")

    numbering = gpt2_numbering([(left, right) for left, right in pairs])
    if END_OF_TEXT not in ids:
        del numbering[END_OF_TEXT]
    lacking = [token for token in numbering if token not in ids]
    if lacking:
        raise ValueError(f"{source} lacks tokens that merges.txt makes: {_names(lacking)}")
    order, tokens = _fairseq_order(_by_id(ids, source), FAIRSEQ_SPECIALS, source)
    symbols = [str(numbering[token]) if token in numbering else token for token in tokens]
    _refuse_symbols(symbols, source)
    files = {
        # ASCII, since fairseq opens it in the locale's encoding.
        "encoder.json": json.dumps(numbering, allow_nan=False),
        "vocab.bpe": "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in pairs),
    }
    return Vocabulary(source, order, tuple(symbols), files)


def _read_sentence_piece(folder: Path) -> Vocabulary:
    path = folder / SENTENCE_PIECE
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no {SENTENCE_PIECE}, the only form in which fairseq reads a "
            "SentencePiece model; it is among the files that the model was published with"
        )
    pieces = read_sentence_piece(path).pieces
    special = [spelling for spelling, _, _ in pieces[:3]]
    if special != ["<unk>", "<s>", "</s>"]:
        raise ValueError(f"{path} begins with {_names(special)}; expected <unk>, <s>, </s>")
    symbols = [spelling for spelling, _, kind in pieces[3:] if kind not in (UNKNOWN, CONTROL)]
    if len(symbols) != len(pieces) - 3:
        raise ValueError(f"{path} holds more special pieces than <unk>, <s> and </s>")
    _refuse_symbols(symbols, path.name)
    # XLM-R's ids are those that fairseq gave to its tokens.
    order = tuple(range(len(symbols) + len(FAIRSEQ_SPECIALS)))
    return Vocabulary(path.name, order, tuple(symbols), {path.name: path.read_bytes()})


def _fairseq_order(
    tokens: Sequence[str], specials: tuple[str, ...], source: str
) -> tuple[tuple[int, ...], list[str]]:
    """Ids in fairseq's order, and the tokens between ``<unk>`` and ``<mask>``."""
    ids = {token: position for position, token in enumerate(tokens)}
    absent = [token for token in specials if token not in ids]
    if absent:
        raise ValueError(f"{source} lacks the special tokens {_names(absent)}")
    *first, mask = (ids[token] for token in specials)
    between = [position for position in range(len(tokens)) if position not in {*first, mask}]
    symbols = [tokens[position] for position in between]
    _refuse_symbols(symbols, source)
    return (*first, *between, mask), symbols


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


def _tokenizer_json(folder: Path, kind: str) -> dict[str, Any] | None:
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    described = read_json(path)
    return described if (described.get("model") or {}).get("type") == kind else None


def _described_vocabulary(described: Mapping[str, Any]) -> dict[str, int]:
    added = {token["content"]: token["id"] for token in described.get("added_tokens") or []}
    return {**described["model"]["vocab"], **added}


def _casing(folder: Path, described: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the WordPiece normaliser does to letters, in ``tokenizer_config.json``'s words."""
    normalizer = (described or {}).get("normalizer") or {}
    words = ("lowercase", "strip_accents", "handle_chinese_chars")
    casing = {
        key: normalizer[word]
        for key, word in zip(CASING_KEYS, words, strict=True)
        if word in normalizer
    }
    path = folder / "tokenizer_config.json"
    if path.exists():
        config = read_json(path)
        casing.update({key: config[key] for key in CASING_KEYS if key in config})
    return {"tokenizer_class": "BertTokenizer", **casing}


def _names(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
