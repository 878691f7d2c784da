"""GPT-2's BPE with what ``tokenizer_config.json`` beside its files adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.text.gpt2 import read_bpe
from scl_fairseq.text.settings import read_settings


class AdjustedGPT2:
    """Byte-level BPE behind a normalizer, with a space before each text, with added tokens.

    An added token's symbol in the dictionary is its spelling; the others' are GPT-2's numbers.

    Args:
        encoder_json: token to GPT-2 id.
        vocab_bpe: merges, the most frequent first.

    Raises:
        ValueError: a file is malformed.
    """

    def __init__(self, encoder_json: Path, vocab_bpe: Path):
        from tokenizers import Tokenizer, decoders, pre_tokenizers

        settings = read_settings(encoder_json)
        self._has_prefix = settings.adds_prefix_space
        self._tokenizer = Tokenizer(read_bpe(encoder_json, vocab_bpe))
        numbers = self._tokenizer.get_vocab()
        if settings.normalizer() is not None:
            self._tokenizer.normalizer = settings.normalizer()
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=self._has_prefix)
        self._tokenizer.decoder = decoders.ByteLevel()
        self._tokenizer.add_tokens(settings.added())
        self._symbols = {
            number: str(number) if token in numbers else token
            for token, number in self._tokenizer.get_vocab().items()
        }
        self._ids = {symbol: number for number, symbol in self._symbols.items()}

    def encode_lines(self, lines: Sequence[str]) -> list[str]:
        """Each line as space-separated symbols of the dictionary."""
        find = self._symbols.__getitem__
        batch = self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        return [" ".join(map(find, encoding.ids)) for encoding in batch]

    def decode(self, symbols: str) -> str:
        """Text of space-separated symbols; those of fairseq stand for themselves."""
        text, known = "", []
        for symbol in [*symbols.split(), ""]:
            if symbol in self._ids:
                known.append(self._ids[symbol])
                continue
            text += self._tokenizer.decode(known, skip_special_tokens=False) + symbol
            known = []
        return text.removeprefix(" ") if self._has_prefix else text

    def begins_word(self, symbol: str) -> bool:
        """Whether a symbol stands for a space and what follows it."""
        number = self._ids.get(symbol)
        return number is not None and self._tokenizer.decode([number]).startswith(" ")
