"""A training's option, and what a head of its model reads."""

from __future__ import annotations

from torch import nn

from scl_fairseq.embeddings import CLS, MEAN
from scl_fairseq.models.mean_head import read_mean, reads_mean


def pooling_of(head: nn.Module) -> str:
    """What a head of a model reads."""
    return MEAN if reads_mean(head) else CLS


def tell_pooling(model: nn.Module, name: str, pooling: str) -> None:
    """Let a training's option decide what a head reads, whatever is loaded into it later.

    Raises:
        ValueError: the head was loaded and reads something else; or as of ``read_mean``.
    """
    while hasattr(model, "module"):
        model = model.module
    heads = getattr(model, "classification_heads", {})
    if name in heads and pooling_of(heads[name]) != pooling:
        if getattr(heads[name], "is_loaded", False) or pooling == CLS:
            raise ValueError(disagreement(name, pooling, pooling_of(heads[name])))
        read_mean(model, name)
    if name in heads:  # otherwise who needs it will tell that it is not there
        heads[name].is_told = True


def disagreement(name: str, told: str, theirs: str) -> str:
    """Why a head of a checkpoint is refused, and what would be right."""
    return (
        f"--head-pooling is {told}, and the checkpoint's head {name} reads {theirs}: give "
        f"--head-pooling {theirs}, or begin from a checkpoint without such a head"
    )
