"""What the converter has to say: in what a result differs from its Hugging Face folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from scl_fairseq.checkpoints.architecture import Architecture
from scl_fairseq.checkpoints.layer_norms import FAIRSEQ_LAYER_NORM_EPS
from scl_fairseq.checkpoints.source_head import SourceHead
from scl_fairseq.checkpoints.source_modules import SourceModules

_NO_NAME = re.compile(r"LABEL_\d+")
ON_PAIRS = (
    "BERT tells a second sentence by its token type, which fairseq has not: the classifier is for "
    "single sentences, and on pairs its logits differ from the source's."
)


def on_pooling(modules: SourceModules, head: SourceHead | None) -> tuple[str, ...]:
    """What there is to say where vectors are pooled otherwise than a classifier reads, if so."""
    if head is None or modules.pooling in (None, head.pooling):
        return ()
    return (
        f"{modules.told_by} says {modules.pooling}, of sentence vectors; the classifier in the "
        f"weights reads {head.pooling}, and so does the head in model.pt.",
    )


def differences(
    architecture: Architecture, has_mlm_head: bool, head: SourceHead | None
) -> tuple[str, ...]:
    """Where the result differs from the source, in sentences."""
    notes = []
    if head and head.labels and all(map(_NO_NAME.fullmatch, head.labels)):
        notes.append(
            f"config.json names no labels: they are {head.labels[0]}, {head.labels[1]} and so on."
        )
    if not has_mlm_head and not head:
        notes.append(
            "The source has no masked-language-model head. fairseq requires one, so model.pt "
            "holds an untrained one (fixed seed); fine-tuning a classifier does not use it, the "
            "first stage of infocse trains it."
        )
    elif has_mlm_head and architecture.family == "roberta" and architecture.activation_fn != "gelu":
        notes.append(
            "RoBERTa's masked-language-model head uses gelu whatever the encoder uses; fairseq's "
            f"follows the encoder ({architecture.activation_fn}), so its predictions differ."
        )
    if architecture.layer_norm_eps != FAIRSEQ_LAYER_NORM_EPS and not head:
        notes.append(
            f"The source's layer norms use eps {architecture.layer_norm_eps:g}, fairseq's "
            f"{FAIRSEQ_LAYER_NORM_EPS:g}: hidden states differ slightly."
        )
    return tuple(notes)


def left_out(tensors: Mapping[str, Any], head: SourceHead | None) -> tuple[str, ...]:
    """What of the weights does not come along, or comes in another form, in sentences."""
    import torch

    notes = []
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    others = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes - {torch.float32})
    if others:
        exactly = "rounded to" if "float64" in others else "exactly as"
        notes.append(f"The weights are {', '.join(others)}; model.pt holds them {exactly} float32.")
    if "pooler.dense.weight" in tensors and not head:
        notes.append("The source's pooler is left out: fairseq's encoder has no place for it.")
    return tuple(notes)


def reads_pairs_alike(tensors: Mapping[str, Any], architecture: Architecture) -> bool:
    """Whether a second sentence is read as the source reads it: fairseq has no token types."""
    from scl_fairseq.checkpoints.weights import TOKEN_TYPES

    types = tensors[TOKEN_TYPES]
    return architecture.family != "bert" or bool((types == types[0]).all())
