"""GPT-2's byte-level BPE from local files, many lines at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from scl_fairseq.files import read_json

# The pattern of GPT-2 (Radford et al., 2019) has Unicode's letters and numbers in it, for which
# Python's own regular expressions have no name; on printable ASCII they suffice, and are twice as
# fast.
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{number}+| ?[^\s{letter}{number}]+|\s+(?!\S)|\s+"
_find_ascii = re.compile(
    _PATTERN.replace("[^\\s{letter}{number}]", "[^\\sA-Za-z0-9]").format(
        letter="[A-Za-z]", number="[0-9]"
    )
).findall


class GPT2:
    """The encoding that fairseq calls ``gpt2``: its splitting, merged by ``tokenizers``.

    Args:
        encoder_json: token to GPT-2 id.
        vocab_bpe: merges, the most frequent first.

    Raises:
        ValueError: a file is malformed.
    """

    def __init__(self, encoder_json: Path, vocab_bpe: Path):
        from tokenizers import Tokenizer, pre_tokenizers

        self._tokenizer = Tokenizer(read_bpe(encoder_json, vocab_bpe))
        # The splitting is done here, with the library that fairseq uses, to be the same on text
        # of every kind.
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=False, use_regex=False
        )

    @staticmethod
    def split(text: str) -> list[str]:
        """Pieces of text that are merged each for itself: words with the space before them."""
        if text.isascii() and text.isprintable():
            return _find_ascii(text)
        return _find_unicode()(text)

    def encode_pieces(self, pieces: Sequence[str]) -> list[list[int]]:
        """GPT-2 ids of each piece."""
        encodings = self._tokenizer.encode_batch_fast(list(pieces), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def read_bpe(encoder_json: Path, vocab_bpe: Path):
    """The merges and ids of two files, as a model of ``tokenizers``.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: one is malformed.
    """
    from tokenizers import models, pre_tokenizers

    for path in (encoder_json, vocab_bpe):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there")
    _check_merges(vocab_bpe)
    try:
        model = models.BPE.from_file(str(encoder_json), str(vocab_bpe))
    except Exception as error:  # tokenizers raises no narrower one
        raise ValueError(f"{encoder_json}, {vocab_bpe}: not GPT-2's BPE ({error})") from None
    # tokenizers would leave out the bytes of such a symbol without a word.
    missing = [c for c in pre_tokenizers.ByteLevel.alphabet() if model.token_to_id(c) is None]
    if missing:
        raise ValueError(f"{encoder_json}: no token for the byte {min(missing)!r}")
    return model


def read_numbers_and_merges(
    encoder_json: Path, vocab_bpe: Path
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The number of each token, and the merges, as they stand in the files.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: one is malformed.
    """
    numbers = read_json(encoder_json)
    _check_merges(vocab_bpe)
    lines = vocab_bpe.read_bytes().decode("utf-8", errors="replace").split("\n")[1:-1]
    merges = [tuple(line.split()) for line in lines]
    if any(len(pair) != 2 for pair in merges):
        raise ValueError(f"{vocab_bpe}: not two symbols a line")
    return numbers, merges


def _check_merges(path: Path) -> None:
    """Fairseq skips the first line and what follows the last newline, ``tokenizers`` does not."""
    data = path.read_bytes()
    if not data.startswith(b"#version"):
        raise ValueError(f"{path}:1: expected a line '#version: ...', as GPT-2's file has it")
    if not data.endswith(b"\n"):
        line = data.count(b"\n") + 1
        raise ValueError(f"{path}:{line}: no newline at the end, expected one")


@cache
def _find_unicode():
    import regex  # takes as long to import as numpy does, and plain text does not need it

    return regex.compile(_PATTERN.format(letter=r"\p{L}", number=r"\p{N}")).findall
