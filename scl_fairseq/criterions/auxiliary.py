"""InfoCSE's auxiliary objective: rebuild a masked sentence with the help of its vector."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scl_fairseq.criterions.momentum import MomentumCopy
from scl_fairseq.models.auxiliary_head import AuxiliaryHead, predict_words
from scl_fairseq.models.lower_layers import lower_states

HEAD = "infocse_auxiliary"


class AuxiliaryNetwork:
    """L_aux, and masked language modelling by the encoder itself, L_mlm, of one batch.

    Args:
        num_layers: of the auxiliary head.
        depth: the encoder's layer whose states the head reads; 0: half way up.
        is_detached: whether those states are constants to L_aux.
        is_frozen: whether a copy of the encoder makes them, which stays as training found it.
        wants_auxiliary, wants_mlm: which of the losses to compute.
        padding_idx: index of ``<pad>``, which stands in targets for no target.
    """

    def __init__(
        self,
        num_layers: int,
        depth: int,
        is_detached: bool,
        is_frozen: bool,
        wants_auxiliary: bool,
        wants_mlm: bool,
        padding_idx: int,
    ):
        self._num_layers, self._depth, self._is_detached = num_layers, depth, is_detached
        self._wants_auxiliary, self._wants_mlm = wants_auxiliary, wants_mlm
        self._padding_idx = padding_idx
        # A momentum of 1: it is never updated.
        self._frozen = MomentumCopy(1.0) if is_frozen else None

    def prepare_model(self, model: nn.Module) -> None:
        """Give a model the auxiliary head.

        Raises:
            ValueError: it is no RoBERTa, or has too few layers.
        """
        encoder = getattr(getattr(model, "encoder", None), "sentence_encoder", None)
        if encoder is None or not hasattr(model.encoder, "lm_head"):
            raise ValueError("--criterion infocse needs a RoBERTa model")
        most = len(encoder.layers)
        self._depth = self._depth or max(1, most // 2)
        if self._depth > most:
            raise ValueError(f"--infocse-states-layer {self._depth}: the encoder has {most} layers")
        if self._wants_auxiliary:
            model.classification_heads[HEAD] = AuxiliaryHead(model, self._num_layers)

    def prepare(self, model: nn.Module) -> None:
        """Copy a model that is to stay as it is, the first time."""
        if self._frozen is not None:
            self._frozen.follow(model, 0)

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps: the frozen copy, where there is one."""
        return self._frozen.state() if self._frozen is not None else None

    def load(self, state: dict[str, Any]) -> None:
        """Take up the frozen copy."""
        if self._frozen is not None:
            self._frozen.load(state)

    def __call__(self, model: nn.Module, vectors: Tensor, masked: dict) -> dict[str, Tensor]:
        """Losses as means over the masked tokens, in nats; those that are wanted.

        Args:
            model: what is trained, with its wrappers.
            vectors: (R, C), of whole sentences, or of several views of each in a row.
            masked: ``{"src_tokens", "target"}``, (S, T), of the same sentences in the same order;
                fewer or more copies than views are matched in turn.
        """
        while hasattr(model, "module"):
            model = model.module
        tokens, target = masked["src_tokens"], masked["target"]
        chosen = target.ne(self._padding_idx)
        states, last = self._states(model, tokens)
        encoder, found = model.encoder, {}
        if self._wants_auxiliary:
            head = model.classification_heads[HEAD]
            rows = head(_matched(vectors, len(tokens)), states, tokens.eq(self._padding_idx))
            words = encoder.sentence_encoder.embed_tokens.weight
            logits = predict_words(encoder.lm_head, rows[chosen], words)
            found["aux_loss"] = _cross_entropy(logits, target[chosen])
        if self._wants_mlm:
            logits = encoder.output_layer(last, masked_tokens=chosen)
            found["mlm_loss"] = _cross_entropy(logits, target[chosen])
        return found

    def _states(self, model: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """M, (S, T, C), and where L_mlm is wanted the last layer's states of the same."""
        if self._wants_mlm:
            last, found = model.encoder.extract_features(tokens, return_all_hiddens=True)
            states = found["inner_states"][self._depth].transpose(0, 1)
            return (states.detach() if self._is_detached else states), last
        encoder, no_gradient = model.encoder, contextlib.nullcontext()
        if self._frozen is not None:
            encoder = self._frozen.follow(model, 0).encoder
        if self._is_detached:
            no_gradient = torch.no_grad()
        with no_gradient:
            return lower_states(encoder, tokens, self._depth), None


def _matched(vectors: Tensor, count: int) -> Tensor:
    """Vectors of as many rows as there are masked copies."""
    if len(vectors) >= count:
        return vectors[:: len(vectors) // count]
    return vectors.repeat_interleave(count // len(vectors), dim=0)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean, 0 over nothing; in float32 or wider."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide, targets, reduction="sum") / max(1, len(targets))
