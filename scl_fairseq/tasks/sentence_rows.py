"""Rows of sentences, without labels, and masked copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairseq.data import FairseqDataset, data_utils
from torch import Tensor

from scl_fairseq.tasks.masking import Masking

COLUMNS = ("net_input", "positive", "negative")  # what a batch calls them


class SentenceRows(FairseqDataset):
    """Sentences, or rows of a sentence, one that means the same, and one that does not.

    A batch is ``{"id", "nsentences", "ntokens", "net_input": {"src_tokens", "src_lengths"}}``, with
    ``"positive"`` and ``"negative"`` like ``net_input`` where there are such columns, and where
    masked copies were asked for with ``"masked"``: ``{"src_tokens", "target"}``, (B · copies, T),
    a sentence's copies in a row, and ``{"chosen", "words"}``: which of the B · copies · T positions
    have a target, and which are of words, in order. Found here, no GPU has to be waited for.

    Args:
        columns: one to three indexed data sets of fairseq, whose rows end in ``</s>``.
        max_length: positions of a row, ``<s>`` and ``</s>`` counted; longer ones are cut before
            ``</s>``.
        bos, pad, eos: indices of ``<s>``, ``<pad>`` and ``</s>``.
        masking: how to mask.
        copies: masked copies of each sentence of the first column.
        seed: of the order and the masks, which change from epoch to epoch.
    """

    def __init__(
        self,
        columns: Sequence[Any],
        max_length: int,
        bos: int,
        pad: int,
        eos: int,
        masking: Masking,
        copies: int,
        seed: int,
    ):
        self._columns, self._max_length = list(columns), max_length
        self._bos, self._pad, self._eos = bos, pad, eos
        self._masking, self._copies, self._seed = masking, copies, seed
        self._epoch = 1
        self.sizes = np.minimum(np.max([c.sizes for c in self._columns], axis=0) + 1, max_length)

    def __len__(self) -> int:
        return len(self._columns[0])

    def num_tokens(self, index: int) -> int:
        """Positions of a row's longest text."""
        return int(self.sizes[index])

    def size(self, index: int) -> int:
        """The same, by which fairseq leaves out rows that are too long: none is."""
        return int(self.sizes[index])

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """No: batches hold other sentences in every epoch, so other negatives."""
        return False

    def set_epoch(self, epoch: int) -> None:
        """Take other masks and another order."""
        self._epoch = epoch

    def ordered_indices(self) -> np.ndarray:
        """All rows, shuffled."""
        return np.random.default_rng((self._seed, self._epoch)).permutation(len(self))

    def __getitem__(self, index: int) -> dict[str, Any]:
        texts = [self._cut(column[index].numpy()) for column in self._columns]
        item: dict[str, Any] = {"id": index, "texts": texts}
        if self._copies:
            seed = (self._seed, self._epoch, int(index))
            generator = np.random.default_rng(seed)
            item["masked"] = [self._masking(texts[0], generator) for _ in range(self._copies)]
        return item

    def _cut(self, text: np.ndarray) -> np.ndarray:
        words = text[:-1] if len(text) and text[-1] == self._eos else text
        return np.array([self._bos, *words[: self._max_length - 2], self._eos], np.int64)

    def collater(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch of items; empty for none."""
        if not items:
            return {}
        batch: dict[str, Any] = {
            "id": torch.tensor([int(item["id"]) for item in items]),
            "nsentences": len(items),
        }
        for place, name in zip(range(len(self._columns)), COLUMNS, strict=False):
            texts = [item["texts"][place] for item in items]
            lengths = torch.tensor([len(text) for text in texts])
            batch[name] = {"src_tokens": self._padded(texts), "src_lengths": lengths}
        batch["ntokens"] = int(batch["net_input"]["src_lengths"].sum())
        if self._copies:
            tokens, targets = zip(*(pair for item in items for pair in item["masked"]), strict=True)
            batch["masked"] = self._masked(self._padded(tokens), self._padded(targets))
        return batch

    def _masked(self, tokens: Tensor, targets: Tensor) -> dict[str, Tensor]:
        is_chosen = targets.ne(self._masking.nothing)
        whole = torch.where(is_chosen, targets, tokens)
        is_word = ~torch.isin(whole, torch.from_numpy(self._masking.special))
        places = {
            name: found.flatten().nonzero().squeeze(1)
            for name, found in (("chosen", is_chosen), ("words", is_word))
        }
        return {"src_tokens": tokens, "target": targets, **places}

    def _padded(self, rows: Sequence[np.ndarray]) -> Tensor:
        return data_utils.collate_tokens([torch.from_numpy(row) for row in rows], self._pad)
