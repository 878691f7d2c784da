"""Weights of fairseq's RoBERTa under the names that ``transformers`` has for them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scl_fairseq.checkpoints.head_training import DENSE
from scl_fairseq.checkpoints.layer_norms import eps_of
from scl_fairseq.checkpoints.trained import Trained
from scl_fairseq.checkpoints.weights import HEAD, LAYER, POSITIONS, TOKEN_TYPES, WORDS
from scl_fairseq.embeddings import CLS, MEAN

CLASSIFIER, MASKED_LM, ENCODER = "ForSequenceClassification", "ForMaskedLM", "Model"
_OTHER_WAY = "--to sentence-transformers --with-head writes a folder that gives its logits"
_ENCODER = "encoder.sentence_encoder."
_LM_HEAD = "encoder.lm_head."
_ACTIVATIONS = {"gelu": "gelu", "relu": "relu"} | dict.fromkeys(
    ("gelu_accurate", "gelu_fast"), "gelu_new"
)


def form_of(trained: Trained) -> str:
    """What the checkpoint is good for: ``CLASSIFIER``, ``MASKED_LM`` or the bare ``ENCODER``.

    A head whose biases and norm are as they were made has never been trained: it stands in for one
    that the source of a conversion did not have.

    Raises:
        ValueError: no training has trained its classification head, or it reads the mean.
    """
    if trained.head is not None:
        try:
            trained.head_training.require(trained.head)
        except ValueError as error:
            raise ValueError(
                f"{error}; --to sentence-transformers writes the encoder alone"
            ) from None
        if trained.pooling == MEAN:
            raise ValueError(
                f"{trained.path}: its classification head reads the mean over tokens, and those of "
                f"Hugging Face read CLS; {_OTHER_WAY}"
            )
        return CLASSIFIER
    tensors = trained.tensors
    if _LM_HEAD + "dense.weight" not in tensors:
        return ENCODER
    biases = ("bias", "dense.bias", "layer_norm.bias")
    fresh = not any(tensors[_LM_HEAD + name].any() for name in biases)
    fresh = fresh and bool(tensors[_LM_HEAD + "layer_norm.weight"].eq(1).all())
    return ENCODER if fresh else MASKED_LM


def huggingface_state(trained: Trained, form: str, with_pooler: bool = True) -> dict[str, Tensor]:
    """The state dict of ``Roberta`` + ``form``.

    Args:
        trained: the checkpoint; V tokens, C channels.
        form: ``CLASSIFIER``, ``MASKED_LM`` or ``ENCODER``.
        with_pooler: let an encoder's pooler be the first layer of a trained classifier, where that
            reads CLS, as poolers do.

    Returns:
        Contiguous float32 tensors, none of which share memory; the token types, which fairseq has
        not, are one row of zeros. The MLM head's projection is the word embedding and left out.

    Raises:
        ValueError: a tensor is missing, or there is one that has no place there.
    """
    tensors = dict(trained.tensors)
    missing: list[str] = []

    def take(name: str) -> Tensor:
        if name not in tensors:
            missing.append(name)
            return torch.zeros(0)
        return tensors.pop(name)

    prefix = "" if form == ENCODER else "roberta."
    state = {
        prefix + WORDS: take(_ENCODER + "embed_tokens.weight"),
        prefix + POSITIONS: take(_ENCODER + "embed_positions.weight"),
    }
    modules = {"embeddings.LayerNorm": "layernorm_embedding"}
    for index in range(trained.arguments.encoder_layers):
        for target, source in LAYER.items():
            modules[f"encoder.layer.{index}.{target}"] = f"layers.{index}.{source}"
    pairs = {prefix + target: _ENCODER + source for target, source in modules.items()}
    if form == MASKED_LM:
        pairs |= {target: _LM_HEAD + source for target, source in HEAD["roberta"].items()}
        state["lm_head.bias"] = take(_LM_HEAD + "bias")
    if trained.head is not None:
        head = f"classification_heads.{trained.head}."
        if form == CLASSIFIER:
            pairs |= {f"classifier.{name}": head + name for name in ("dense", "out_proj")}
        elif with_pooler and _is_pooler(trained):
            pairs["pooler.dense"] = head + "dense"
    for target, source in pairs.items():
        for part in ("weight", "bias"):
            state[f"{target}.{part}"] = take(f"{source}.{part}")
    unknown = [name for name in tensors if name.startswith(_ENCODER)]
    if missing or unknown:
        fault = f"lacks {missing[0]}" if missing else f"holds {unknown[0]}"
        raise ValueError(f"{trained.path} {fault}; it is not the RoBERTa that transformers has")
    width = state[prefix + WORDS].shape[1]
    state[prefix + TOKEN_TYPES] = torch.zeros(1, width)
    _check_heads(trained, form, state, width)
    return _separate(state)


def huggingface_config(
    trained: Trained,
    form: str,
    state: Mapping[str, Tensor],
    labels: tuple[str, ...] | None,
    kind: str,
) -> dict[str, Any]:
    """The contents of ``config.json``.

    Args:
        trained: the checkpoint.
        form: what ``state`` is of.
        state: from :func:`huggingface_state`.
        labels: of the classifier's outputs; empty for a regression's, None without a classifier.
        kind: ``roberta``, or ``xlm-roberta``, which differs in its tokenizer alone.

    Raises:
        ValueError: transformers has no such activation.
    """
    arguments = trained.arguments
    if arguments.activation_fn not in _ACTIVATIONS:
        raise ValueError(
            f"{trained.path}: activation {arguments.activation_fn}; expected one of "
            f"{', '.join(_ACTIVATIONS)}"
        )
    rows, width = next(t.shape for name, t in state.items() if name.endswith(WORDS))
    positions = next(len(t) for name, t in state.items() if name.endswith(POSITIONS))
    config = {
        "architectures": [("XLMRoberta" if kind == "xlm-roberta" else "Roberta") + form],
        "model_type": kind,
        "attention_probs_dropout_prob": arguments.attention_dropout,
        "bos_token_id": 0,
        "classifier_dropout": arguments.pooler_dropout,
        "eos_token_id": 2,
        "hidden_act": _ACTIVATIONS[arguments.activation_fn],
        "hidden_dropout_prob": arguments.dropout,
        "hidden_size": width,
        "intermediate_size": arguments.encoder_ffn_embed_dim,
        "layer_norm_eps": eps_of(vars(arguments)),
        "max_position_embeddings": positions,
        "num_attention_heads": arguments.encoder_attention_heads,
        "num_hidden_layers": arguments.encoder_layers,
        "pad_token_id": 1,
        "torch_dtype": "float32",
        "type_vocab_size": 1,
        "vocab_size": rows,
    }
    if labels is not None:
        names = labels or tuple(f"LABEL_{index}" for index in range(trained.outputs))
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
        is_regression = trained.is_regression
        config["problem_type"] = "regression" if is_regression else "single_label_classification"
    return config


def _is_pooler(trained: Trained) -> bool:
    is_trained = trained.head_training.was_trained(trained.head, DENSE)
    return is_trained and _is_tanh(trained.arguments) and trained.pooling == CLS


def _is_tanh(arguments: Namespace) -> bool:
    return arguments.pooler_activation_fn == "tanh"


def _check_heads(trained: Trained, form: str, state: Mapping[str, Tensor], width: int) -> None:
    arguments = trained.arguments
    if form == CLASSIFIER and not _is_tanh(arguments):
        raise ValueError(
            f"{trained.path}: its head uses {arguments.pooler_activation_fn}; "
            f"transformers' uses tanh; {_OTHER_WAY}"
        )
    if form == CLASSIFIER and len(state["classifier.dense.weight"]) != width:
        raise ValueError(
            f"{trained.path}: its head is {len(state['classifier.dense.weight'])} wide inside; "
            f"transformers' is as wide as the encoder, {width}; {_OTHER_WAY}"
        )
    projection = trained.tensors.get(_LM_HEAD + "weight")
    words = trained.tensors[_ENCODER + "embed_tokens.weight"]
    if form == MASKED_LM and projection is not None and not torch.equal(projection, words):
        raise ValueError(f"{trained.path}: its MLM head is not tied to the word embedding")


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float32 tensors with memory of their own, which safetensors asks for."""
    separate: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        tensor = tensor.to(torch.float32).contiguous()
        if tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate
