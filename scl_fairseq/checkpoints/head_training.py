"""Whether a classification head was ever trained: noted in checkpoints, asked by every command.

A head stands in a checkpoint whether or not the training has used it. SupCon's first stage, and
the contrastive term alone (``--scl-lambda 1``), leave it as it was drawn: it would predict, score
and go out as if it were a classifier.

The note lies in the checkpoint's ``extra_state`` (``training_state``): for each head the parts that
some training has trained, this one or one that it has begun from. Checkpoints without a note, of
stock fairseq or from elsewhere, are judged by their criterion.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scl_fairseq.checkpoints.training_heads import PARTS
from scl_fairseq.checkpoints.training_state import HEADS, KEY, part_of
from scl_fairseq.configuration import as_dict

logger = logging.getLogger(__name__)

DEFAULT_HEAD = "sentence_classification_head"
DENSE, PROJECTION = PARTS
CONTRASTIVE = "sentence_prediction_scl"
# Criterions that train the encoder alone, and the names that fairseq's history has for them.
OF_ENCODERS = {
    "supcon": "SupConCriterion",
    "simcse": "SimCSECriterion",
    "infocse": "InfoCSECriterion",
}


def trained_parts(criterion: Mapping[str, Any]) -> tuple[str, ...]:
    """Parts of the classification head that a training with these options of a criterion trains."""
    if _leaves_out_head(criterion):
        return (DENSE,) if criterion.get("scl_embedding") == "pooled" else ()
    return PARTS


def name_of(criterion: Mapping[str, Any]) -> str | None:
    """A criterion's name; options of older checkpoints have it under another key."""
    return criterion.get("_name") or criterion.get("criterion")


def _leaves_out_head(criterion: Mapping[str, Any]) -> bool:
    name = name_of(criterion)
    return name in OF_ENCODERS or (name == CONTRASTIVE and criterion.get("scl_lambda") == 1)


@dataclass(frozen=True)
class HeadTraining:
    """What a checkpoint tells of the training of its heads.

    Attributes:
        path: the file, for messages.
        criterion: options of the criterion that it was last trained with.
        extra_state: what training kept beside the weights.
        history: fairseq's, of all trainings that led to it.
    """

    path: Path
    criterion: Mapping[str, Any]
    extra_state: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]

    def require(self, head: str, part: str = PROJECTION) -> None:
        """Go on where a part of a head was trained.

        Raises:
            ValueError: it never was; the message says which training is missing.
        """
        if part not in self._parts(head):
            raise ValueError(self._fault(part))
        if part not in trained_parts(self.criterion):
            _say_once(
                f"note: {self.path}: its classification head is of an earlier training; "
                f"{self._options()} has changed the encoder since"
            )

    def was_trained(self, head: str, part: str = PROJECTION) -> bool:
        """The same as an answer."""
        return part in self._parts(head)

    def _parts(self, head: str) -> Sequence[str]:
        noted = noted_parts(self.extra_state)
        if noted is None:
            return parts_without_note(self.criterion, self.history)
        # Heads under other names than that of the training are from elsewhere.
        return noted.get(head, PARTS)

    def _fault(self, part: str) -> str:
        if part == DENSE and not _leaves_out_head(self.criterion):
            part = PROJECTION
        if _leaves_out_head(self.criterion):
            cause = f"{self._options()} leaves it as it was drawn"
        else:
            cause = "it was saved before the first update"
        missing = (
            f"train it from here with --criterion {CONTRASTIVE}, --scl-lambda below 1 and "
            "--finetune-from-model"
        )
        if part == DENSE:
            missing = "take the embedding cls or mean"
        return f"{self.path}: its classification head was never trained, since {cause}; {missing}"

    def _options(self) -> str:
        name = name_of(self.criterion)
        return "--scl-lambda 1" if name == CONTRASTIVE else f"--criterion {name}"


@functools.cache
def _say_once(message: str) -> None:
    logger.warning(message)


def noted_parts(extra_state: Mapping[str, Any] | None) -> dict[str, list[str]] | None:
    """The note of a checkpoint; None where there is none."""
    noted = part_of(extra_state, HEADS)
    return dict(noted) if isinstance(noted, Mapping) else None


def parts_without_note(
    criterion: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> Sequence[str]:
    """Trained parts of a head, as far as criterions tell: a head from elsewhere counts as trained.

    Args:
        criterion: its options in the checkpoint.
        history: fairseq's; an earlier training with another criterion may have trained the head.
    """
    if not _leaves_out_head(criterion):
        return PARTS
    own = history[-1].get("criterion_name") if history else None
    earlier = {entry.get("criterion_name") for entry in history if entry.get("num_updates")}
    of_heads = {name for name in earlier - {own} if str(name).startswith("SentencePrediction")}
    return PARTS if of_heads else trained_parts(criterion)


def install() -> None:
    """Have fairseq's trainer keep the note, once."""
    from fairseq.trainer import Trainer

    if getattr(Trainer.load_checkpoint, "_scl_heads", False):
        return
    _note_what_is_loaded(Trainer)
    _note_what_is_saved(Trainer)


def _note_what_is_loaded(trainer_class: type) -> None:
    original = trainer_class.load_checkpoint

    @functools.wraps(original)
    def load_checkpoint(self, *args, **kwargs):
        before = _projections(self.get_model())
        extra_state = original(self, *args, **kwargs)
        self._scl_updates_before = self.get_num_updates()
        self._scl_parts = {}
        if extra_state is None:
            return None
        noted, last = noted_parts({KEY: self._scl_kept}), (self._optim_history or [{}])[-1]
        from_encoder = last.get("criterion_name") in OF_ENCODERS.values()
        for head, tensor in _projections(self.get_model()).items():
            # fairseq keeps its own head where the file's has another name or number of classes.
            if head in before and torch.equal(before[head], tensor):
                continue
            known = noted is not None and head in noted
            self._scl_parts[head] = noted[head] if known else [] if from_encoder else list(PARTS)
        return extra_state

    load_checkpoint._scl_heads = True
    trainer_class.load_checkpoint = load_checkpoint


def _note_what_is_saved(trainer_class: type) -> None:
    original = trainer_class.state_dict

    @functools.wraps(original)
    def state_dict(self):
        state = original(self)
        heads = getattr(self.get_model(), "classification_heads", {})
        criterion = as_dict(self.cfg.criterion)
        own = criterion.get("classification_head_name") or DEFAULT_HEAD
        noted = {head: list(parts) for head, parts in getattr(self, "_scl_parts", {}).items()}
        if own in heads:
            has_trained = self.get_num_updates() > getattr(self, "_scl_updates_before", 0)
            trained = _trained_now(heads[own], criterion) if has_trained else []
            noted[own] = sorted({*noted.get(own, ()), *trained})
        if noted:
            state["extra_state"].setdefault(KEY, {})[HEADS] = noted
        return state

    trainer_class.state_dict = state_dict


def _trained_now(head, criterion: Mapping[str, Any]) -> list[str]:
    if criterion.get("freeze_encoder"):  # which puts the identity in place of the first layer
        return list(PARTS)
    return [
        part
        for part in trained_parts(criterion)
        if any(p.requires_grad for p in getattr(head, part, head).parameters())
    ]


def _projections(model) -> dict[str, Tensor]:
    """Copies of the heads' last weights, by the name of the head."""
    return {
        name: head.out_proj.weight.detach().clone()
        for name, head in getattr(model, "classification_heads", {}).items()
        if hasattr(head, "out_proj")
    }
