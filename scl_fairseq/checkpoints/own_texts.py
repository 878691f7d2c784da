"""A training whose texts are not those of its checkpoints is refused before it starts.

Weights know labels and tokens by their numbers alone. Were a training to go on with another order
of labels, or to save beside checkpoints of another one, their outputs would be misread in silence.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scl_fairseq.checkpoints.training_state import text_of
from scl_fairseq.configuration import as_dict
from scl_fairseq.text.description import Description, describe_beside, difference

logger = logging.getLogger(__name__)


def check_folder(cfg, own: Description) -> None:
    """Refuse to save beside checkpoints of other texts.

    Args:
        cfg: fairseq's configuration of the training.
        own: what there is to say of its texts.

    Raises:
        ValueError: it has others; the message names both.
    """
    folder = Path(cfg.checkpoint.save_dir)
    checkpoints = sorted(folder.glob("checkpoint*.pt")) if folder.is_dir() else []
    if cfg.checkpoint.no_save or not checkpoints:
        return
    records = (_record(path)[0] for path in sorted(checkpoints, key=_is_not_last))
    found = difference(next(filter(None, records), None) or describe_beside(folder), own)
    if found:
        raise ValueError(
            f"{folder} holds checkpoints of {_of(found, cfg)}; name another --save-dir"
        )


def check_start(cfg, own: Description, checkpoint: Path) -> None:
    """Refuse weights of other texts to go on with, or to begin with where their head is kept.

    Args:
        cfg: fairseq's configuration of the training.
        own: what there is to say of its texts.
        checkpoint: from which the training resumes or begins; it need not be there.

    Raises:
        ValueError: it has others; the message names both.
    """
    if not checkpoint.is_file():
        return
    record, shapes = _record(checkpoint)
    there = record or describe_beside(checkpoint.parent)
    resumes = checkpoint.parent.resolve() == Path(cfg.checkpoint.save_dir).resolve()
    keeps_head = _keeps_head(cfg, shapes)
    is_told = getattr(cfg.criterion, "keep_head", False) and not resumes
    found = difference(there, own, with_labels=(keeps_head or resumes) and not is_told)
    if found:
        way = "name another --save-dir" if resumes else _way_out(found)
        raise ValueError(f"{checkpoint} was trained with {_of(found, cfg)}; {way}")
    if keeps_head and is_told and (found := difference(there, own)):
        logger.warning(
            "--keep-head: the head of %s was trained with %s", checkpoint, _of(found, cfg)
        )
    if keeps_head and not record and not is_told:
        logger.warning(
            "%s does not say itself which labels it was trained with; its classification head is "
            "taken to be of those of %s",
            checkpoint,
            cfg.task.data,
        )


def _record(checkpoint: Path) -> tuple[dict[str, Any], Mapping[str, torch.Size]]:
    """What a checkpoint says itself of its texts, and the shapes of its weights."""
    # Files in torch's older format, of other programs, cannot be looked into without reading them.
    if not zipfile.is_zipfile(checkpoint):
        return {}, {}
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        shapes = {name: tensor.shape for name, tensor in state["model"].items()}
        return text_of(state.get("extra_state")), shapes
    except Exception:  # whatever it is, loading it says so better
        return {}, {}


def _is_not_last(checkpoint: Path) -> bool:
    return checkpoint.name != "checkpoint_last.pt"


def _keeps_head(cfg, shapes: Mapping[str, torch.Size]) -> bool:
    """Whether fairseq will keep the checkpoint's classification head: its name and classes fit."""
    name = as_dict(cfg.criterion).get("classification_head_name")
    outputs = shapes.get(f"classification_heads.{name}.out_proj.weight")
    return outputs is not None and outputs[0] == as_dict(cfg.task).get("num_classes")


def _of(found: str, cfg) -> str:
    return f"{found} as {cfg.task.data} has"


def _way_out(found: str) -> str:
    if found.startswith("another"):
        return "binarise the data with the files of the checkpoint"
    return (
        "--classification-head-name NAME begins a new head, --keep-head of --criterion "
        "sentence_prediction_scl keeps this one, its outputs standing for the labels in their order"
    )
