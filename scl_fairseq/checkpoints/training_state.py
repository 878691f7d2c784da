"""What a criterion has beyond its options: the model made ready for it, and state in checkpoints.

fairseq saves no criterion that has no parameters, and shows it the model only when training begins.
A criterion may have any of these methods, which its trainer then calls:

- ``prepare_model(model)``: with the bare model, before it is moved, halved, wrapped or loaded into,
  and before there is an optimizer: the place to add heads, and to freeze parameters.
  ``fairseq-validate`` (``checkpoints.validation``) does it with a loaded model.
- ``finish_loading(model, train_subset)``: once, with the bare model as a new training begins with
  it, its weights loaded (or none to load) and not yet copied by an optimizer, and the name of the
  training data. Not where a training resumes.
- ``training_state()``: a dictionary of tensors, numbers, strings and containers of them, as
  checkpoints load weights-only; or None. It is kept in each checkpoint.
- ``load_training_state(state)``: gets that of the checkpoint from which a training resumes. A
  checkpoint without one means to begin afresh.
- ``begin_from(state)``: gets that of another training's checkpoint, from whose weights a new one
  begins: the place to refuse what it was made for.
- ``settle(update_num)``: before and after each try of an update, with the number of updates so far.
  Where that is the same as the time before, what the criterion has kept since is of an update that
  did not happen: fp16 skips a batch that overflows, ``--amp`` runs it again.

The state lies in the checkpoint's ``extra_state``, which whoever only wants the weights ignores.
Beside it lies what the weights know of their texts (``text.description``), and which heads were
trained (``head_training``); in a converted encoder's, what it was trained to be read by, and whose
it is (``source_card``), which goes along into all that is trained from it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

from scl_fairseq.embeddings import CONTRASTED

logger = logging.getLogger(__name__)

KEY = "scl_fairseq"
# In it; all else is the criterion's.
TEXT, HEADS, POOLING, SOURCE = "text", "heads", "pooling", "source"


def install() -> None:
    """Have fairseq's trainer call these methods, once."""
    from fairseq.trainer import Trainer

    if getattr(Trainer.__init__, "_scl_fairseq", False):
        return
    _prepare_models(Trainer)
    _finish_loading(Trainer)
    _save_states(Trainer)
    _load_states(Trainer)
    _settle_updates(Trainer)


def prepare(criterion, model) -> None:
    """Show a criterion that has ``prepare_model`` its model."""
    criterion.prepare_model(model)
    criterion._scl_is_prepared = True


def is_prepared(criterion) -> bool:
    """Whether it was shown one."""
    return getattr(criterion, "_scl_is_prepared", False)


def part_of(extra_state: Mapping[str, Any] | None, part: str) -> Any:
    """A part of what this package keeps in ``extra_state``; None where it has none."""
    return ((extra_state or {}).get(KEY) or {}).get(part)


def text_of(extra_state: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a checkpoint says of its texts; nothing where an earlier version has written it."""
    return part_of(extra_state, TEXT) or {}


def criterion_state_of(extra_state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a criterion has left in a checkpoint; None where it has left nothing."""
    own = (extra_state or {}).get(KEY) or {}
    parts = (TEXT, HEADS, POOLING, SOURCE)
    return {name: value for name, value in own.items() if name not in parts} or None


def trained_embedding(extra_state: Mapping[str, Any] | None) -> str | None:
    """Which vector of an encoder was trained to stand for a sentence, where a checkpoint says so.

    Training of a classifier on it says nothing more of that.
    """
    found = part_of(extra_state, CONTRASTED) or part_of(extra_state, POOLING)
    return str(found) if found else None


def _prepare_models(trainer_class: type) -> None:
    original = trainer_class.__init__

    @functools.wraps(original)
    def __init__(self, cfg, task, model, criterion, *args, **kwargs):
        if hasattr(criterion, "prepare_model"):
            prepare(criterion, model)
        self._scl_may_begin, self._scl_resets = True, False
        original(self, cfg, task, model, criterion, *args, **kwargs)

    __init__._scl_fairseq = True
    trainer_class.__init__ = __init__


def _finish_loading(trainer_class: type) -> None:
    # The first that fairseq does with loaded weights, or where there was nothing to load. Loading
    # itself calls it before it returns, and half precision copies the weights here.
    original = trainer_class._build_optimizer

    @functools.wraps(original)
    def _build_optimizer(self):
        criterion = self.get_criterion()
        if self._scl_may_begin and not _resumes(self) and hasattr(criterion, "finish_loading"):
            criterion.finish_loading(self.get_model(), self.cfg.dataset.train_subset)
        self._scl_may_begin = False
        original(self)

    trainer_class._build_optimizer = _build_optimizer


def _save_states(trainer_class: type) -> None:
    original = trainer_class.state_dict

    @functools.wraps(original)
    def state_dict(self):
        state = original(self)
        criterion = self.get_criterion()
        own = criterion.training_state() if hasattr(criterion, "training_state") else None
        text = getattr(self, "_scl_text", None)  # by ``companions``
        source = part_of({KEY: getattr(self, "_scl_kept", None)}, SOURCE)
        parts = {name: part for name, part in ((TEXT, text), (SOURCE, source)) if part}
        if own is not None or parts:
            state["extra_state"][KEY] = {**(own or {}), **parts}
        return state

    trainer_class.state_dict = state_dict


def _load_states(trainer_class: type) -> None:
    original = trainer_class.load_checkpoint

    @functools.wraps(original)
    def load_checkpoint(self, filename, reset_optimizer=False, *args, **kwargs):
        self._scl_may_begin, self._scl_resets = True, reset_optimizer
        extra_state = original(self, filename, reset_optimizer, *args, **kwargs)
        own = criterion_state_of(extra_state)
        # Taken out, since fairseq holds on to the rest as long as it trains.
        self._scl_kept = extra_state.pop(KEY, None) if extra_state is not None else None
        criterion = self.get_criterion()
        receiver = "load_training_state" if _resumes(self) else "begin_from"
        if own is not None and hasattr(criterion, receiver):
            getattr(criterion, receiver)(own)
        if receiver == "begin_from":
            _note_pooling(criterion, filename, part_of({KEY: self._scl_kept}, POOLING))
        return extra_state

    trainer_class.load_checkpoint = load_checkpoint


def _settle_updates(trainer_class: type) -> None:
    original = trainer_class.train_step

    @functools.wraps(original)
    def train_step(self, *args, **kwargs):
        # fairseq calls itself to run a batch again.
        settle = getattr(self.get_criterion(), "settle", None)
        if settle is None:
            return original(self, *args, **kwargs)
        settle(self.get_num_updates())
        found = original(self, *args, **kwargs)
        settle(self.get_num_updates())
        return found

    trainer_class.train_step = train_step


def _note_pooling(criterion, filename: str, pooling: str | None) -> None:
    own = getattr(criterion, "head_pooling", None)
    if pooling is not None and own is not None and pooling != own:
        logger.warning(
            "%s was trained to be read by --head-pooling %s, and this training reads %s",
            filename,
            pooling,
            own,
        )


def _resumes(trainer) -> bool:
    """Whether what was loaded is a state of this training, not weights for a new one to begin with.

    ``--finetune-from-model`` resets the optimizer too. A pre-trained model may have none to reset,
    but it was trained with another criterion.
    """
    history = trainer._optim_history or [{}]
    criterion_name = type(trainer.get_criterion()).__name__
    return not trainer._scl_resets and history[-1].get("criterion_name") == criterion_name
