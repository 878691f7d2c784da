"""InfoCSE's auxiliary objective: rebuild a masked sentence with the help of its vector."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from scl_fairseq.criterions.lower_states import LowerStates, chosen_rows, matched, places_of
from scl_fairseq.models.auxiliary_head import AuxiliaryHead, predict_words
from scl_fairseq.models.packed_encoder import is_packed

HEAD = "infocse_auxiliary"


class AuxiliaryNetwork:
    """L_aux, and masked language modelling by the encoder itself, L_mlm, of one batch.

    Args:
        num_layers: of the auxiliary head.
        states: M, which the head reads.
        wants_auxiliary, wants_mlm: which of the losses to compute.
        padding_idx: index of ``<pad>``, which stands in targets for no target.
    """

    def __init__(
        self,
        num_layers: int,
        states: LowerStates,
        wants_auxiliary: bool,
        wants_mlm: bool,
        padding_idx: int,
    ):
        self._num_layers, self._states = num_layers, states
        self._wants_auxiliary, self._wants_mlm = wants_auxiliary, wants_mlm
        self._padding_idx = padding_idx

    def prepare_model(self, model: nn.Module) -> None:
        """Give a model the auxiliary head."""
        if self._wants_auxiliary:
            model.classification_heads[HEAD] = AuxiliaryHead(model, self._num_layers)

    def __call__(self, model: nn.Module, vectors: Tensor, masked: dict) -> dict[str, Tensor]:
        """Losses as means over the masked tokens, in nats; those that are wanted.

        Args:
            model: what is trained, bare.
            vectors: (R, C), of whole sentences, or of several views of each in a row.
            masked: ``{"src_tokens", "target"}``, (S, T), of the same sentences in the same order.
        """
        tokens, target = masked["src_tokens"], masked["target"]
        chosen = places_of(target.ne(self._padding_idx), masked, "chosen")
        targets = target.flatten().index_select(0, chosen)
        states, last = self._read(model, tokens)
        encoder, found = model.encoder, {}
        if self._wants_auxiliary:
            head = model.classification_heads[HEAD]
            is_padding = tokens.eq(self._padding_idx)
            rows = head(matched(vectors, len(tokens)), states, is_padding, is_packed(model))
            words = encoder.sentence_encoder.embed_tokens.weight
            logits = predict_words(encoder.lm_head, chosen_rows(rows, chosen), words)
            found["aux_loss"] = _cross_entropy(logits, targets)
        if self._wants_mlm:
            logits = encoder.output_layer(chosen_rows(last, chosen))
            found["mlm_loss"] = _cross_entropy(logits, targets)
        return found

    def _read(self, model: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """M, (S, T, C), and where L_mlm is wanted the last layer's states of the same."""
        if not self._wants_mlm:
            return self._states(model, tokens), None
        last, found = model.encoder.extract_features(tokens, return_all_hiddens=True)
        states = found["inner_states"][self._states.depth].transpose(0, 1)
        return (states.detach() if self._states.is_detached else states), last


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean, 0 over nothing; in float32 or wider."""
    wide = logits if logits.dtype.itemsize >= 4 else logits.float()
    return F.cross_entropy(wide, targets, reduction="sum") / max(1, len(targets))
