"""What a conversion lays down beside the vocabulary: the checkpoint, and what it is for."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.architecture import Architecture
from scl_fairseq.checkpoints.companions import PACKAGES
from scl_fairseq.checkpoints.head_training import DEFAULT_HEAD
from scl_fairseq.checkpoints.source_head import SourceHead
from scl_fairseq.checkpoints.source_modules import SourceModules
from scl_fairseq.checkpoints.training_heads import PARTS
from scl_fairseq.checkpoints.training_state import HEADS, KEY, POOLING, SOURCE, TEXT
from scl_fairseq.checkpoints.vocabulary import Vocabulary
from scl_fairseq.text.description import INPUT, fingerprint
from scl_fairseq.versions import installed

POOLING_FILE = "pooling.json"  # for people; commands read it in the checkpoint


def told_pooling(pooling: str, modules: SourceModules) -> str:
    """The contents of ``pooling.json``."""
    return (
        json.dumps({"pooling": pooling, "source": modules.told_by}, indent=1, allow_nan=False)
        + "\n"
    )


def checkpoint(
    arguments: Namespace,
    state: dict[str, Any],
    text: dict[str, Any] | None,
    pooling: str | None,
    source: Mapping[str, str],
) -> dict[str, Any]:
    """What fairseq loads.

    Args:
        arguments: the model's.
        state: its weights.
        text: of :func:`describe`; None without a head.
        pooling: what the source says of it; None where it says nothing.
        source: of :func:`read_source_card`.
    """
    own: dict[str, Any] = {SOURCE: dict(source), **({POOLING: pooling} if pooling else {})}
    if text:
        own |= {TEXT: text, HEADS: {DEFAULT_HEAD: list(PARTS)}}
    extra = {KEY: own}
    return {
        "args": arguments,
        "model": state,
        "optimizer_history": [
            {
                "criterion_name": "MaskedLmLoss",
                "optimizer_name": "FairseqAdam",
                "lr_scheduler_state": {},
                "num_updates": 0,
            }
        ],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}} | extra,
    }


def describe(
    folder: Path,
    files: Mapping[str, Any],
    vocabulary: Vocabulary,
    architecture: Architecture,
    head: SourceHead,
    separators: int,
) -> dict[str, Any]:
    """What a training on sentences would say of its texts."""
    arguments = architecture.namespace(head, separators)
    return {
        "task": None,
        "labels": list(head.labels),
        "bpe": vocabulary.bpe,
        "init_token": arguments.init_token,
        "separator_token": arguments.separator_token,
        "max_positions": architecture.max_positions,
        "sha256": {name: fingerprint(folder / name) for name in files if name != INPUT},
        "versions": installed(PACKAGES),
    }


def count_parameters(state: dict[str, Any]) -> int:
    """Trainable numbers, tied ones once."""
    tied = {"encoder.lm_head.weight", "encoder.sentence_encoder.version"}
    return sum(tensor.numel() for name, tensor in state.items() if name not in tied)
