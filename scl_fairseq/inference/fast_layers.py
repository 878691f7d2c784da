"""fairseq's encoder layers as evaluation needs them: no dropout, no unread positions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scl_fairseq.products import linear


@contextlib.contextmanager
def last_layer_at_first_position(model: nn.Module) -> Iterator[None]:
    """Of the last encoder layer compute what a head reads: one query, one feed-forward row."""
    layers = _layers(model)[-1:]
    with _replaced({layer: _first_position for layer in layers if _is_plain(layer)}):
        yield


@contextlib.contextmanager
def fast_layers(model: nn.Module, first_only: bool) -> Iterator[None]:
    """Let encoder layers run without fairseq's detours, where they are its own.

    Results differ from fairseq's by rounding alone.

    Args:
        model: a fairseq model, in evaluation mode.
        first_only: of the last layer only the first position is read.
    """
    plain = [layer for layer in _layers(model) if _is_plain(layer)]
    replaced: dict[nn.Module, Callable] = {
        layer: _fast for layer in plain if _has_plain_attention(layer)
    }
    if first_only and plain and plain[-1] is _layers(model)[-1]:
        replaced[plain[-1]] = _fast_first_position if plain[-1] in replaced else _first_position
    with _replaced(replaced):
        yield


@contextlib.contextmanager
def _replaced(forwards: dict[nn.Module, Callable]) -> Iterator[None]:
    for layer, function in forwards.items():
        # An instance's attribute hides the class's method.
        layer.forward = _bound(function, layer)
    try:
        yield
    finally:
        for layer in forwards:
            del layer.forward


def _bound(function: Callable, layer: nn.Module) -> Callable:
    def forward(x, encoder_padding_mask=None, attn_mask=None):
        return function(layer, x, encoder_padding_mask)

    return forward


def _layers(model: nn.Module) -> Sequence[nn.Module]:
    encoder = getattr(getattr(model, "encoder", None), "sentence_encoder", None)
    return list(getattr(encoder, "layers", None) or [])


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is fairseq's own and runs as written."""
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

    # Stock 0.12.2 hands batch-first or nested tensors to layers that can use torch's own kernel.
    return (
        isinstance(layer, TransformerEncoderLayerBase)
        and type(layer).forward is TransformerEncoderLayerBase.forward
        and not hasattr(layer, "can_use_fastpath")
        and "forward" not in vars(layer)
        and not getattr(layer, "return_fc", False)
    )


def _has_plain_attention(layer: nn.Module) -> bool:
    """Whether the attention is softmax(QKᵀ) V over the sequence, and nothing else."""
    from fairseq.modules import MultiheadAttention

    attention = layer.self_attn
    return (
        type(attention) is MultiheadAttention
        and attention.bias_k is None
        and not attention.add_zero_attn
        and not getattr(attention, "use_xformers", False)
    )


def _first_position(layer: nn.Module, x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """An encoder layer of fairseq in evaluation mode, (T, B, C) to (1, B, C)."""
    residual = x[:1]
    if layer.normalize_before:
        x = layer.self_attn_layer_norm(x)
    attended, _ = layer.self_attn(
        query=x[:1], key=x, value=x, key_padding_mask=padding_mask, need_weights=False
    )
    return _after_attention(layer, attended, residual, lambda module, x: module(x))


def _fast(layer: nn.Module, x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """The same for all positions, (T, B, C) to (T, B, C)."""
    residual = x
    if layer.normalize_before:
        x = layer.self_attn_layer_norm(x)
    return _after_attention(layer, _attend(layer.self_attn, x, x, padding_mask), residual)


def _fast_first_position(layer: nn.Module, x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """The same for the first position, (T, B, C) to (1, B, C)."""
    residual = x[:1]
    if layer.normalize_before:
        x = layer.self_attn_layer_norm(x)
    return _after_attention(layer, _attend(layer.self_attn, x[:1], x, padding_mask), residual)


def _after_attention(
    layer: nn.Module,
    x: Tensor,
    residual: Tensor,
    project: Callable[[nn.Module, Tensor], Tensor] = linear,
) -> Tensor:
    x = layer.residual_connection(x, residual)
    if not layer.normalize_before:
        x = layer.self_attn_layer_norm(x)
    residual = x
    if layer.normalize_before:
        x = layer.final_layer_norm(x)
    x = project(layer.fc2, layer.activation_fn(project(layer.fc1, x)))
    x = layer.residual_connection(x, residual)
    return x if layer.normalize_before else layer.final_layer_norm(x)


def _attend(
    attention: nn.Module, queries: Tensor, x: Tensor, padding_mask: Tensor | None
) -> Tensor:
    """Self-attention of some positions, (Q, B, C), to all, (T, B, C); returns (Q, B, C)."""
    heads = attention.num_heads
    query = linear(attention.q_proj, queries)
    key, value = linear(attention.k_proj, x), linear(attention.v_proj, x)
    if x.device.type != "cpu":
        # (T, B, C) to (B, heads, T, C / heads)
        query, key, value = (
            part.unflatten(2, (heads, -1)).permute(1, 2, 0, 3) for part in (query, key, value)
        )
        is_read = None if padding_mask is None else ~padding_mask[:, None, None].bool()
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=is_read, scale=attention.scaling
        )
        return linear(attention.out_proj, attended.permute(2, 0, 1, 3).flatten(2))
    # For sentences torch's fused attention is the slower one on a CPU.
    # (T, B, C) to (B · heads, T, C / heads)
    query, key, value = (
        part.view(len(part), -1, attention.head_dim).transpose(0, 1)
        for part in (query * attention.scaling, key, value)
    )
    scores = torch.bmm(query, key.transpose(1, 2))
    if padding_mask is not None:
        is_padding = padding_mask.bool().repeat_interleave(heads, dim=0)
        scores.masked_fill_(is_padding[:, None], float("-inf"))
    attended = torch.bmm(scores.softmax(dim=-1), value)
    return linear(attention.out_proj, attended.transpose(0, 1).reshape(queries.shape))
