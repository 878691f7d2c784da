"""GPT-2's byte-level BPE from local files, many lines at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class GPT2:
    """The encoding that fairseq calls ``gpt2``, run by the ``tokenizers`` library.

    Args:
        encoder_json: token to GPT-2 id.
        vocab_bpe: merges, the most frequent first.
    """

    def __init__(self, encoder_json: Path, vocab_bpe: Path):
        from tokenizers import ByteLevelBPETokenizer

        self._tokenizer = ByteLevelBPETokenizer(str(encoder_json), str(vocab_bpe))

    def encode_lines(self, lines: Sequence[str]) -> list[str]:
        """Each line as space-separated GPT-2 ids, the symbols of RoBERTa's dictionary."""
        encodings = self._tokenizer.encode_batch(list(lines), add_special_tokens=False)
        return [" ".join(map(str, encoding.ids)) for encoding in encodings]
