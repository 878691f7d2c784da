"""What the embeddings of a batch are contrasted with, beyond each other."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scl_fairseq.criterions.momentum import MomentumCopy
from scl_fairseq.criterions.options import ContrastConfig
from scl_fairseq.criterions.queue import NOBODYS, KeyQueue
from scl_fairseq.criterions.reader import Reader
from scl_fairseq.criterions.workers import Workers
from scl_fairseq.distributed import Gathered
from scl_fairseq.losses.multi_view import with_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContrastSet:
    """Anchors, and all that they are contrasted with.

    Attributes:
        rows: (M, D): those of the batch, of all workers and with gradients, then keys.
        labels: (M,), whose equality makes positives.
        own: which rows are the anchors: this worker's.
        batch_size: how many rows are of the batch.
        num_classes: labels lie from -1 to below it.
        keys: what goes into the queue after the loss; None without a queue.
        key_labels: theirs.
    """

    rows: Tensor
    labels: Tensor
    own: slice
    batch_size: int
    num_classes: int | None
    keys: Tensor | None = None
    key_labels: Tensor | None = None


class Contrast:
    """Puts contrast sets together, from workers and from the queue.

    In training with labels, a row of the batch is contrasted with the other rows of the batch and
    with the queue; the batch's own keys come in for the next one. Without labels every sentence is
    its own class: the keys that a momentum copy makes of the batch are contrasted with as well,
    and each is a positive for its own sentence's rows, as in MoCo. Without a momentum copy the
    batch's keys are its rows, and those are there already. Validation contrasts a worker's batch
    alone.

    Args:
        cfg: the criterion's options.
        task: the fairseq task that trains.
        reader: of the embeddings.
    """

    def __init__(self, cfg: ContrastConfig, task, reader: Reader):
        self._workers = Workers(task) if str(cfg.scl_gather) == "all" else None
        self._queue = KeyQueue(cfg.scl_queue_size) if cfg.scl_queue_size else None
        self._momentum = MomentumCopy(cfg.scl_momentum) if cfg.scl_momentum else None
        self._reader = reader
        self._task, self._queue_size = task, cfg.scl_queue_size
        self._is_checked = False

    def __call__(
        self,
        model: nn.Module,
        rows: Tensor,
        labels: Tensor | None,
        net_input: dict,
        views: int = 1,
        num_classes: int | None = None,
    ) -> ContrastSet:
        """The contrast set of a batch.

        Args:
            model: what is trained, with its wrappers.
            rows: (B V, D), embeddings of B sentences, a sentence's V views in a row.
            labels: (B,), integer; None where every sentence is its own class.
            net_input: from which a momentum copy computes keys, (B, T) or (B V, T).
            views: V.
            num_classes: labels lie from 0 to below it.
        """
        batch = self._gather(rows, labels, views, model.training)
        if labels is None:
            num_classes = len(batch.rows) // views
        about = batch.own, len(batch.rows), num_classes
        if self._queue is None or not model.training:
            return ContrastSet(batch.rows, batch.labels, *about)
        memory, memory_labels = self._queue.contents(batch.rows)
        keys, key_labels = batch.rows.detach(), batch.labels
        if self._momentum is not None:
            copied = self._momentum.follow(model, self._workers.update_num)
            found = self._reader.read_keys(copied, net_input)
            gathered = self._gather(found, labels, len(found) * views // len(rows), True)
            keys, key_labels = gathered.rows, gathered.labels
            if labels is None:
                memory = torch.cat([keys.to(memory.dtype), memory])
                memory_labels = torch.cat([key_labels, memory_labels])
        self._warn_of_own_keys(len(keys) * views / len(batch.rows))
        if labels is None:
            key_labels = torch.full_like(key_labels, NOBODYS)
        joined, joined_labels = with_memory(batch.rows, batch.labels, memory, memory_labels)
        return ContrastSet(joined, joined_labels, *about, keys, key_labels)

    def _warn_of_own_keys(self, keys_per_sentence: float) -> None:
        """Say once, before the first update, that a queue is longer than an epoch."""
        if self._is_checked:
            return
        self._is_checked = True
        sets = self._task.datasets
        size = sum(len(sets[name]) for name in sets if name.startswith("train"))
        if size and self._queue_size >= keys_per_sentence * size:
            logger.warning(
                "--scl-queue-size %d is no smaller than an epoch, %d keys of %d training "
                "sentences: each sentence is contrasted with its own keys of earlier epochs",
                self._queue_size, keys_per_sentence * size, size,
            )  # fmt: skip

    def remember(self, contrast: ContrastSet) -> None:
        """Queue the keys of a batch whose loss is known."""
        if contrast.keys is not None:
            self._queue.push(contrast.keys, contrast.key_labels)

    def settle(self, update_num: int) -> None:
        """See ``checkpoints.training_state``: keys of an update that did not happen go again."""
        if self._queue is not None:
            self._queue.settle(update_num)

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps: the queue and the momentum copy, where there are any."""
        parts = {"queue": self._queue, "momentum": self._momentum}
        found = {name: part.state() for name, part in parts.items() if part is not None}
        return {name: state for name, state in found.items() if state is not None} or None

    def load(self, state: dict[str, Any]) -> None:
        """Take up what is there of it and asked for."""
        for name, part in (("queue", self._queue), ("momentum", self._momentum)):
            if part is not None and state.get(name) is not None:
                part.load(state[name])

    def _gather(
        self, rows: Tensor, labels: Tensor | None, views: int, is_training: bool
    ) -> Gathered:
        """Rows of all workers in training, and their labels: without any, numbers of sentences."""
        marks = rows.new_zeros(len(rows), dtype=torch.int64)
        if labels is not None:
            marks = labels.repeat_interleave(views) if views > 1 else labels
        found = Gathered(rows, marks, slice(0, len(rows)))
        if self._workers is not None and is_training:
            found = self._workers.gather(rows, marks)
        if labels is not None:
            return found
        numbers = torch.arange(len(found.rows), device=rows.device) // views
        return Gathered(found.rows, numbers, found.own)
