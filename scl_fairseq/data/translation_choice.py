"""Which translation model, in the words of fairseq's hub. Imports neither torch nor fairseq."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BOOLEANS = ("moses_no_dash_splits", "moses_no_escape")
FILES = ("bpe_codes", "sentencepiece_model", "data_name_or_path")
# user_dir, which would run code, is none of them.
ARGUMENTS = (
    *("checkpoint_file", "data_name_or_path", "tokenizer", "bpe", "bpe_codes", "bpe_separator"),
    *("sentencepiece_model", "source_lang", "target_lang", *BOOLEANS),
)


@dataclass(frozen=True)
class ModelChoice:
    """A translation model as a user names it.

    Attributes:
        place: folder, or a name of fairseq's hub.
        arguments: of the hub's ``from_pretrained``, by its names.
    """

    place: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, words: Sequence[str]) -> ModelChoice:
        """From the folder or name, followed by ``key=value``.

        Raises:
            ValueError: an argument is none of those that a translation model takes.
        """
        place, *pairs = words
        arguments: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not (equals and value) or key not in ARGUMENTS:
                raise ValueError(f"{pair}: expected KEY=VALUE with a key of {', '.join(ARGUMENTS)}")
            if key in arguments:
                raise ValueError(f"{key} is given twice for {place}")
            if key in BOOLEANS and value not in ("true", "false"):
                raise ValueError(f"{pair}: expected true or false")
            arguments[key] = value
        return cls(place, arguments)

    @property
    def name(self) -> str:
        """The hub's name, or the folder's own, without its place and without white space."""
        name = Path(self.place).resolve().name if Path(self.place).is_dir() else self.place
        return re.sub(r"\s+", "_", name)
