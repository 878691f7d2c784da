"""What is done to text around a vocabulary: ``tokenizer_config.json`` beside the BPE files.

Byte-level BPE reads ``add_prefix_space``, WordPiece ``do_lower_case``, ``strip_accents`` and
``tokenize_chinese_chars``, in the words of Hugging Face's file of this name. Both read two more, in
the words of its ``tokenizer.json``: ``normalizer``, and ``added_tokens``, which are found in a text
before everything else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "tokenizer_config.json"
SWITCHES = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
_BOOLEANS = (*SWITCHES, "add_prefix_space")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@dataclass(frozen=True)
class Settings:
    """The contents of a ``tokenizer_config.json``.

    Attributes:
        path: the file; it need not be there.
        content: what is in it.
    """

    path: Path
    content: dict[str, Any]

    @property
    def adds_prefix_space(self) -> bool:
        """Whether a space goes before a text that begins with none."""
        return bool(self.content.get("add_prefix_space"))

    @property
    def added_tokens(self) -> list[str]:
        """Spellings of the added tokens."""
        return [token["content"] for token in self.content.get("added_tokens") or ()]

    @property
    def changes_bytes(self) -> bool:
        """Whether byte-level BPE is to do anything that GPT-2's does not."""
        has_normalizer = self.content.get("normalizer") is not None
        return self.adds_prefix_space or has_normalizer or bool(self.added_tokens)

    def normalizer(self):
        """The normalizer of byte-level BPE, an object of ``tokenizers``; None: text stays.

        Raises:
            ValueError: there is no such normalizer.
        """
        told = self.content.get("normalizer")
        if told is None:
            return None
        from tokenizers import Tokenizer

        empty = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
        try:
            return Tokenizer.from_str(json.dumps({"normalizer": told, "model": empty})).normalizer
        except Exception as error:  # tokenizers raises no narrower one
            raise ValueError(f"{self.path}: normalizer: {error}") from None

    def word_normalizer(self):
        """WordPiece's: BERT's with its switches, or what is told in its place."""
        if "normalizer" in self.content:
            return self.normalizer()
        from tokenizers import normalizers

        lowercase, accents, chinese = map(self.content.get, SWITCHES)
        return normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=True if chinese is None else chinese,
            strip_accents=accents,
            lowercase=True if lowercase is None else lowercase,
        )

    def added(self) -> list:
        """The added tokens as objects of ``tokenizers``."""
        from tokenizers import AddedToken

        return [
            AddedToken(token["content"], **{flag: token[flag] for flag in _FLAGS if flag in token})
            for token in self.content.get("added_tokens") or ()
        ]


def read_settings(vocabulary: Path) -> Settings:
    """Read what stands beside a file of a vocabulary.

    Raises:
        ValueError: the file is malformed.
        OSError: it cannot be read.
    """
    path = vocabulary.with_name(FILE)
    if not path.exists():
        return Settings(path, {})
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    for name in _BOOLEANS:
        if not isinstance(content.get(name), bool | None):
            raise ValueError(f"{path}: {name} is {content[name]!r}, expected true or false")
    tokens = content.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(map(_is_token, tokens)):
        raise ValueError(f"{path}: added_tokens is no list of tokens, each with its content")
    return Settings(path, content)


def _is_token(told: Any) -> bool:
    if not isinstance(told, dict) or not isinstance(told.get("content"), str):
        return False
    return all(isinstance(told.get(flag, False), bool) for flag in _FLAGS)
