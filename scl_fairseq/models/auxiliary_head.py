"""Networks that read a changed sentence beside the whole one's vector (InfoCSE, 2210.06432)."""

from __future__ import annotations

import torch
from fairseq.modules import LayerNorm
from fairseq.modules.transformer_sentence_encoder import init_bert_params
from torch import Tensor, nn

from scl_fairseq.models.packed_encoder import run_layers
from scl_fairseq.products import affine, linear


class AuxiliaryHead(nn.Module):
    """Transformer layers, of the encoder's sizes, on the hidden states of a masked sentence.

    Its last feed-forward layers are known as ``dense`` and ``out_proj`` too, the names without
    which fairseq takes nothing among a model's ``classification_heads`` for a head.

    Args:
        model: fairseq's RoBERTa, bare.
        num_layers: how many, 1 or more.
    """

    def __init__(self, model: nn.Module, num_layers: int):
        super().__init__()
        encoder = model.encoder.sentence_encoder
        layers = [encoder.build_encoder_layer(model.args) for _ in range(num_layers)]
        self.layers = nn.ModuleList(layers).apply(init_bert_params)
        is_prenorm = model.args.encoder_normalize_before
        self.layer_norm = LayerNorm(model.args.encoder_embed_dim) if is_prenorm else None
        self.dense, self.out_proj = layers[-1].fc1, layers[-1].fc2

    def forward(
        self, vectors: Tensor, states: Tensor, is_padding: Tensor, is_packed: bool = False
    ) -> Tensor:
        """Hidden states of the masked sentence, made with the vector of the whole one.

        Args:
            vectors: (B, C), h, of the sentences as they are.
            states: (B, T, C), M, of the masked ones; what is at the first position is not read.
            is_padding: (B, T), bool.
            is_packed: compute no padding.

        Returns:
            (B, T, C), of the layers on ``[h, M^{>0}]``.
        """
        x = torch.cat([vectors[:, None], states[:, 1:]], dim=1)
        x = run_layers(self.layers, x, is_padding, is_packed)
        return x if self.layer_norm is None else self.layer_norm(x)


class DetectionHead(AuxiliaryHead):
    """The same layers, and of each position one number: whether the word there was replaced.

    Args:
        model: fairseq's RoBERTa, bare.
        num_layers: how many, 1 or more.
    """

    def __init__(self, model: nn.Module, num_layers: int):
        super().__init__(model, num_layers)
        self.score = nn.Linear(model.args.encoder_embed_dim, 1).apply(init_bert_params)

    def forward(
        self, vectors: Tensor, states: Tensor, is_padding: Tensor, is_packed: bool = False
    ) -> Tensor:
        """(B, T) logits, of what ``AuxiliaryHead.forward`` reads."""
        return self.score(super().forward(vectors, states, is_padding, is_packed)).squeeze(-1)


def predict_words(lm_head: nn.Module, features: Tensor, embeddings: nn.Parameter) -> Tensor:
    """What fairseq's language-model head makes of features, with word embeddings as constants.

    They are a part of the encoder, where the head's output projection is tied to them.

    Args:
        lm_head: fairseq's ``RobertaLMHead``.
        features: (M, C).
        embeddings: of the words, (V, C).

    Returns:
        (M, V), not normalised.
    """
    x = lm_head.layer_norm(lm_head.activation_fn(linear(lm_head.dense, features)))
    weight = lm_head.weight.detach() if lm_head.weight is embeddings else lm_head.weight
    return affine(x, weight, lm_head.bias)
