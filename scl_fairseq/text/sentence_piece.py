"""SentencePiece models, as fairseq's ``--bpe sentencepiece`` applies them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class SentencePiece:
    """Pieces of a SentencePiece model.

    Args:
        model: the ``.model`` file.

    Raises:
        ValueError: the file is no model.
    """

    def __init__(self, model: Path):
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.Load(str(model))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{model}: not a SentencePiece model ({error})") from None

    def encode_lines(self, lines: Sequence[str]) -> list[str]:
        """Each line as space-separated pieces."""
        # One thread: whoever has many lines runs many processes.
        pieces = self._processor.encode(list(lines), out_type=str, num_threads=1)
        return list(map(" ".join, pieces))
