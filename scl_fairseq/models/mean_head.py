"""Classification heads that read the mean of the last layer in place of one position of it.

A stock head is changed by changing its class, as an encoder is packed: parameters, their names and
how they were drawn stay as they are. A buffer is added. By its name stock fairseq refuses the
checkpoint, where it would otherwise predict from CLS without a word.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from fairseq.models.bart import BARTModel
from fairseq.models.bart.model import BARTClassificationHead
from fairseq.models.roberta.model import RobertaClassificationHead
from torch import Tensor, nn

POOLINGS = CLS, MEAN = ("cls", "mean")
BUFFER = "reads_mean"  # a head's buffer, and so a key of checkpoints


def masked_mean(states: Tensor, is_padding: Tensor) -> Tensor:
    """Mean over the positions that are not padding.

    Args:
        states: (B, T, C).
        is_padding: (B, T), bool.

    Returns:
        (B, C), in float32 for half-precision states: a sum over positions overflows fp16.
    """
    wide = states if states.dtype.itemsize >= 4 else states.float()
    keep = ~is_padding.unsqueeze(-1)
    # where, not a product: a padded position may hold NaN, and 0 * NaN is NaN.
    total = wide.masked_fill(~keep, 0.0).sum(dim=1)
    return total / keep.sum(dim=1).clamp(min=1)


class MeanRobertaHead(RobertaClassificationHead):
    """fairseq's RoBERTa head on the mean over tokens.

    The encoder's hook notes on its output which positions are padding, so whoever hands that output
    on, as the hub's ``predict`` does, need not know of it.
    """

    def forward(self, features: Tensor, is_pooled: bool = False, **kwargs: Any) -> Tensor:
        """(B, T, C) as the encoder made it, or (B, 1, C) that is pooled, to (B, classes).

        Raises:
            ValueError: it is not known which positions are padding.
        """
        pooled = features if is_pooled else self.pool(features)[:, None]
        return super().forward(pooled.to(self.dense.weight.dtype))

    def pool(self, features: Tensor) -> Tensor:
        """(B, C), what the head reads of the encoder's output; see ``masked_mean``."""
        is_padding = getattr(features, "is_padding", None)
        if is_padding is None:
            raise ValueError(
                "this head reads the mean over tokens, and the features that it was handed are not "
                "the encoder's output itself, which says where padding is"
            )
        return masked_mean(features, is_padding)


class MeanBARTHead(BARTClassificationHead):
    """fairseq's BART head on the mean over the decoder's states.

    It is handed the state of the last ``</s>`` alone; the decoder's hook has left the others.
    """

    def forward(self, features: Tensor, is_pooled: bool = False, **kwargs: Any) -> Tensor:
        """(B, C), of the decoder's last output, or pooled, to (B, classes).

        Raises:
            ValueError: the decoder's last output was of another batch, or was read already.
        """
        pooled = features if is_pooled else self.pool(features)
        self.decoder_output.drop()
        return super().forward(pooled.to(self.dense.weight.dtype))

    def pool(self, features: Tensor) -> Tensor:
        """(B, C), what the head reads beside the state that it is handed; see ``masked_mean``."""
        states, is_padding = self.decoder_output.held
        if states is None or len(states) != len(features):
            raise ValueError(
                "this head reads the mean over tokens: run the model's forward before each call"
            )
        return masked_mean(states, is_padding)


class DecoderOutput:
    """What a decoder made last, (B, T, C), and where it is padding, until a head has read it.

    A copy of a model begins without.
    """

    def __init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Hold nothing."""
        self.held: tuple[Tensor | None, Tensor | None] = (None, None)

    def __deepcopy__(self, memo: dict) -> DecoderOutput:
        memo[id(self)] = copied = DecoderOutput()
        return copied


_OF_STOCK = {
    RobertaClassificationHead: MeanRobertaHead,
    BARTClassificationHead: MeanBARTHead,
}


def reads_mean(head: nn.Module) -> bool:
    """Whether a head of a model reads the mean."""
    return isinstance(head, tuple(_OF_STOCK.values()))


def vector_of(head: nn.Module, features: Tensor) -> Tensor:
    """The one vector that a head of fairseq's reads of what it is handed, (B, C)."""
    if reads_mean(head):
        return head.pool(features)
    return features[:, 0] if features.dim() == 3 else features


def tell_pooling(model: nn.Module, name: str, pooling: str) -> None:
    """Let a training's option decide what a head reads, whatever is loaded into it later.

    Raises:
        ValueError: as of :func:`read_mean`.
    """
    while hasattr(model, "module"):
        model = model.module
    heads = getattr(model, "classification_heads", {})
    if pooling == MEAN:
        read_mean(model, name)
    elif name in heads and reads_mean(heads[name]):
        raise ValueError(f"--head-pooling {pooling}: the checkpoint's head reads the mean")
    if name in heads:
        heads[name].is_told = True


def check_pooling(model: nn.Module, weights: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a checkpoint one of whose heads reads another thing than the model's, if that is told.

    Args:
        model: fairseq's, bare, that the weights are for.
        weights: of the checkpoint.
        prefix: of the model's names in it.

    Raises:
        ValueError: it does.
    """
    for name, head in getattr(model, "classification_heads", {}).items():
        part = f"{prefix}classification_heads.{name}."
        theirs = [weights.get(f"{part}{layer}.weight") for layer in ("dense", "out_proj")]
        ours = [
            getattr(getattr(head, layer, None), "weight", None) for layer in ("dense", "out_proj")
        ]
        is_kept = all(
            a is not None and b is not None and a.shape == b.shape
            for a, b in zip(theirs, ours, strict=True)
        )
        means = f"{part}{BUFFER}" in weights
        if is_kept and getattr(head, "is_told", False) and means != reads_mean(head):
            raise ValueError(
                f"--head-pooling is {MEAN if reads_mean(head) else CLS}, and the checkpoint's "
                f"head {name} reads {MEAN if means else CLS}"
            )


def read_mean(model: nn.Module, name: str) -> None:
    """Let a classification head of a bare RoBERTa or BART read the mean; again it does nothing.

    Raises:
        ValueError: the model has no such head, or it is none of fairseq's.
    """
    heads = getattr(model, "classification_heads", {})
    if name not in heads:
        raise ValueError(f"the model has no classification head {name!r}")
    head = heads[name]
    if reads_mean(head):
        return
    if type(head) not in _OF_STOCK:
        raise ValueError(f"--head-pooling mean: {name} is a {type(head).__name__}, not fairseq's")
    head.__class__ = _OF_STOCK[type(head)]
    like = head.dense.weight
    head.register_buffer(BUFFER, torch.ones(1, dtype=like.dtype, device=like.device))
    if isinstance(model, BARTModel):
        if not hasattr(model.decoder, "_scl_output"):
            model.decoder._scl_output = DecoderOutput()
            note = functools.partial(_keep_output, model.decoder._scl_output)
            model.decoder.register_forward_hook(note, with_kwargs=True)
        head.decoder_output = model.decoder._scl_output
    elif not hasattr(model.encoder, "_scl_notes_padding"):
        model.encoder._scl_notes_padding = True
        model.encoder.register_forward_hook(_note_padding, with_kwargs=True)


def _note_padding(encoder: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
    tokens = kwargs["src_tokens"] if "src_tokens" in kwargs else args[0]
    output[0].is_padding = tokens.eq(encoder.dictionary.pad())


def _keep_output(
    last: DecoderOutput, decoder: nn.Module, args: tuple, kwargs: dict, output: tuple
) -> None:
    tokens = kwargs["prev_output_tokens"] if "prev_output_tokens" in kwargs else args[0]
    last.held = (output[0], tokens.eq(decoder.dictionary.pad()))
