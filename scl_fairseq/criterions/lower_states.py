"""Where the networks beside the encoder get a changed sentence's hidden states from."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from scl_fairseq.criterions import waiting
from scl_fairseq.criterions.momentum import MomentumCopy
from scl_fairseq.models.lower_layers import lower_states


class LowerStates:
    """M: what a lower layer of the encoder, or of a copy that stays as it was, makes of sentences.

    Args:
        depth: how many layers; 0: half of them.
        is_detached: whether the states are constants.
        copy: makes the states instead of the model; its states are constants.

    Attributes:
        depth: known once there was a model.
        is_detached: as given.
    """

    def __init__(self, depth: int, is_detached: bool, copy: MomentumCopy | None = None):
        self.depth, self.is_detached = depth, is_detached
        self._copy = copy

    def prepare_model(self, model: nn.Module) -> None:
        """Look at a model's depth.

        Raises:
            ValueError: it is no RoBERTa, or has too few layers.
        """
        encoder = getattr(getattr(model, "encoder", None), "sentence_encoder", None)
        if encoder is None or not hasattr(model.encoder, "lm_head"):
            raise ValueError("--criterion infocse needs a RoBERTa model")
        most = len(encoder.layers)
        self.depth = self.depth or max(1, most // 2)
        if self.depth > most:
            raise ValueError(f"--infocse-states-layer {self.depth}: the encoder has {most} layers")

    def __call__(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """States of a batch, (S, T) to (S, T, C), by a bare model."""
        encoder = model.encoder if self._copy is None else self._copy.follow(model, 0).encoder
        with torch.no_grad() if self.is_detached else contextlib.nullcontext():
            return lower_states(encoder, tokens, self.depth)


def places_of(mask: Tensor, masked: dict, name: str) -> Tensor:
    """Where a mask holds, as places in (S · T).

    Args:
        mask: (S, T), bool, of the batch of masked copies.
        masked: that batch, which came with the same places (``tasks.sentence_rows``): a GPU would
            have to be waited for to count them.
        name: what it calls them.
    """
    if name in masked and waiting.is_waited_for(mask):
        return masked[name]
    return mask.flatten().nonzero().squeeze(1)


def chosen_rows(states: Tensor, places: Tensor) -> Tensor:
    """Of (S, T, C) the rows at places in (S · T): (M, C)."""
    return states.flatten(0, 1).index_select(0, places)


def matched(vectors: Tensor, count: int) -> Tensor:
    """Vectors of as many rows as there are changed copies of the sentences.

    Args:
        vectors: (R, C), of sentences, or of several views of each in a row.
        count: of copies, likewise; fewer or more of them than views are matched in turn.
    """
    if len(vectors) >= count:
        return vectors[:: len(vectors) // count]
    return vectors.repeat_interleave(count // len(vectors), dim=0)
