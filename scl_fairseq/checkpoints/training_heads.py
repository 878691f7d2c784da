"""Heads that only training has, which fairseq's hub interface would try to build and could not."""

from __future__ import annotations

import functools

PREFIX = "classification_heads."
PARTS = ("dense", "out_proj")  # of a classification head of fairseq's


def install() -> None:
    """Have fairseq's RoBERTa leave out such heads where it adds a checkpoint's heads, once."""
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
        prefix = f"{name}.{PREFIX}" if name else PREFIX
        known = getattr(self, "classification_heads", {})
        for head in _built_otherwise(state_dict, prefix, (*PARTS, BUFFER)) - set(known):
            for key in [key for key in state_dict if key.startswith(f"{prefix}{head}.")]:
                del state_dict[key]
        found = original(self, state_dict, name)
        for head in getattr(self, "classification_heads", {}):
            if f"{prefix}{head}.{BUFFER}" in state_dict:  # what is left of them is kept
                read_mean(self, head)
        return found

    upgrade_state_dict_named._scl_fairseq = True
    model_class.upgrade_state_dict_named = upgrade_state_dict_named


def _built_otherwise(names, prefix: str, parts: tuple[str, ...]) -> set[str]:
    """Heads that have more parts than fairseq gives them."""
    found = set()
    for name in names:
        if name.startswith(prefix):
            head, part = name[len(prefix) :].split(".")[:2]
            if part not in parts:
                found.add(head)
    return found
