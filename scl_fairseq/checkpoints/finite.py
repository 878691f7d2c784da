"""Weights of a training that has diverged, found before anything is computed with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scl_fairseq.checkpoints.loading import UNUSED_COPIES
from scl_fairseq.checkpoints.training_heads import PREFIX

_COPY = re.compile(rf"(^|.*\.)layers\.\d+\.({'|'.join(UNUSED_COPIES)})")
_MLM = re.compile(r"(^|.*\.)lm_head\..*")


def check_finite(source: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity, in one pass that needs no memory of its own.

    Args:
        source: the file or folder that the message names.
        tensors: by name; those that are not floating are passed over.

    Raises:
        ValueError: a tensor holds NaN or infinity; the message names the first one.
    """
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            what = "NaN" if tensor.isnan().any() else "infinity"
            raise ValueError(f"{source}: {name} holds {what}, so its training has diverged")


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    if not tensor.is_floating_point():
        return True
    # Neither vanishes in a sum. A sum that is infinite by itself calls for a look at each number.
    return bool(tensor.sum().isfinite()) or bool(torch.isfinite(tensor).all())


def used(tensors: Mapping[str, Tensor], head: str | None, mlm: bool = False) -> dict[str, Tensor]:
    """Those of a checkpoint's tensors that its model computes with.

    Args:
        tensors: by fairseq's names. Layers of fairseq 0.12.2 keep copies that nothing reads.
        head: the classification head; the others are of training alone.
        mlm: whether the masked-language-model head counts.
    """
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not _COPY.fullmatch(name)
        and (mlm or not _MLM.fullmatch(name))
        and (not name.startswith(PREFIX) or name.startswith(f"{PREFIX}{head}."))
    }
