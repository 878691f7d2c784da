"""The modules of a sentence-transformers folder: a pooling, and the layers of a classifier.

The layers are Dense modules after the pooling, so that ``encode`` gives the classifier's logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scl_fairseq.checkpoints.source_modules import (
    ACTIVATIONS,
    CONFIG,
    DENSE,
    MODULES,
    NORMALIZE,
    POOLING,
    PROMPTS,
    SETTINGS,
    TRANSFORMER,
)
from scl_fairseq.checkpoints.tensor_files import SAFETENSORS
from scl_fairseq.checkpoints.trained import Trained
from scl_fairseq.checkpoints.training_heads import PARTS
from scl_fairseq.checkpoints.weights import WORDS
from scl_fairseq.embeddings import CLS, MEAN
from scl_fairseq.files import as_utf8

_PLACES = (f"1_{POOLING}", f"2_{NORMALIZE}", f"2_{DENSE}", f"3_{DENSE}")
MODULE_FILES = (
    MODULES,
    PROMPTS,
    SETTINGS,
    *_PLACES,
    *(f"{place}/{name}" for place in _PLACES for name in (CONFIG, SAFETENSORS)),
)
_CLASSES = {ours: name for name, ours in ACTIVATIONS.items()}


@dataclass(frozen=True)
class Layer:
    """A Dense module: its weights, and torch's class of its activation."""

    tensors: Mapping[str, Tensor]
    activation: str


@dataclass(frozen=True)
class Modules:
    """What comes after the encoder: the pooling, then scaling to length 1 or a classifier."""

    pooling: str
    normalize: bool
    layers: Sequence[Layer] = ()


def pooling_of(trained: Trained, wanted: str | None, with_head: bool) -> str:
    """``cls`` or ``mean``.

    Args:
        trained: the checkpoint, which says what it was made for.
        wanted: what the user has said; None for what it was made for.
        with_head: whether its head goes out too.

    Raises:
        ValueError: the head reads another.
    """
    if with_head and wanted not in (None, trained.pooling):
        raise ValueError(
            f"--pooling {wanted}: the classification head of {trained.path} reads {trained.pooling}"
        )
    return wanted or trained.pooling


def dense_layers(trained: Trained) -> tuple[Layer, ...]:
    """The classification head as Dense modules.

    Raises:
        ValueError: there is no head, it was never trained, or it is none that they compute.
    """
    if trained.head is None:
        raise ValueError(f"{trained.path} has no classification head")
    trained.head_training.require(trained.head)
    activation = trained.arguments.pooler_activation_fn
    if activation not in _CLASSES:
        raise ValueError(
            f"{trained.path}: its head uses {activation}; there is a form outside fairseq for "
            f"{', '.join(_CLASSES)}"
        )
    layers = []
    for part, used in zip(PARTS, (activation, "linear"), strict=True):
        tensors = {name: trained.head_tensor(f"{part}.{name}") for name in ("weight", "bias")}
        tensors = {f"linear.{name}": t.float().contiguous() for name, t in tensors.items()}
        layers.append(Layer(tensors, _CLASSES[used]))
    return tuple(layers)


def write_modules(
    folder: Path, modules: Modules, state: Mapping[str, Tensor], max_positions: int
) -> None:
    """Write what tells sentence-transformers how a sentence's vector comes about.

    Args:
        folder: of the encoder.
        modules: that come after it.
        state: the encoder's weights.
        max_positions: its longest input in tokens.
    """
    # The names of its older versions, which newer ones know too.
    kinds = [TRANSFORMER, POOLING, *[NORMALIZE] * modules.normalize, *[DENSE] * len(modules.layers)]
    paths = ["", *(f"{place}_{kind}" for place, kind in enumerate(kinds) if place)]
    listed = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write_json(folder / MODULES, listed)
    for path in paths[1:]:
        (folder / path).mkdir()
    pooling = {
        "word_embedding_dimension": state[WORDS].shape[1],
        "pooling_mode_cls_token": modules.pooling == CLS,
        "pooling_mode_mean_tokens": modules.pooling == MEAN,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    write_json(folder / paths[1] / CONFIG, pooling)
    for layer, path in zip(modules.layers, paths[2:], strict=False):
        _write_layer(folder / path, layer)
    transformer: dict[str, Any] = {"max_seq_length": max_positions, "do_lower_case": False}
    if "pooler.dense.weight" not in state:  # or transformers makes one, and warns of it
        transformer["model_args"] = {"add_pooling_layer": False}
    write_json(folder / SETTINGS, transformer)
    write_json(
        folder / PROMPTS,
        {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def _write_layer(folder: Path, layer: Layer) -> None:
    from safetensors.torch import save_file

    outputs, inputs = layer.tensors["linear.weight"].shape
    told = {
        "in_features": inputs,
        "out_features": outputs,
        "bias": True,
        "activation_function": layer.activation,
    }
    write_json(folder / CONFIG, told)
    save_file(dict(layer.tensors), folder / SAFETENSORS, metadata={"format": "pt"})


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented, in UTF-8."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_bytes(as_utf8(text))
