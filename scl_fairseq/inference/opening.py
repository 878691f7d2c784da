"""A checkpoint opened with what text needs, or refused in one line before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from fairseq.dataclass.utils import overwrite_args_by_name
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn

from scl_fairseq.checkpoints.head_training import HeadTraining
from scl_fairseq.checkpoints.reading import head_of, head_training, read_checkpoint
from scl_fairseq.checkpoints.training_state import text_of, trained_embedding
from scl_fairseq.configuration import as_dict
from scl_fairseq.embeddings import CLS
from scl_fairseq.models.head_pooling import pooling_of
from scl_fairseq.refusals import one_line
from scl_fairseq.text.assets import (
    CLASSIFIER,
    Settings,
    TextFiles,
    find,
    find_checkpoint,
    is_regression,
)
from scl_fairseq.text.bpe_files import fairseq_options
from scl_fairseq.text.description import INPUT, LABELS
from scl_fairseq.text.dictionary import read_dictionary
from scl_fairseq.text.encodings import Encoder, encoder_of

# Published checkpoints call the encoder a decoder.
_WORDS = [f"{part}.sentence_encoder.embed_tokens.weight" for part in ("encoder", "decoder")]


@dataclass(frozen=True)
class Opened:
    """All that the hub interface is made of.

    Attributes:
        model, cfg, task: as fairseq loads them; ``cfg.bpe`` names the files that were found.
        text: where those files are.
        encoder: sentences to the model's indices.
        head: name of the classification head.
        training: whether it was trained.
        embedding: which vector of a sentence was trained.
        trained_on: the folder of its training's data, which may be gone; None where it is not said.
    """

    model: nn.Module
    cfg: DictConfig
    task: Any
    text: TextFiles
    encoder: Encoder
    head: str
    training: HeadTraining
    embedding: str
    trained_on: Path | None


def open_checkpoint(
    path: Path,
    data_dir: Path | None = None,
    bpe: str | None = None,
    bpe_dir: Path | None = None,
) -> Opened:
    """Open a RoBERTa checkpoint; arguments and errors are those of ``hub.load``."""
    path = find_checkpoint(path)
    state = _read(path)
    own = text_of(state.get("extra_state"))
    settings = {group: as_dict(state["cfg"].get(group)) for group in ("task", "criterion", "bpe")}
    text = find(path, own, settings, data_dir, bpe, bpe_dir)
    _check_layout(path, text, settings)
    head, training = head_of(state), head_training(path, state)
    _check_dictionary(path, state["model"], text)
    _check_labels(path, state["model"], text, head)
    encoder = encoder_of(text.bpe, text.bpe_files, text.dictionary)
    model, cfg, task = _build(path, state, text.data)
    with open_dict(cfg):
        cfg.bpe = fairseq_options(text.bpe, text.bpe_files)
    embedding = _embedding(model, head, state.get("extra_state"))
    told = settings["task"].get("data")
    trained_on = Path(told) if told not in (None, "???") else None
    return Opened(model, cfg, task, text, encoder, head, training, embedding, trained_on)


def _read(path: Path) -> dict[str, Any]:
    state = read_checkpoint(path)
    if not any(name in state["model"] for name in _WORDS):
        model = as_dict(state["cfg"].model)
        name = model.get("_name") or model.get("arch", "no known name")
        raise ValueError(f"{path} is of the architecture {name}, expected a RoBERTa encoder")
    return state


def _check_dictionary(path: Path, weights: dict[str, Tensor], text: TextFiles) -> None:
    dictionary = read_dictionary(text.dictionary)
    size = dictionary.size_in_models
    rows = next(len(weights[name]) for name in _WORDS if name in weights)
    if size != rows:
        raise ValueError(
            f"{text.dictionary} has {size} symbols, <mask> among them, but {path} embeds {rows}: "
            "it is not the dictionary of the training"
        )


def _check_layout(path: Path, text: TextFiles, settings: Settings) -> None:
    """Refuse a folder in which fairseq's task would not find what was found elsewhere."""
    if settings["task"].get("_name") != CLASSIFIER:
        return
    needed = (INPUT,) if is_regression(settings) else (INPUT, LABELS)
    missing = [name for name in needed if not (text.data / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{text.data} has no {missing[0]}; --data-dir names the data that {path} was trained on"
        )


def _check_labels(path: Path, weights: dict[str, Tensor], text: TextFiles, head: str) -> None:
    if not text.labels:
        return
    outputs = weights.get(f"classification_heads.{head}.out_proj.weight")
    if outputs is None:
        raise ValueError(f"{path} has no classification head {head}")
    if len(outputs) != len(text.labels):
        raise ValueError(
            f"{text.label_dictionary} has {len(text.labels)} labels "
            f"({', '.join(text.labels)}), but {path} tells {len(outputs)} classes apart"
        )


def _embedding(model: nn.Module, head: str, extra_state: Mapping[str, Any] | None) -> str:
    """What the checkpoint says of its encoder, else what its head reads."""
    heads = model.classification_heads
    return trained_embedding(extra_state) or (pooling_of(heads[head]) if head in heads else CLS)


def _build(path: Path, state: dict[str, Any], data: Path) -> tuple[nn.Module, DictConfig, Any]:
    overrides = {"data": str(data.resolve()), "load_checkpoint_heads": True}
    overwrite_args_by_name(state["cfg"], overrides)
    try:
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], state=state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not load: {one_line(error)}") from error
    return models[0], cfg, task
