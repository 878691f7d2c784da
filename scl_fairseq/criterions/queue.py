"""A first-in, first-out memory of the embeddings of earlier batches, with their labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scl_fairseq.losses import l2_normalize

NOBODYS = -1  # label of keys that are no anchor's positives


class KeyQueue:
    """Holds the last K keys, L2-normalised, in float32 or wider; none of them has a gradient.

    A key that is not finite is not held: its place keeps what it had, at first a row of zeros that
    is nobody's. To leave it out altogether, the host would have to wait for a GPU and look.

    Args:
        size: K, greater than 0.

    References:
        He et al., *Momentum Contrast for Unsupervised Visual Representation Learning* (arXiv
        1911.05722).
    """

    def __init__(self, size: int):
        self._size = size
        # A ring: the next key goes to the place `_next`, where the oldest is once it is full.
        self._next = self._filled = 0
        self._rows: Tensor | None = None
        self._labels: Tensor | None = None
        # What was overwritten in this update; None as long as nobody settles updates.
        self._overwritten: list[tuple[Tensor, Tensor, Tensor, int, int]] | None = None
        self._update_num: int | None = None

    def __len__(self) -> int:
        return self._filled

    def contents(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (k, D) and labels (k,), k at most K, in an order that says nothing.

        Args:
            like: (n, D), of which an empty queue takes the width, and any the device.
        """
        if self._rows is None:
            dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
            labels = torch.zeros(0, dtype=torch.int64, device=like.device)
            return like.new_zeros(0, like.size(1), dtype=dtype), labels
        self._rows, self._labels = self._rows.to(like.device), self._labels.to(like.device)
        return self._rows[: self._filled], self._labels[: self._filled]

    @torch.no_grad()
    def push(self, keys: Tensor, labels: Tensor) -> None:
        """Add keys, of which the last K stay, and drop the oldest.

        Args:
            keys: (n, D), floating point, of any scale.
            labels: (n,), integer.
        """
        count = len(keys)
        if count == 0:
            return
        keys = l2_normalize(keys.detach()[-self._size :])
        if self._rows is None:
            self._rows = keys.new_zeros(self._size, keys.size(1))
            self._labels = torch.full((self._size,), NOBODYS, dtype=torch.int64, device=keys.device)
        first = self._next + count - len(keys)
        places = torch.arange(first, first + len(keys), device=keys.device) % self._size
        rows, row_labels = self._rows[places], self._labels[places]
        if self._overwritten is not None:
            self._overwritten.append((places, rows, row_labels, self._next, self._filled))
        is_finite = keys.isfinite().all(dim=1)
        self._rows[places] = torch.where(is_finite[:, None], keys, rows)
        labels = labels[-self._size :].to(torch.int64)
        self._labels[places] = torch.where(is_finite, labels, row_labels)
        self._next = (self._next + count) % self._size
        self._filled = min(self._filled + count, self._size)

    def settle(self, update_num: int) -> None:
        """Keep what was pushed since this was last called, or take it back.

        It is taken back where there was no update since: an overflow has undone it, or its batch
        runs again, and brings its keys again.

        Args:
            update_num: how many updates there were.
        """
        if update_num == self._update_num:
            while self._overwritten:
                places, rows, labels, self._next, self._filled = self._overwritten.pop()
                self._rows[places], self._labels[places] = rows, labels
        self._overwritten, self._update_num = [], update_num

    def state(self) -> dict[str, Any] | None:
        """All of it, as plain tensors and numbers; None while it is empty."""
        if self._filled == 0:
            return None
        place = {"next": self._next, "filled": self._filled}
        return {"rows": self._rows, "labels": self._labels, **place}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state, of this size or another: of more keys the newest stay."""
        rows, labels = state["rows"], state["labels"]
        self._overwritten = self._update_num = None
        if len(rows) == self._size:
            # As it was: in another order, sums would be rounded otherwise.
            self._rows, self._labels = rows.clone(), labels.clone()
            self._next, self._filled = state["next"], state["filled"]
            return
        oldest = state["next"] if state["filled"] == len(rows) else 0
        order = torch.arange(oldest, oldest + state["filled"]) % len(rows)
        self._rows, self._next, self._filled = None, 0, 0
        self.push(rows[order], labels[order])
