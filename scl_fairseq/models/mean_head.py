"""Classification heads that read the mean of the last layer in place of one position of it.

A stock head is changed by changing its class, as an encoder is packed: parameters, their names and
how they were drawn stay as they are. A buffer is added. By its name stock fairseq refuses the
checkpoint, where it would otherwise predict from CLS without a word.

A head is handed no mask. So a hook on the model notes where padding is, on the very tensor that the
model makes: whoever hands that on, as fairseq's hub does, need not know of it, and a tensor from
elsewhere is told from it.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

import torch
from fairseq.models.bart import BARTModel
from fairseq.models.bart.model import BARTClassificationHead
from fairseq.models.roberta.model import RobertaClassificationHead
from torch import Tensor, nn

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
    """fairseq's RoBERTa head on the mean over tokens."""

    def forward(self, features: Tensor, is_vector: bool = False, **kwargs: Any) -> Tensor:
        """(B, T, C) as the encoder made it, or (B, 1, C), the mean itself, to (B, classes).

        Raises:
            ValueError: it is not known which positions are padding.
        """
        rows = features if is_vector else self.pool(features)[:, None]
        return super().forward(rows.to(self.dense.weight.dtype))

    def pool(self, features: Tensor) -> Tensor:
        """(B, C), what the head reads of the encoder's output; see ``masked_mean``."""
        is_padding = getattr(features, "is_padding", None)
        if is_padding is None or is_padding.shape != features.shape[:2]:
            raise ValueError(
                "this head reads the mean over tokens, and what it was handed is not the model's "
                "output of features_only=True itself, which alone knows where padding is"
            )
        return masked_mean(features, is_padding)


class MeanBARTHead(BARTClassificationHead):
    """fairseq's BART head on the mean over the decoder's states.

    It is handed the state of the last ``</s>`` alone. The others are those of the decoder's last
    output, as long as somebody holds that.
    """

    def forward(self, features: Tensor, is_vector: bool = False, **kwargs: Any) -> Tensor:
        """(B, C), of the decoder's last output, or the mean itself, to (B, classes).

        Raises:
            ValueError: it is not of the decoder's last output.
        """
        rows = features if is_vector else self.pool(features)
        return super().forward(rows.to(self.dense.weight.dtype))

    def pool(self, features: Tensor) -> Tensor:
        """(B, C), what the head reads beside the state that it is handed; see ``masked_mean``."""
        states, is_padding = self.decoder_output.held()
        if states is None or not _are_of(features, states, compares=not self.training):
            raise ValueError(
                "this head reads the mean over tokens, and what it was handed is not of the "
                "model's last output of features_only=True, or that is no longer held"
            )
        return masked_mean(states, is_padding)


def _are_of(features: Tensor, states: Tensor, compares: bool) -> bool:
    """Whether each row, (B, C), is a state of its sentence, (B, T, C); or could be, by its size."""
    if features.dim() != 2 or (len(states), states.size(2)) != tuple(features.shape):
        return False
    if not compares:
        return True
    rows = features[:, None]
    same = (states == rows) | (states.isnan() & rows.isnan())
    return bool(same.all(dim=2).any(dim=1).all())


class DecoderOutput:
    """What a decoder made last, (B, T, C), and where it is padding, while anyone else holds it.

    A copy of a model begins without.
    """

    def __init__(self) -> None:
        self._states: weakref.ref[Tensor] | None = None

    def note(self, states: Tensor, is_padding: Tensor) -> None:
        """The decoder has made these."""
        states.is_padding = is_padding
        self._states = weakref.ref(states)

    def held(self) -> tuple[Tensor | None, Tensor | None]:
        """What was noted last; None where it is gone."""
        states = self._states() if self._states is not None else None
        return states, getattr(states, "is_padding", None)

    def __reduce__(self) -> tuple:
        return DecoderOutput, ()


_OF_STOCK = {
    RobertaClassificationHead: MeanRobertaHead,
    BARTClassificationHead: MeanBARTHead,
}


def reads_mean(head: nn.Module) -> bool:
    """Whether a head of a model reads the mean."""
    return isinstance(head, tuple(_OF_STOCK.values()))


def classify(head: nn.Module, vectors: Tensor) -> Tensor:
    """A head of fairseq's, changed or not, on what it reads: (B, C) to (B, classes)."""
    is_roberta = isinstance(head, RobertaClassificationHead)
    return head(vectors[:, None] if is_roberta else vectors, is_vector=True)


def read_mean(model: nn.Module, name: str) -> None:
    """Let a classification head of a bare RoBERTa or BART read the mean; again it does nothing.

    Raises:
        ValueError: the head is none of fairseq's.
    """
    head = model.classification_heads[name]
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
            note = functools.partial(_note_decoder, model.decoder._scl_output)
            model.decoder.register_forward_hook(note, with_kwargs=True)
        head.decoder_output = model.decoder._scl_output
    elif not hasattr(model.encoder, "_scl_notes_padding"):
        model.encoder._scl_notes_padding = True
        model.encoder.register_forward_hook(_note_padding, with_kwargs=True)


def _note_padding(encoder: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
    tokens = kwargs["src_tokens"] if "src_tokens" in kwargs else args[0]
    output[0].is_padding = tokens.eq(encoder.dictionary.pad())


def _note_decoder(
    last: DecoderOutput, decoder: nn.Module, args: tuple, kwargs: dict, output: tuple
) -> None:
    # The source's padding: in a batch the hub feeds the decoder one token more of shorter sentences
    # than training does.
    encoded = kwargs["encoder_out"] if "encoder_out" in kwargs else args[1]
    (is_padding,) = encoded["encoder_padding_mask"]
    if output[0].shape[:2] == is_padding.shape:  # not so where a text is generated
        last.note(output[0], is_padding)
