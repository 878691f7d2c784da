"""Which embeddings a sentence's positive is to be found among."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scl_fairseq.criterions.contrast import Contrast
from scl_fairseq.criterions.queue import NOBODYS
from scl_fairseq.criterions.texts import Texts


@dataclass(frozen=True)
class CandidateSet:
    """Queries, and what they are compared with.

    Attributes:
        queries: (A, D), this worker's sentences.
        candidates: (M, D): positives and hard negatives of all workers, with gradients, then keys.
        positives: A places, which candidate is each query's positive.
        keys: what goes into the queue after the loss; None without a queue.
        key_labels: what marks them there.
    """

    queries: Tensor
    candidates: Tensor
    positives: range
    keys: Tensor | None = None
    key_labels: Tensor | None = None


class Candidates(Contrast):
    """Puts candidates together, from workers and from the queue.

    In training the candidates of a sentence are the positives and hard negatives of all workers'
    batches, and the queue's keys, which are earlier positives or what a momentum copy made of
    earlier sentences: negatives. In validation they are those of the batch.
    """

    def __call__(self, model: nn.Module, rows: Tensor, texts: Texts) -> CandidateSet:
        """The candidates of a batch.

        Args:
            model: what is trained, with its wrappers.
            rows: (B V, D), embeddings of B sentences, a sentence's V texts in a row.
            texts: what they are of.
        """
        others = texts.number - 1
        by_sentence = rows.view(texts.num_sentences, texts.number, -1)
        found = self._gather(by_sentence[:, 1:].flatten(0, 1), None, others, model.training)
        # None of an idle worker, whose batch is nobody's.
        count = (found.own.stop - found.own.start) // others
        queries, candidates = by_sentence[:count, 0], found.rows
        positives = range(found.own.start, found.own.start + others * count, others)
        if self._queue is None or not model.training:
            return CandidateSet(queries, candidates, positives)
        memory, _ = self._queue.contents(candidates)
        keys = candidates.detach()[::others]
        if self._momentum is not None:
            copied = self._momentum.follow(model, self._workers.update_num)
            keys = self._reader.read_keys(copied, texts.sentences)
            keys = self._gather(keys, None, 1, True).rows
        marks = torch.full((len(keys),), NOBODYS, device=keys.device)
        candidates = torch.cat([candidates, memory.to(candidates.dtype)])
        return CandidateSet(queries, candidates, positives, keys, marks)
