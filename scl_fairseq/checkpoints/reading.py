"""fairseq's checkpoints as data: read whole, or refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.finite import check_finite, used
from scl_fairseq.checkpoints.fitting import check_beside
from scl_fairseq.checkpoints.head_training import DEFAULT_HEAD, HeadTraining
from scl_fairseq.configuration import as_dict
from scl_fairseq.refusals import UNFIT, one_line


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Contents of a checkpoint in today's terms: ``cfg`` and ``model`` are there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, not safe to load, or none of fairseq's; a weight that its model
            computes with is NaN or infinite; or the ``config.json`` beside it is of another
            network.
    """
    from fairseq import checkpoint_utils

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        if state["cfg"].get("task") is None or not isinstance(state["model"], Mapping):
            raise TypeError("it has no task or no weights")
    except UNFIT as error:
        message = one_line(error)
        if str(path) not in message:
            message = f"{path} is no fairseq checkpoint ({message})"
        raise ValueError(message) from error
    except OSError as error:  # in a short rest of a file torch seeks to where there is nothing
        raise ValueError(f"{path} is truncated or damaged: {one_line(error)}") from error
    check_beside(path, as_dict(state["cfg"].get("model")))
    state["args"] = None  # of older files; fairseq has put them into cfg too
    check_finite(path, used(state["model"], head_of(state)))
    return state


def head_of(state: Mapping[str, Any]) -> str:
    """The name of the classification head that a checkpoint's training was told."""
    groups = (as_dict(state["cfg"].get(group)) for group in ("criterion", "task"))
    named = (group.get("classification_head_name") for group in groups)
    return next(filter(None, named), DEFAULT_HEAD)


def head_training(path: Path, state: Mapping[str, Any]) -> HeadTraining:
    """What the contents of a checkpoint tell of the training of its heads."""
    history = state.get("optimizer_history") or []
    criterion = as_dict(state["cfg"].get("criterion"))
    return HeadTraining(path, criterion, state.get("extra_state") or {}, history)
