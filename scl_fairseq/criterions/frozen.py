"""A linear classifier on an encoder that stays as it is (the second stage of SupCon)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from scl_fairseq.criterions.capture import HeadCapture
from scl_fairseq.criterions.chunks import ChunkedCapture, chunks_of
from scl_fairseq.criterions.reader import Reader
from scl_fairseq.models.mean_head import classify
from scl_fairseq.models.projection_head import fix_at_identity


class FrozenReader(Reader):
    """Trains of a model only the ``out_proj`` of a head, whose ``dense`` is the identity.

    The encoder computes in evaluation mode, and each sentence once, whatever split it is in: what
    the head reads of it is kept, C numbers a sentence.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._known: dict[bytes, Tensor] = {}

    def prepare_model(self, model: nn.Module) -> None:
        """Freeze all but the classifier.

        Raises:
            ValueError: the head is not linear once its ``dense`` is the identity.
        """
        activation = getattr(model.args, "pooler_activation_fn", None)
        if activation != "linear":
            raise ValueError(
                "--freeze-encoder trains a linear classifier: it needs --pooler-activation-fn "
                f"linear, got {activation}"
            )
        head = model.classification_heads[self._head_name]
        if head.dense.in_features != head.dense.out_features:
            raise ValueError(
                f"--freeze-encoder needs a head as wide as its input: {self._head_name} makes "
                f"{head.dense.out_features} of {head.dense.in_features}"
            )
        super().prepare_model(model)
        model.requires_grad_(False)
        head.out_proj.requires_grad_(True)

    def finish_loading(self, model: nn.Module) -> None:
        """Let the head's first layer return what it reads."""
        fix_at_identity(model.classification_heads[self._head_name].dense)

    @contextmanager
    def capture(self, model: nn.Module, net_input: dict) -> Iterator[HeadCapture | ChunkedCapture]:
        """As of any reader; the model's forward runs its head alone on what is known."""
        bare = model
        while hasattr(bare, "module"):
            bare = bare.module
        original = bare.forward

        def forward(**net_input: Any) -> tuple[Tensor, dict]:
            vectors = self._vectors(bare, original, net_input)
            head = bare.classification_heads[self._head_name]
            return classify(head, vectors), {"inner_states": None}

        bare.forward = forward  # hides the class's method
        try:
            with super().capture(model, net_input) as captured:
                yield captured
        finally:
            del bare.forward

    def _vectors(self, model: nn.Module, forward: Callable, net_input: dict) -> Tensor:
        """What the head reads of a batch: (B, C)."""
        tokens = net_input["src_tokens"].cpu().numpy()
        names = [row[row != self._padding_idx].tobytes() for row in tokens]
        new = {name: place for place, name in enumerate(names) if name not in self._known}
        if new:
            places = torch.tensor(list(new.values()), device=net_input["src_tokens"].device)
            chosen = {
                name: value[places] if torch.is_tensor(value) else value
                for name, value in net_input.items()
            }
            (chosen,) = chunks_of(chosen, len(places), self._padding_idx)
            self._known.update(zip(new, self._compute(model, forward, chosen), strict=True))
        return torch.stack([self._known[name] for name in names])

    @torch.no_grad()
    def _compute(self, model: nn.Module, forward: Callable, net_input: dict) -> Tensor:
        was_training = model.training
        model.eval()
        try:
            with HeadCapture(
                model, self._head_name, self._pooling, net_input, self._padding_idx
            ) as captured:
                forward(**net_input)
        finally:
            model.train(was_training)
        return captured.embedding().clone()
