"""A converted tokenizer held against the ``tokenizer.json`` that it is from, on odd texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scl_fairseq.checkpoints.source_rules import WORD_PIECE, refuse
from scl_fairseq.checkpoints.vocabulary import Vocabulary
from scl_fairseq.text.choices import SENTENCEPIECE
from scl_fairseq.text.encodings import load_encoder

_FILE = "tokenizer.json"
TEXTS = (
    "a film of note",
    "The FILM, İstanbul and Straße",
    " two  spaces   around ",
    "don't -- (a) “film”… $5.00/#1 @you_and_me ~^` they'll I'VE",
    "naïve café Ñandú Ångström",
    "😀 👍🏽 👨‍👩‍👧‍👦 🇫🇷 ❤️",
    "人类 的 film 日本語 한국어",
    "Привет, мир! Γειά σου البيت שלום",
    "жщ ᚠᚢᚦ ☃☃☃ 𝔘𝔫𝔦",
    "w" * 99 + " " + "w" * 100 + " " + "w" * 101 + " " + "b" * 300,
    "12345 1,000.5 3rd 2nd v2.0",
    "http://a.b/c?d=e&f=g <br /> &amp; #tag",
    "[CLS] a [SEP] [MASK] [UNK] [PAD] [unused0] [unused1]",
    "<|endoftext|> ##ing Ġthe Ċ",
    "",
    "x xx xxx",
)
# SentencePiece and the library read these differently, as fairseq and transformers do.
_NOT_OF_SENTENCE_PIECE = (
    "nai\u0308ve cafe\u0301 N\u0303andu\u0301 o\u0302\u0323",
    "a\u00a0film\u2003of\u3000note\u202f!",
    "a\u200bfilm\u200d of\ufeff note\u2060",
    "a\x01film\x1bof\x7fnote\x85 a\x00b",
    "a\tfilm\nof\r\nnote\x0b\x0c.",
    "ﬁlm ²  ½ Ⅷ ＡＢＣ ㎏",
    "▁a ▁▁film film ▁",
    "<s> a</s> <pad><unk> <mask> film<mask>",
)


def prove(vocabulary: Vocabulary, converted: Path, source: Path) -> tuple[int, tuple[str, ...]]:
    """Compare the ids of a conversion with those of its source.

    Args:
        vocabulary: of the source.
        converted: a folder with ``dict.txt`` and the BPE files.
        source: the Hugging Face folder.

    Returns:
        How many ``</s>`` stand between two texts, and what there is to say, in sentences.

    Raises:
        ValueError: some text has other ids; or other special tokens are put around texts.
    """
    usual = 1 if vocabulary.tokenizer.kind == WORD_PIECE else 2
    if vocabulary.tokenizer.described is None:
        return usual, ()
    tokenizer = _own(source, vocabulary.tokenizer.described)
    texts = _texts(vocabulary)
    encoded = load_encoder(vocabulary.bpe, converted).encode(texts)
    dtype = load_encoder(vocabulary.bpe, converted).dictionary.dtype
    order = np.array(vocabulary.order)
    for text, row in zip(texts, encoded, strict=True):
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        ids = np.frombuffer(row, dtype)[:-1]
        if order[ids].tolist() != expected:
            refuse(
                _FILE,
                f"does something to text that fairseq's {vocabulary.bpe} does not: "
                f"{json.dumps(text[:60], ensure_ascii=False)} has other ids there",
            )
    if tokenizer.post_processor is None:
        note = f"{_FILE} puts no special tokens around a text; fairseq puts <s> and </s>."
        return usual, (note,)
    return _separators(tokenizer, vocabulary.order[0], vocabulary.order[2]), ()


def _texts(vocabulary: Vocabulary) -> list[str]:
    texts = [*TEXTS, *_around(vocabulary.tokenizer.added)]
    if vocabulary.bpe != SENTENCEPIECE:
        texts += _NOT_OF_SENTENCE_PIECE
    return texts


def _around(tokens: Sequence[str]) -> list[str]:
    """Added tokens alone, within words, among spaces and in other cases."""
    found = []
    for token in tokens[:1000]:
        found += [token, f"a {token}  film", f"x{token}y,{token}", token.upper(), token.lower()]
    return found


def _own(source: Path, described: Mapping[str, Any]):
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(source / _FILE))
    except Exception as error:  # tokenizers raises no narrower one
        raise ValueError(f"{source / _FILE}: {' '.join(str(error).split())}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # they are text, as everywhere here
    return tokenizer


def _separators(tokenizer, begin: int, end: int) -> int:
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    single, pair = tokenizer.encode("a").ids, tokenizer.encode("a", "a").ids
    between = pair[1 + len(bare) : len(pair) - len(bare) - 1]
    is_usual = single == [begin, *bare, end] and pair == [begin, *bare, *between, *bare, end]
    if not is_usual or between not in ([end], [end, end]):
        refuse(
            _FILE,
            f"post_processor makes {single} of a text with the ids {bare}, and {pair} of two; "
            f"fairseq puts {begin} and {end} around them, and {end} once or twice between",
        )
    return len(between)
