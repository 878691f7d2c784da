"""The views of a batch of sentences: the same text under other dropout, or other texts."""

from __future__ import annotations

import torch
from torch import Tensor

TEXT = "text"


class Views:
    """V views of each sentence in training, which lie in a row: those of the first come first.

    Dropout views are the batch V times over. Text views come with the batch, V rows a sentence.
    Validation computes each row of its batch once and takes it for all V views of a sentence: it
    has no dropout, and no texts but a sentence's own.

    Args:
        source: ``"dropout"`` or ``"text"``.
        number: V.
    """

    def __init__(self, source: str, number: int):
        self.number = number
        self._is_text = source == TEXT

    def net_input(self, sample: dict, is_training: bool) -> dict:
        """What the model reads: (B V, T) in training."""
        net_input = sample["net_input"]
        if not is_training or self._is_text or self.number == 1:
            return net_input
        return {
            name: value.repeat_interleave(self.number, dim=0) if torch.is_tensor(value) else value
            for name, value in net_input.items()
        }

    def labels(self, sample: dict, is_training: bool) -> Tensor | None:
        """Of the sentences, (B,); None where the data has none."""
        if sample.get("target") is None:
            return None
        targets = sample["target"].view(-1)
        return targets[:: self.number] if is_training and self._is_text else targets

    def rows(self, rows: Tensor, is_training: bool) -> Tensor:
        """All views' embeddings, (B V, D), of what the model has made."""
        return rows if is_training else rows.repeat_interleave(self.number, dim=0)

    def marks(self, rows: Tensor, labels: Tensor | None) -> Tensor:
        """Labels of all views, (B V,): numbers of the sentences where they have none."""
        if labels is None:
            return torch.arange(len(rows), device=rows.device) // self.number
        return labels.repeat_interleave(self.number)
