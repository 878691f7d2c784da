"""The texts that are contrasted: each sentence twice, or the columns that it came with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

COLUMNS = ("net_input", "positive", "negative")


class Texts:
    """V texts of each sentence, which lie in a row: the sentence, its positive, a hard negative.

    Where the batch has one column, the positive is the sentence itself, which dropout changes.
    Without dropout, in evaluation, it is computed once.

    Args:
        sample: a batch of fairseq; ``positive`` and ``negative`` are like its ``net_input``.
        padding_idx: index of ``<pad>``.

    Attributes:
        number: V, 2 or 3.
        num_sentences: B.
    """

    def __init__(self, sample: dict, padding_idx: int):
        self._columns = [sample[name] for name in COLUMNS if name in sample]
        self._padding_idx = padding_idx
        self.number = max(2, len(self._columns))
        self.num_sentences = len(sample["net_input"]["src_tokens"])

    @property
    def sentences(self) -> dict:
        """What the model reads of the sentences alone, (B, T)."""
        return self._columns[0]

    def net_input(self, is_training: bool) -> dict:
        """What the model reads of all texts, (B V, T)."""
        if len(self._columns) > 1:
            return self._interleaved()
        if not is_training:
            return self.sentences
        return {
            name: value.repeat_interleave(2, dim=0) if torch.is_tensor(value) else value
            for name, value in self.sentences.items()
        }

    def rows(self, rows: Tensor, is_training: bool) -> Tensor:
        """All texts' embeddings, (B V, D), of what the model has made."""
        is_once = len(self._columns) == 1 and not is_training
        return rows.repeat_interleave(2, dim=0) if is_once else rows

    def marks(self, rows: Tensor) -> Tensor:
        """Numbers of the sentences that pairs of rows belong to."""
        return torch.arange(len(rows), device=rows.device) // 2

    def _interleaved(self) -> dict:
        longest = max(column["src_tokens"].size(1) for column in self._columns)
        tokens = [
            F.pad(
                column["src_tokens"],
                (0, longest - column["src_tokens"].size(1)),
                value=self._padding_idx,
            )
            for column in self._columns
        ]
        lengths = [column["src_lengths"] for column in self._columns]
        return {
            "src_tokens": torch.stack(tokens, dim=1).flatten(0, 1),
            "src_lengths": torch.stack(lengths, dim=1).flatten(0, 1),
        }
