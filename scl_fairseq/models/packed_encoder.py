"""fairseq's transformer encoder without padding: it computes the tokens that there are, no others.

An encoder is packed by changing its class, so parameters, their names, configuration and
checkpoints stay as they are, and copies of the model are packed too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch
from fairseq.models.roberta.model import RobertaClassificationHead
from fairseq.models.transformer import TransformerEncoder
from fairseq.modules import LearnedPositionalEmbedding, MultiheadAttention
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from torch import Tensor, nn
from torch.nn import functional as F

from scl_fairseq.models.packed_attention import attend
from scl_fairseq.models.packing import Packing, find_packing, packing_of
from scl_fairseq.models.projection_head import ProjectionHead
from scl_fairseq.models.ragged_attention import has_ragged_kernel
from scl_fairseq.products import affine, linear


class PackedTransformerEncoder(TransformerEncoder):
    """``TransformerEncoder`` whose layers see packed tokens, (total, C).

    Its output is fairseq's, but zero where fairseq's has what it computes from padding.

    Attributes:
        first_only: compute of the last layer only the first position of each sentence; the output
            then is (1, B, C).
    """

    first_only = False

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
    ) -> dict[str, list]:
        """As fairseq's, which computes the batches that do not end in padding alone."""
        is_padding = src_tokens.eq(self.padding_idx)
        in_groups = not has_ragged_kernel(src_tokens.device)
        packing = packing_of(src_tokens, self.padding_idx, in_groups, find_packing)
        if packing is None:
            return super().forward(src_tokens, src_lengths, return_all_hiddens, token_embeddings)
        x = self._embed(src_tokens, token_embeddings, packing)
        layers = list(self.layers)  # layer drop draws when it is iterated over
        first_only = self.first_only and not return_all_hiddens
        states = [packing.pad(x).transpose(0, 1)] if return_all_hiddens else []
        for index, layer in enumerate(layers):
            x = _run(layer, x, packing, first_only and index == len(layers) - 1)
            if return_all_hiddens:
                states.append(packing.pad(x).transpose(0, 1))
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        if first_only and layers:
            x = x.index_select(0, packing.ranks).unsqueeze(0)
        else:
            x = packing.pad(x).transpose(0, 1)
        return {
            "encoder_out": [x],
            "encoder_padding_mask": [is_padding],
            "encoder_embedding": [],
            "encoder_states": states,
            "fc_results": [None] * len(layers) if return_all_hiddens else [],
            "src_tokens": [],
            "src_lengths": [(~is_padding).sum(dim=1, dtype=torch.int32).view(-1, 1)],
        }

    def _embed(self, tokens: Tensor, embeddings: Tensor | None, packing: Packing) -> Tensor:
        """What the first layer reads, (total, C)."""
        words = packing.pack(tokens)
        x = self.embed_tokens(words) if embeddings is None else packing.pack(embeddings)
        x = self.embed_scale * x
        table = self.embed_positions
        if isinstance(table, LearnedPositionalEmbedding):
            x = x + F.embedding(packing.positions + table.padding_idx + 1, table.weight)
        elif table is not None:
            x = x + packing.pack(table(tokens))
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        x = self.dropout_module(x)
        return x if self.quant_noise is None else self.quant_noise(x)


def pack(model: nn.Module) -> None:
    """Let a RoBERTa model of fairseq compute no padding, for good; again it does nothing.

    Args:
        model: with its wrappers for several workers.

    Raises:
        ValueError: its encoder is none of fairseq's own, so that it may compute something else.
    """
    encoder = find_encoder(model)
    if isinstance(encoder, PackedTransformerEncoder):
        return
    reason = why_not(encoder)
    if reason is not None:
        raise ValueError(f"this model cannot be packed: {reason}")
    encoder.__class__ = PackedTransformerEncoder


def is_packed(model: nn.Module) -> bool:
    """Whether a model, wrapped or not, computes no padding."""
    return isinstance(find_encoder(model), PackedTransformerEncoder)


def run_layers(
    layers: Iterable[nn.Module], x: Tensor, is_padding: Tensor, is_packed: bool
) -> Tensor:
    """Layers of fairseq's on hidden states.

    Args:
        layers: of the kind that a packed encoder has.
        x: (B, T, C).
        is_padding: (B, T), bool.
        is_packed: compute no padding, where it is at the ends alone; what is returned there then
            is 0.

    Returns:
        (B, T, C).
    """
    packing = None
    if is_packed:
        packing = find_packing(~is_padding, in_groups=not has_ragged_kernel(x.device))
    if packing is not None:
        x = packing.pack(x)
        for layer in layers:
            x = _run(layer, x, packing, first_only=False)
        return packing.pad(x)
    mask = is_padding if is_padding.any() else None  # one wait for a GPU
    x = x.transpose(0, 1)
    for layer in layers:
        x = layer(x, encoder_padding_mask=mask)
    return x.transpose(0, 1)


@contextlib.contextmanager
def reading_first_position(model: nn.Module) -> Iterator[None]:
    """Of a packed model's last layer compute only what is read at the first position.

    Nothing changes for a model that is not packed.
    """
    encoder = find_encoder(model)
    if not isinstance(encoder, PackedTransformerEncoder):
        yield
        return
    before, encoder.first_only = encoder.first_only, True
    try:
        yield
    finally:
        encoder.first_only = before


@contextlib.contextmanager
def packed(model: nn.Module, first_only: bool) -> Iterator[None]:
    """Pack a model where that is possible, for a while.

    Args:
        model: with its wrappers.
        first_only: see :func:`reading_first_position`.
    """
    encoder = find_encoder(model)
    before = type(encoder)
    if why_not(encoder) is None:
        encoder.__class__ = PackedTransformerEncoder
    try:
        with reading_first_position(model) if first_only else contextlib.nullcontext():
            yield
    finally:
        if encoder is not None:
            encoder.__class__ = before


def reads_first_position(head: nn.Module) -> bool:
    """Whether a classification head reads nothing else, which is so for stock RoBERTa heads.

    A projection head reads what it is given.
    """
    return type(head) is RobertaClassificationHead or isinstance(head, ProjectionHead)


def find_encoder(model: nn.Module) -> nn.Module | None:
    """The transformer encoder of a RoBERTa model, wrapped or not."""
    while hasattr(model, "module"):
        model = model.module
    return getattr(getattr(model, "encoder", None), "sentence_encoder", None)


def why_not(encoder: nn.Module | None) -> str | None:
    """What keeps an encoder from being packed."""
    if encoder is None:
        return "only RoBERTa models have an encoder of this kind"
    if type(encoder) not in (TransformerEncoder, PackedTransformerEncoder):
        return f"its encoder is a {type(encoder).__name__}, not fairseq's TransformerEncoder"
    for layer in encoder.layers.children():
        if (
            not isinstance(layer, TransformerEncoderLayerBase)
            or type(layer).forward is not TransformerEncoderLayerBase.forward
            or getattr(layer, "return_fc", False)
        ):
            return f"its layers are {type(layer).__name__}s, not fairseq's own"
        attention = layer.self_attn
        if (
            type(attention) is not MultiheadAttention
            or attention.bias_k is not None
            or attention.add_zero_attn
            or getattr(attention, "use_xformers", False)
        ):
            return "its attention is not fairseq's own, or with additions"
    return None


def _run(layer: nn.Module, x: Tensor, packing: Packing, first_only: bool) -> Tensor:
    """A layer of fairseq, (total, C) to (total, C), or to (B, C) in the order of packing."""

    def forward(x: Tensor) -> Tensor:
        return _layer(layer, x, packing, first_only)

    checkpointed: Callable | None = getattr(layer, "precheckpoint_forward", None)
    if checkpointed is None or not torch.is_grad_enabled():
        return forward(x)
    # --checkpoint-activations: fairseq's own function, with its settings, around this forward.
    wrapper = layer.forward
    return wrapper.func(forward, *wrapper.args[1:], x)


def _layer(layer: nn.Module, x: Tensor, packing: Packing, first_only: bool) -> Tensor:
    residual = x.index_select(0, packing.first) if first_only else x
    if layer.normalize_before:
        x = layer.self_attn_layer_norm(x)
    x = _self_attention(layer.self_attn, x, packing, first_only)
    x = layer.residual_connection(layer.dropout_module(x), residual)
    if not layer.normalize_before:
        x = layer.self_attn_layer_norm(x)
    residual = x
    if layer.normalize_before:
        x = layer.final_layer_norm(x)
    x = layer.activation_dropout_module(layer.activation_fn(linear(layer.fc1, x)))
    x = layer.dropout_module(linear(layer.fc2, x))
    x = layer.residual_connection(x, residual)
    return x if layer.normalize_before else layer.final_layer_norm(x)


def _self_attention(
    attention: MultiheadAttention, x: Tensor, packing: Packing, first_only: bool
) -> Tensor:
    dropout = attention.dropout_module
    is_dropping = attention.training or dropout.apply_during_inference
    queries = x.index_select(0, packing.first) if first_only else x
    # As fairseq's attention does it: by the weights, past the projections' own forward and hooks.
    query, key, value = (
        affine(rows, projection.weight, projection.bias)
        for rows, projection in (
            (queries, attention.q_proj),
            (x, attention.k_proj),
            (x, attention.v_proj),
        )
    )
    found = attend(
        query,
        key,
        value,
        packing,
        attention.num_heads,
        attention.scaling,
        dropout.p if is_dropping else 0.0,
    )
    return affine(found, attention.out_proj.weight, attention.out_proj.bias)
