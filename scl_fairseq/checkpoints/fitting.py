"""Arguments of a model against those of the weights that it is given.

Heads, activations and the place of norms change what is computed, and no tensor's shape: weights
load into the wrong network without a word. What training may choose anew, such as dropout, is free.
"""

from __future__ import annotations

import contextlib
import copy
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.architecture import MODEL_TYPES, Architecture
from scl_fairseq.checkpoints.head_training import HeadTraining
from scl_fairseq.checkpoints.layer_norms import LAYER_NORM_EPS
from scl_fairseq.checkpoints.training_heads import PARTS, buffer_of, differing_heads, kept_heads
from scl_fairseq.configuration import as_dict
from scl_fairseq.files import read_json

CONFIG = "config.json"  # which scl-convert lays beside model.pt
_OF_A_SIDE = (
    "layers",
    "embed_dim",
    "ffn_embed_dim",
    "attention_heads",
    "normalize_before",
    "learned_pos",
)
_SIDES = tuple(f"{side}_{name}" for side in ("encoder", "decoder") for name in _OF_A_SIDE)
FUNCTION = (
    *_SIDES,
    "activation_fn",
    "layernorm_embedding",
    "no_scale_embedding",
    "no_token_positional_embeddings",
    "no_cross_attention",
    "cross_self_attention",
    "untie_weights_roberta",
)
_IN_CONFIG = (*_SIDES[:4], "activation_fn")
_POOLER = "pooler_activation_fn"  # of the classification head
_SAME = {"gelu_fast": "gelu_accurate"}
_ROWS = {
    "embed_tokens.weight": "tokens, and the data's dictionary makes",
    "embed_positions.weight": "positions, and --max-positions makes",
}


@contextlib.contextmanager
def loading_into(trainer) -> Iterator[None]:
    """What is read meanwhile is to become the weights of this trainer's model, and must fit it.

    Raises:
        ValueError: it does not.
    """
    from fairseq import checkpoint_utils

    read = checkpoint_utils.load_checkpoint_to_cpu  # or what a warm process has in its place

    def read_and_check(path, *args, **kwargs):
        state = read(path, *args, **kwargs)
        _check(trainer, Path(path), state)
        return state

    checkpoint_utils.load_checkpoint_to_cpu = read_and_check
    try:
        yield
    finally:
        checkpoint_utils.load_checkpoint_to_cpu = read


def _check(trainer, path: Path, state: Mapping[str, Any]) -> None:
    own = as_dict((state.get("cfg") or {}).get("model"))
    trainer._scl_layer_norm_eps = own.get(LAYER_NORM_EPS)
    told = _filled(as_dict(trainer.cfg.model))
    names = list(FUNCTION)
    if told.get("encoder_layers_to_keep") or told.get("decoder_layers_to_keep"):
        names = [name for name in names if not name.endswith("_layers")]  # LayerDrop's pruning
    if _keeps_head(trainer, state):
        names.append(_POOLER)
    check_beside(path, own)
    for source, other in ((path, _filled(own)), (path.parent / CONFIG, _beside(path))):
        for name in names:
            if name in other and name in told and _value(other, name) != _value(told, name):
                option = f"--{name.replace('_', '-')}"
                raise ValueError(
                    f"{option} is {told[name]}, and {source} has {other[name]}: the weights are "
                    "of another network",
                )
    _check_rows(trainer, path, state["model"])
    _check_pooling(trainer, path, state)


def check_beside(path: Path, own: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose own arguments contradict the ``config.json`` beside it.

    Args:
        path: the checkpoint.
        own: its model's arguments.

    Raises:
        ValueError: they do; the message names both values.
    """
    beside, own = _beside(path), _filled(own)
    for name in _IN_CONFIG:
        if name in beside and name in own and _value(beside, name) != _value(own, name):
            raise ValueError(
                f"{path} has {name} {own[name]}, and {path.parent / CONFIG} makes it "
                f"{beside[name]}: only one of them is of these weights"
            )


def _beside(path: Path) -> dict[str, Any]:
    """Fairseq's arguments of the ``config.json`` beside a checkpoint, where there is such a one."""
    try:
        config = read_json(path.parent / CONFIG)
        if config.get("model_type") not in MODEL_TYPES:
            return {}
        return {
            name: value
            for name, value in vars(Architecture.from_config(config).namespace()).items()
            if name in _IN_CONFIG
        }
    except (OSError, ValueError):  # none, or of something else
        return {}


def _filled(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with the sizes that are left to their architecture."""
    from fairseq.models import ARCH_CONFIG_REGISTRY

    fill = ARCH_CONFIG_REGISTRY.get(arguments.get("arch") or arguments.get("_name"))
    if fill is None:
        return dict(arguments)
    filled = copy.deepcopy(Namespace(**arguments))
    fill(filled)
    return vars(filled)


def _value(arguments: Mapping[str, Any], name: str) -> Any:
    value = arguments[name]
    return _SAME.get(value, value) if isinstance(value, str) else value


def _keeps_head(trainer, state: Mapping[str, Any]) -> bool:
    if getattr(trainer.cfg.criterion, "freeze_encoder", False):
        return False  # SupCon's second stage makes its head linear, whatever it was
    return bool(kept_heads(trainer.get_model(), state["model"]))


def _check_pooling(trainer, path: Path, state: dict[str, Any]) -> None:
    """Refuse a head that was trained for another pooling; one as it was drawn takes the option's.

    A first stage leaves such a head, and may have been told nothing of pooling.
    """
    model, weights = trainer.get_model(), state["model"]
    history = state.get("optimizer_history") or [{}]
    criterion = as_dict((state.get("cfg") or {}).get("criterion"))
    of_head = HeadTraining(path, criterion, state.get("extra_state") or {}, history)
    own_name = type(trainer.get_criterion()).__name__
    resumes = not trainer._scl_resets and history[-1].get("criterion_name") == own_name
    for name, reason in differing_heads(model, weights).items():
        if resumes or any(of_head.was_trained(name, part) for part in PARTS):
            raise ValueError(f"{path}: {reason}")
        key = buffer_of(name)
        if weights.pop(key, None) is None:
            weights[key] = model.state_dict()[key]


def _check_rows(trainer, path: Path, weights: Mapping[str, Any]) -> None:
    for name, tensor in trainer.get_model().state_dict().items():
        old = name.replace("encoder.", "decoder.", 1)  # as published checkpoints call it
        there = weights.get(name, weights.get(old))
        for end, what in _ROWS.items():
            if name.endswith(end) and there is not None and len(there) != len(tensor):
                rows = [len(there), len(tensor)]
                if end.startswith("embed_positions"):
                    rows = [count - 2 for count in rows]  # those of padding
                raise ValueError(f"{path} has {rows[0]} {what} {rows[1]}")
