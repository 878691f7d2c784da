"""Raw sentences to a model's token ids, the same as those of the data that it was trained on."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from scl_fairseq.text.encodings import Encoder
from scl_fairseq.text.truncation import shortened

Sentences = str | tuple[str, ...]


class SentenceEncoder:
    """``<s> A </s>``, and ``[</s>] B </s>`` for a pair, as the training had them.

    Args:
        encoder: each sentence to dictionary indices.
        init_token: comes first; None: nothing does.
        separator_token: comes before a second sentence; None: nothing does.
        max_positions: longer examples are cut, always from the longer sentence, as
            ``scl-preprocess`` does.
    """

    def __init__(
        self,
        encoder: Encoder,
        init_token: int | None,
        separator_token: int | None,
        max_positions: int,
    ):
        self._encoder, self._max_positions = encoder, max_positions
        self._dtype = encoder.dictionary.dtype
        self._init, self._separator = (
            b"" if token is None else array(encoder.dictionary.typecode, [token]).tobytes()
            for token in (init_token, separator_token)
        )

    def encode(self, examples: Sequence[Sentences]) -> tuple[list[np.ndarray], int]:
        """Token ids of each example, and how many examples were cut.

        Args:
            examples: each a sentence, or a tuple of one or two. White space around a sentence does
                not count, as in training.

        Raises:
            ValueError: an example is something else.
        """
        parts = [_parts(example) for example in examples]
        texts = iter(self._encoder.encode([text.strip() for pair in parts for text in pair]))
        rows, cut = [], 0
        itemsize = self._dtype.itemsize
        for pair in parts:
            encoded = [next(texts) for _ in pair]
            fixed = len(self._init) + len(self._separator) * (len(pair) - 1)
            excess = (fixed + sum(map(len, encoded))) // itemsize - self._max_positions
            if excess > 0:
                encoded = shortened(encoded, excess, itemsize)
                cut += 1
            row = self._init + self._separator.join(encoded)
            rows.append(np.frombuffer(row, self._dtype))
        return rows, cut


def _parts(example: Sentences) -> tuple[str, ...]:
    parts = (example,) if isinstance(example, str) else tuple(example)
    if len(parts) not in (1, 2) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{str(example)[:80]!r}: expected a sentence, or a tuple of one or two")
    return parts
