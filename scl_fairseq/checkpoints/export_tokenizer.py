"""A tokenizer for ``transformers`` that gives the token ids fairseq gives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from scl_fairseq.checkpoints.source_tokenizer import FAIRSEQ_SPECIALS, WORDPIECE_SPECIALS
from scl_fairseq.text.dictionary import MASK, read_dictionary
from scl_fairseq.text.gpt2 import read_numbers_and_merges
from scl_fairseq.text.sentence_piece_model import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    read_sentence_piece,
)
from scl_fairseq.text.settings import Settings, read_settings
from scl_fairseq.text.wordpiece import LONGEST_WORD, read_pieces

_ROLES = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
_UNK = FAIRSEQ_SPECIALS.index("<unk>")


def read_symbols(path: Path) -> list[str]:
    """The symbols of a fairseq dictionary in the order of their ids, ``<mask>`` included.

    A symbol that a later one of the same spelling replaced is an empty string.

    Raises:
        ValueError: it is no dictionary.
        OSError: it cannot be read.
    """
    dictionary = read_dictionary(path)
    symbols = [
        symbol if dictionary.index[symbol] == place else ""
        for place, symbol in enumerate(dictionary.symbols)
    ]
    return symbols if MASK in dictionary.index else [*symbols, MASK]


def build_tokenizer(
    bpe: str, files: Sequence[Path], symbols: Sequence[str], separators: int
) -> Tokenizer:
    """The pipeline from text to fairseq's ids, in the form of ``tokenizer.json``.

    Args:
        bpe: ``gpt2``, ``wordpiece`` or ``sentencepiece``.
        files: the encoding's.
        symbols: from :func:`read_symbols`.
        separators: how many ``</s>`` stand between two texts.

    Raises:
        ValueError: a file is malformed or of a kind that the library does not compute, or the
            dictionary lacks tokens that text can give.
        OSError: a file cannot be read.
    """
    make = {"gpt2": _byte_level, "wordpiece": _wordpiece, "sentencepiece": _unigram}
    tokenizer, special = make[bpe](tuple(files), _Vocabulary(symbols))
    # What text spells is text, whatever it spells: see tokenizer_config.
    tokenizer.encode_special_tokens = True
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    bos, _, eos, *_ = special
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[bos, "$A", eos],
        pair=[bos, "$A", *[eos] * separators, "$B", eos],
        special_tokens=[(bos, 0), (eos, 2)],
    )
    return tokenizer


def tokenizer_config(tokenizer: Tokenizer, max_positions: int) -> dict[str, Any]:
    """The contents of ``tokenizer_config.json``.

    ``split_special_tokens`` makes ``</s>`` in a sentence the text that it is for fairseq; the
    model's inputs leave out token types.
    """
    roles = special_tokens(tokenizer)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_positions,
        "model_input_names": ["input_ids", "attention_mask"],
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
        "truncation_side": "right",
        **roles,
    }


def special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """The contents of ``special_tokens_map.json``: which token does what."""
    size = tokenizer.get_vocab_size()
    ids = (0, 1, 2, _UNK, size - 1)
    roles = {role: tokenizer.id_to_token(place) for role, place in zip(_ROLES, ids, strict=True)}
    return {**roles, "cls_token": roles["bos_token"], "sep_token": roles["eos_token"]}


class _Vocabulary:
    """fairseq's ids of the tokens of an encoding; every id gets a token, no two the same."""

    def __init__(self, symbols: Sequence[str]):
        self.symbols = symbols
        self.ids = {symbol: place for place, symbol in enumerate(symbols) if symbol}

    def refuse_absent(self, symbols: Iterable[str], source: Path) -> None:
        # Text would become <unk> there, and a shared id cannot be told to the library.
        absent = [symbol for symbol in symbols if symbol not in self.ids]
        if absent:
            raise ValueError(
                f"the dictionary lacks {len(absent)} tokens of {source}, {absent[0]!r} for one; it "
                "belongs to other BPE files"
            )

    def added(self, settings: Settings) -> dict[str, int]:
        """Ids of the added tokens; their symbols are their spellings."""
        self.refuse_absent(settings.added_tokens, settings.path)
        return {token: self.ids[token] for token in settings.added_tokens}

    def complete(self, tokens: Mapping[str, int], is_reachable) -> tuple[list[str], list[str]]:
        """The token of every id, and fairseq's special ones.

        Args:
            tokens: those that text can give, with their ids.
            is_reachable: whether text could give a token of some spelling. One that it must not
                give is then spelled with a space, which no encoding leaves in its tokens.
        """
        by_id = {place: token for token, place in tokens.items()}
        spelled = []
        for place, symbol in enumerate(self.symbols):
            if place in by_id:
                spelled.append(by_id[place])
                continue
            symbol = symbol or f"overwritten{place}"
            spelled.append(f" {symbol}" if is_reachable(symbol) else symbol)
        last = spelled[self.ids["<mask>"]]
        return spelled, [*spelled[: _UNK + 1], last]


def _ids(spelled: Sequence[str], settings: Settings) -> dict[str, int]:
    """The vocabulary of the encoding: every token, but for added ones at the end and ``<mask>``.

    These get the following ids when they are added; within the vocabulary text could give them.
    """
    size = len(spelled)
    added = set(settings.added_tokens)
    while added and spelled[size - 2] in added and size > _UNK:
        size -= 1
    if size < len(spelled):
        size -= 1
    return {token: place for place, token in enumerate(spelled[:size])}


def _byte_level(files: tuple[Path, ...], vocabulary: _Vocabulary) -> tuple[Tokenizer, list[str]]:
    encoder_json, vocab_bpe = files[:2]
    settings = read_settings(encoder_json)
    numbers, merges = read_numbers_and_merges(encoder_json, vocab_bpe)
    needed = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]
    unnumbered = [token for token in needed if token not in numbers]
    if unnumbered:
        raise ValueError(f"{encoder_json} has no number for {unnumbered[0]!r}")
    vocabulary.refuse_absent((str(numbers[token]) for token in needed), encoder_json)
    symbols = {token: str(number) for token, number in numbers.items()}
    tokens = {token: vocabulary.ids[s] for token, s in symbols.items() if s in vocabulary.ids}
    tokens |= vocabulary.added(settings)
    spelled, special = vocabulary.complete(tokens, tokens.__contains__)
    tokenizer = Tokenizer(models.BPE(_ids(spelled, settings), merges))
    if settings.normalizer() is not None:
        tokenizer.normalizer = settings.normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.adds_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(settings.added())
    return tokenizer, special


def _wordpiece(files: tuple[Path, ...], vocabulary: _Vocabulary) -> tuple[Tokenizer, list[str]]:
    path = files[0]
    settings = read_settings(path)
    pieces = [
        piece for piece in dict.fromkeys(read_pieces(path)) if piece not in WORDPIECE_SPECIALS
    ]
    vocabulary.refuse_absent(pieces, path)
    tokens = {piece: vocabulary.ids[piece] for piece in pieces}
    tokens |= vocabulary.added(settings)
    # A word "<s>" is three for BERT, but another symbol of the dictionary may read as a word.
    spelled, special = vocabulary.complete(tokens, lambda symbol: symbol not in FAIRSEQ_SPECIALS)
    ids = _ids(spelled, settings)
    tokenizer = Tokenizer(
        models.WordPiece(ids, unk_token="<unk>", max_input_chars_per_word=LONGEST_WORD)
    )
    normalizer = settings.word_normalizer()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_tokens(settings.added())
    return tokenizer, special


def _unigram(files: tuple[Path, ...], vocabulary: _Vocabulary) -> tuple[Tokenizer, list[str]]:
    path = files[0]
    model = read_sentence_piece(path)
    kinds = {kind for _, _, kind in model.pieces}
    if not model.is_unigram or not kinds <= {NORMAL, UNKNOWN, CONTROL}:
        raise ValueError(
            f"{path}: only a unigram model without pieces of the user's and without bytes goes out"
        )
    if model.has_byte_fallback or model.marks_ends or not model.escapes_spaces:
        raise ValueError(f"{path}: its handling of spaces or bytes is not XLM-R's")
    scores = {spelling: score for spelling, score, kind in model.pieces if kind == NORMAL}
    vocabulary.refuse_absent(scores, path)
    tokens = {piece: vocabulary.ids[piece] for piece in scores}
    # The library looks for every token in the text, special ones too.
    spelled, special = vocabulary.complete(tokens, lambda symbol: True)
    tokenizer = Tokenizer(
        models.Unigram([(token, scores.get(token, 0.0)) for token in spelled], unk_id=_UNK)
    )
    # The library's reading of the table, which is also that of transformers' own XLM-R tokenizer,
    # differs from SentencePiece's where a letter carries several marks as characters of their own,
    # and for kana and Hangul that come in parts. Composing the text before would mend these, and
    # put the points of Hebrew and Arabic in another order.
    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.removes_spaces:
        steps += [
            normalizers.Replace(Regex(r"\A +|[ ▁]+\z"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    steps.append(normalizers.Replace(" ", "▁"))
    if model.adds_prefix:
        steps.append(normalizers.Prepend("▁"))
    tokenizer.normalizer = normalizers.Sequence(steps)
    # What is white space yet and in no piece, fairseq loses when it splits the line of pieces.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\x1c-\x1f]"), "removed")
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, special


def write_tokenizer(folder: Path, tokenizer: Tokenizer, max_positions: int) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``."""
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (
        ("tokenizer_config.json", tokenizer_config(tokenizer, max_positions)),
        ("special_tokens_map.json", special_tokens(tokenizer)),
    ):
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
