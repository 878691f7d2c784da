"""``fairseq-validate`` on what training left that has more than a model of fairseq's.

It builds the stock model, drops the heads that this does not have, and shows its criterion the
model only with the first batch. There the criterion gets what its trainer would have given it: see
``checkpoints.training_state``.
"""

from __future__ import annotations

import functools
import logging

import torch
from torch import nn

from scl_fairseq.checkpoints.training_heads import PREFIX
from scl_fairseq.checkpoints.training_state import criterion_state_of, is_prepared, prepare

logger = logging.getLogger(__name__)


def install() -> None:
    """Have fairseq remember where models are from, and prepare criterions for them, once."""
    from fairseq import checkpoint_utils
    from fairseq.tasks import FairseqTask

    if getattr(FairseqTask.valid_step, "_scl_fairseq", False):
        return
    _remember_sources(checkpoint_utils)
    _prepare_at_the_first_batch(FairseqTask)


def _remember_sources(checkpoint_utils) -> None:
    original = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(original)
    def load_model_ensemble_and_task(filenames, *args, **kwargs):
        found = original(filenames, *args, **kwargs)
        for model, filename in zip(found[0], filenames, strict=False):
            model._scl_source = filename
        return found

    checkpoint_utils.load_model_ensemble_and_task = load_model_ensemble_and_task


def _prepare_at_the_first_batch(task_class: type) -> None:
    original = task_class.valid_step

    @functools.wraps(original)
    def valid_step(self, sample, model, criterion):
        if hasattr(criterion, "prepare_model") and not is_prepared(criterion):
            _prepare(criterion, model)
        return original(self, sample, model, criterion)

    valid_step._scl_fairseq = True
    task_class.valid_step = valid_step


def _prepare(criterion, model: nn.Module) -> None:
    example, heads = next(model.parameters()), getattr(model, "classification_heads", {})
    before, source = set(heads), getattr(model, "_scl_source", None)
    prepare(criterion, model)
    added = sorted(set(heads) - before)
    if added and source is None:
        logger.warning("%s: the model has no weights of a checkpoint for them", ", ".join(added))
    elif added:
        # Mapped: most of it was read before. What has such heads is in the format that allows it.
        state = torch.load(source, map_location="cpu", mmap=True)
        for name in added:
            start = f"{PREFIX}{name}."
            own = {k[len(start) :]: v for k, v in state["model"].items() if k.startswith(start)}
            heads[name].load_state_dict(own)
        own = criterion_state_of(state["extra_state"])
        if own is not None:
            criterion.load_training_state(own)
    model.to(example).eval()
