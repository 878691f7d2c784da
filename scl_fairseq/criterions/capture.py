"""Read the sentence embedding and the logits out of a model's own forward pass.

Running the classification head a second time would double its dropout draws and, under DDP with
``--find-unused-parameters``, leave the wrapped forward. Hooks see the tensors that the one forward
makes, whatever the model: RoBERTa's head is handed all positions, BART's the last ``</s>`` state.
"""

from __future__ import annotations

import contextlib

from torch import Tensor, nn

from scl_fairseq.embeddings import CLS, MEAN, POOLED
from scl_fairseq.models.mean_head import masked_mean
from scl_fairseq.models.packed_encoder import reading_first_position, reads_first_position
from scl_fairseq.models.projection_head import ProjectionHead


class HeadCapture:
    """Context manager that records what a classification head reads and writes.

    Args:
        model: a fairseq model with ``classification_heads``, wrapped for DDP or not.
        head_name: which head.
        kind: the embedding that will be asked for; others may be wrong, since a packed model
            computes only what the head and this one read. A projection head reads this one.
        net_input: the batch's ``net_input``; ``mean`` reads its padding from it.
        padding_idx: index of ``<pad>``.

    Raises:
        ValueError: the model has no such head.

    Attributes (set by a forward pass inside the context):
        features: the head's input, (B, T, C) for encoders, (B, C) for BART.
        decoder_states: (B, T, C), for encoder-decoder models, otherwise None.
        pooled: the input of the head's ``out_proj``, (B, inner).
        logits: the head's output, (B, num_classes).
    """

    def __init__(
        self, model: nn.Module, head_name: str, kind: str, net_input: dict, padding_idx: int
    ):
        # torch's DDP hides the model's attributes; fairseq's wrappers forward them.
        if not hasattr(model, "classification_heads") and hasattr(model, "module"):
            model = model.module
        heads = getattr(model, "classification_heads", {})
        if head_name not in heads:
            raise ValueError(
                f"the model has no classification head {head_name!r} "
                f"(--classification-head-name); it has: {', '.join(heads) or 'none'}"
            )
        self._head = heads[head_name]
        self._decoder = getattr(model, "decoder", None)
        self._kind = kind
        self._model, self._net_input, self._padding_idx = model, net_input, padding_idx
        self._context = contextlib.ExitStack()
        self._is_vector = False
        self.features: Tensor | None = None
        self.decoder_states: Tensor | None = None
        self.pooled: Tensor | None = None
        self.logits: Tensor | None = None

    def __enter__(self) -> HeadCapture:
        hooks = [
            self._head.register_forward_pre_hook(self._on_head_input, with_kwargs=True),
            self._head.register_forward_hook(self._on_head_output),
            self._head.out_proj.register_forward_pre_hook(self._on_pooled),
        ]
        if self._decoder is not None:
            hooks.append(self._decoder.register_forward_hook(self._on_decoder_output))
        for hook in hooks:
            self._context.callback(hook.remove)
        if self._kind != MEAN and reads_first_position(self._head):
            self._context.enter_context(reading_first_position(self._model))
        return self

    def __exit__(self, *exc_info) -> None:
        self._context.close()

    def embedding(self) -> Tensor:
        """The sentence embedding that ``--scl-embedding`` names.

        Returns:
            (B, C); ``mean`` in float32 for half-precision features, else the features' dtype.
        """
        if self._kind == POOLED:
            return self.pooled
        if self._kind == CLS or self._is_vector:
            return self.features[:, 0] if self.features.dim() == 3 else self.features
        states = self.features if self.decoder_states is None else self.decoder_states
        return masked_mean(states, self._net_input["src_tokens"].eq(self._padding_idx))

    def _on_head_input(
        self, module: nn.Module, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict] | None:
        self.features = args[0]
        self._is_vector = kwargs.get("is_vector", False)
        if isinstance(module, ProjectionHead):
            return (self.embedding().to(module.out_proj.weight.dtype),), kwargs
        return None

    def _on_head_output(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.logits = output

    def _on_pooled(self, module: nn.Module, args: tuple) -> None:
        self.pooled = args[0]

    def _on_decoder_output(self, module: nn.Module, args: tuple, output: tuple) -> None:
        self.decoder_states = output[0]
