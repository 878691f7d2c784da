"""Hidden states below the last layer of fairseq's RoBERTa."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn


def lower_states(encoder: nn.Module, tokens: Tensor, depth: int) -> Tensor:
    """What the first ``depth`` layers make of a batch, (B, T) to (B, T, C); no other is run.

    Args:
        encoder: fairseq's ``RobertaEncoder``.
        tokens: (B, T).
        depth: 0 for the embeddings, at most the number of layers.
    """
    with _first_layers(encoder.sentence_encoder, depth):
        _, found = encoder.extract_features(tokens, return_all_hiddens=True)
    return found["inner_states"][-1].transpose(0, 1)


@contextlib.contextmanager
def _first_layers(encoder: nn.Module, depth: int) -> Iterator[None]:
    whole = encoder.layers
    encoder.layers = nn.ModuleList(list(whole.children())[:depth])
    try:
        yield
    finally:
        encoder.layers = whole
