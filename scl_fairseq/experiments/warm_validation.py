"""fairseq's validation without the encoder: what the head reads is computed once before it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fairseq.criterions.sentence_prediction import SentencePredictionCriterion
from fairseq.trainer import Trainer
from torch import Tensor, nn

from scl_fairseq.inference.evaluation import (
    LengthSortedBatches,
    logits_of,
    read_dataset,
    reads_one_vector,
)


class Replay:
    """Stands for the model in fairseq's validation, with what the encoder found out before.

    Args:
        model: the model; its head is run.
        inputs: (N, C), what the head reads for each example.
        head_name: which head.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, head_name: str):
        self._model, self._inputs, self._head_name = model, inputs, head_name
        self.indices: Tensor | None = None

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def __call__(self, **net_input):
        """Logits of the examples ``indices``."""
        logits = logits_of(self._model, self._head_name, self._inputs[self.indices])
        return logits, {"inner_states": None}


@contextlib.contextmanager
def replayed(cfg, trainer: Trainer, batches: LengthSortedBatches) -> Iterator[None]:
    """Within it fairseq's validation runs the head alone, if the criterion needs no more.

    Args:
        cfg: of the training.
        trainer: with the model.
        batches: of the whole validation set, which go through the encoder here.
    """
    head_name = cfg.criterion.classification_head_name
    task, model = trainer.task, trainer.model
    if not (_reads_head_input_only(trainer) and reads_one_vector(trainer.get_model(), head_name)):
        yield
        return
    reading = read_dataset(trainer.get_model(), batches, head_name)
    replay = Replay(model, reading.inputs, head_name)

    def valid_step(sample, model, criterion, **kwargs):
        replay.indices = sample["id"]
        return type(task).valid_step(task, sample, model, criterion, **kwargs)

    trainer._wrapped_model, task.valid_step = replay, valid_step
    try:
        yield
    finally:
        trainer._wrapped_model = model
        del task.valid_step


def _reads_head_input_only(trainer: Trainer) -> bool:
    """Whether the criterion needs nothing of the encoder beyond what the head reads.

    One that freezes the encoder remembers what the head reads by itself.
    """
    criterion = trainer.get_criterion()
    is_known = type(criterion) is SentencePredictionCriterion or (
        hasattr(criterion, "scl_lambda")
        and criterion.scl_embedding in (criterion.head_pooling, "pooled")
    )
    freezes = getattr(trainer.cfg.criterion, "freeze_encoder", False)
    return is_known and not freezes and not trainer.cfg.ema.store_ema
