"""DiffCSE's auxiliary objective: find replaced words with the help of the sentence's vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scl_fairseq.criterions.lower_states import LowerStates, chosen_rows, matched, places_of
from scl_fairseq.criterions.momentum import MomentumCopy
from scl_fairseq.models.auxiliary_head import DetectionHead
from scl_fairseq.models.packed_encoder import is_packed

HEAD = "infocse_detector"


class ReplacedTokenDetection:
    """L_rtd of one batch (Chuang et al., *DiffCSE*, arXiv 2204.10298), on InfoCSE's network.

    A copy of the encoder and its language-model head, as training found them, fills in the masked
    words with what is likeliest. The head, layers on [h, M''^{>0}] where M'' is of the sentence so
    edited, tells for each word whether it is another than the sentence had. DiffCSE itself has a
    whole second encoder there, and DistilBERT to fill in.

    Args:
        num_layers: of the head.
        states: M'', which the head reads.
        generator: the copy that fills in.
        padding_idx: index of ``<pad>``, which stands in targets for no target.
        special: indices of tokens that are no words, (K,).
    """

    def __init__(
        self,
        num_layers: int,
        states: LowerStates,
        generator: MomentumCopy,
        padding_idx: int,
        special: Tensor,
    ):
        self._num_layers, self._states, self._generator = num_layers, states, generator
        self._padding_idx, self._special = padding_idx, special

    def prepare_model(self, model: nn.Module) -> None:
        """Give a model the head."""
        model.classification_heads[HEAD] = DetectionHead(model, self._num_layers)

    def __call__(self, model: nn.Module, vectors: Tensor, masked: dict) -> dict[str, Tensor]:
        """The loss as a mean over the words, in nats.

        Args:
            model: what is trained, bare.
            vectors: (R, C), of whole sentences, or of several views of each in a row.
            masked: ``{"src_tokens", "target"}``, (S, T), of the same sentences in the same order.
        """
        tokens, target = masked["src_tokens"], masked["target"]
        self._special = self._special.to(tokens.device)  # once: copies are waited for
        is_chosen = target.ne(self._padding_idx)
        whole = torch.where(is_chosen, target, tokens)
        edited = self._fill_in(model, tokens, places_of(is_chosen, masked, "chosen"))
        words = places_of(~torch.isin(whole, self._special), masked, "words")
        states = self._states(model, edited)
        vectors, is_padding = matched(vectors, len(tokens)), tokens.eq(self._padding_idx)
        head = model.classification_heads[HEAD]
        logits = head(vectors, states, is_padding, is_packed(model))
        logits = logits.flatten().index_select(0, words)
        wide = logits if logits.dtype.itemsize >= 4 else logits.float()
        is_replaced = edited.ne(whole).flatten().index_select(0, words).to(wide.dtype)
        loss = F.binary_cross_entropy_with_logits(wide, is_replaced, reduction="sum")
        return {"rtd_loss": loss / max(1, len(wide))}

    @torch.no_grad()
    def _fill_in(self, model: nn.Module, tokens: Tensor, chosen: Tensor) -> Tensor:
        """The masked sentences with the likeliest word wherever one was chosen, (S, T)."""
        encoder = self._generator.follow(model, 0).encoder
        features, _ = encoder.extract_features(tokens)
        logits = encoder.output_layer(chosen_rows(features, chosen))
        logits.index_fill_(1, self._special, -torch.inf)
        return tokens.flatten().index_copy(0, chosen, logits.argmax(-1)).view_as(tokens)
