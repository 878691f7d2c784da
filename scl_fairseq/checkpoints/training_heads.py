"""Heads of checkpoints that are not as fairseq builds them, where fairseq loads a model's weights.

Some are of training alone: the hub interface would try to build them and could not. Others read the
mean of the last layer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scl_fairseq.embeddings import CLS, MEAN

if TYPE_CHECKING:
    from torch import nn

PREFIX = "classification_heads."
PARTS = ("dense", "out_proj")  # of a classification head of fairseq's


def install() -> None:
    """Have fairseq's models leave out the former, and build the latter, once."""
    from fairseq.models.bart import BARTModel
    from fairseq.models.roberta import RobertaModel

    for model_class in (RobertaModel, BARTModel):
        _install(model_class)


def _install(model_class: type) -> None:
    from scl_fairseq.models.mean_head import BUFFER, read_mean

    original = model_class.upgrade_state_dict_named
    if getattr(original, "_scl_fairseq", False):
        return

    @functools.wraps(original)
    def upgrade_state_dict_named(self, state_dict, name):
        start = f"{name}." if name else ""
        prefix = f"{start}{PREFIX}"
        known = set(getattr(self, "classification_heads", {}))
        for head in _built_otherwise(state_dict, prefix, (*PARTS, BUFFER)) - known:
            for key in [key for key in state_dict if key.startswith(f"{prefix}{head}.")]:
                del state_dict[key]
        for reason in differing_heads(self, state_dict, start).values():
            raise ValueError(reason)
        kept = kept_heads(self, state_dict, start)
        found = original(self, state_dict, name)
        heads = getattr(self, "classification_heads", {})
        for head in (*kept, *(set(heads) - known)):
            heads[head].is_loaded = True
            if buffer_of(head, start) in state_dict:
                read_mean(self, head)
        return found

    upgrade_state_dict_named._scl_fairseq = True
    model_class.upgrade_state_dict_named = upgrade_state_dict_named


def kept_heads(model: nn.Module, weights: Mapping[str, Any], start: str = "") -> list[str]:
    """Heads of a model that fairseq fills from a checkpoint: those of the same sizes.

    Args:
        model: fairseq's, bare, that the weights are for.
        weights: of the checkpoint.
        start: of the model's names in it.
    """
    found = []
    for name, head in getattr(model, "classification_heads", {}).items():
        ours = [getattr(getattr(head, part, None), "weight", None) for part in PARTS]
        theirs = [weights.get(f"{start}{PREFIX}{name}.{part}.weight") for part in PARTS]
        pairs = zip(ours, theirs, strict=True)
        if all(a is not None and b is not None and a.shape == b.shape for a, b in pairs):
            found.append(name)
    return found


def differing_heads(
    model: nn.Module, weights: Mapping[str, Any], start: str = ""
) -> dict[str, str]:
    """Those of them that would be filled with weights that were made for another pooling.

    A head that nothing was told of follows the checkpoint; arguments are those of ``kept_heads``.

    Returns:
        For each why that is refused.
    """
    from scl_fairseq.models.head_pooling import disagreement, pooling_of

    found = {}
    for name in kept_heads(model, weights, start):
        own = pooling_of(model.classification_heads[name])
        is_fixed = own == MEAN or getattr(model.classification_heads[name], "is_told", False)
        theirs = MEAN if buffer_of(name, start) in weights else CLS
        if is_fixed and own != theirs:
            found[name] = disagreement(name, own, theirs)
    return found


def buffer_of(name: str, start: str = "") -> str:
    """The key by which a checkpoint says that a head reads the mean."""
    from scl_fairseq.models.mean_head import BUFFER

    return f"{start}{PREFIX}{name}.{BUFFER}"


def _built_otherwise(names: Iterable[str], prefix: str, parts: tuple[str, ...]) -> set[str]:
    """Heads that have more parts than fairseq gives them."""
    found = set()
    for name in names:
        if name.startswith(prefix):
            head, part = name[len(prefix) :].split(".")[:2]
            if part not in parts:
                found.add(head)
    return found
