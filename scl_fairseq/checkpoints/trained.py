"""What a fairseq checkpoint says of itself: weights, sizes, and how it was trained."""

from __future__ import annotations

import copy
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scl_fairseq.checkpoints.finite import check_finite, used
from scl_fairseq.checkpoints.fitting import check_beside
from scl_fairseq.checkpoints.head_training import DEFAULT_HEAD, HeadTraining
from scl_fairseq.checkpoints.loading import UNUSED_COPIES, allow_globals
from scl_fairseq.checkpoints.tensor_files import read_pickle
from scl_fairseq.checkpoints.training_heads import buffer_of
from scl_fairseq.checkpoints.training_state import POOLING, part_of, text_of
from scl_fairseq.embeddings import CLS, MEAN, POOLINGS
from scl_fairseq.text.assets import EMBEDDING, is_regression
from scl_fairseq.text.description import Description

_RECIPE = ("optimization", "optimizer", "lr_scheduler", "dataset")
_HEADS = "classification_heads."
_BUFFERS = re.compile(r"encoder\.sentence_encoder\.(version|embed_positions\._float_tensor)")
_COPY = re.compile(rf"encoder\.sentence_encoder\.layers\.\d+\.({'|'.join(UNUSED_COPIES)})")


@dataclass(frozen=True)
class Trained:
    """A checkpoint of fairseq's RoBERTa.

    Attributes:
        path: the file.
        arguments: the model's, with its architecture's sizes filled in.
        settings: options of ``task``, ``criterion``, ``common``, ``checkpoint``, ``bpe`` and the
            groups of ``_RECIPE``, by name; in checkpoints older than fairseq's configuration
            groups, all of them in each.
        tensors: by the names that fairseq gives them today.
        extra_state: what training kept beside the weights.
        history: fairseq's, of all trainings that led to it.
    """

    path: Path
    arguments: Namespace
    settings: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Tensor]
    extra_state: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]

    @property
    def head(self) -> str | None:
        """The name of the classification head; None where there is no head but for training.

        Raises:
            ValueError: there are heads, and none has the name that training was told.
        """
        heads = {
            name[len(_HEADS) :].split(".")[0] for name in self.tensors if name.startswith(_HEADS)
        }
        if self.settings["task"].get("_name") == EMBEDDING:
            return None
        told = self.settings["task"].get("classification_head_name")
        if told is None and len(heads) == 1:
            return min(heads)
        name = told or DEFAULT_HEAD
        if heads and name not in heads:
            listed = ", ".join(sorted(heads))
            raise ValueError(f"{self.path} has no head {name!r}; its heads: {listed}")
        return name if heads else None

    def head_tensor(self, name: str) -> Tensor:
        """A tensor of the classification head.

        Raises:
            ValueError: it has none of this name.
        """
        full = f"{_HEADS}{self.head}.{name}"
        if full not in self.tensors:
            raise ValueError(f"{self.path} lacks {full}")
        return self.tensors[full]

    @property
    def outputs(self) -> int:
        """How many the classification head has."""
        return len(self.head_tensor("out_proj.weight"))

    @property
    def pooling(self) -> str:
        """What its vectors are of the last layer, ``cls`` or ``mean``.

        It is what a trained head reads. Without one it is what training contrasted, or what the
        folder says that the weights came from.
        """
        if self.head is not None and self.head_training.was_trained(self.head):
            return MEAN if buffer_of(self.head) in self.tensors else CLS
        criterion = self.settings["criterion"]
        for key in ("scl_embedding", "head_pooling"):
            if criterion.get(key) in POOLINGS:
                return criterion[key]
        return part_of(self.extra_state, POOLING) or CLS

    @property
    def text(self) -> Description:
        """What it says itself of its texts; nothing where an earlier version has written it."""
        return text_of(self.extra_state)

    @property
    def head_training(self) -> HeadTraining:
        """Whether a head was trained."""
        return HeadTraining(self.path, self.settings["criterion"], self.extra_state, self.history)

    @property
    def updates(self) -> int:
        """How many the last training made."""
        return self.history[-1].get("num_updates", 0)

    def check_finite(self, mlm: bool) -> None:
        """Refuse NaN and infinity in what the model computes with, its MLM head or not.

        Raises:
            ValueError: the message names the file and the first such tensor.
        """
        check_finite(self.path, used(self.tensors, self.head, mlm))

    @property
    def is_regression(self) -> bool:
        """Whether the head gives scores, not classes."""
        return is_regression(self.settings)

    def separators(self, bpe: str) -> int:
        """How many ``</s>`` stood between the texts of a pair: 1 or 2.

        Args:
            bpe: the encoding, by which pairs are joined where the task has none: RoBERTa and its
                kin took two, BERT one.

        Raises:
            ValueError: training put other tokens around the texts.
        """
        task = self.settings["task"]
        if "num_classes" not in task:  # a language model's
            return 1 if bpe == "wordpiece" else 2
        init, separator = task.get("init_token"), task.get("separator_token")
        if init != 0 or separator not in (None, 2):
            raise ValueError(
                f"{self.path} was trained with --init-token {init} --separator-token {separator}; "
                "only <s> (0) and </s> (2), or no separator, can be told to a tokenizer"
            )
        return 1 if separator is None else 2


def read_trained(path: Path) -> Trained:
    """Read a checkpoint of fairseq's RoBERTa; nothing in it can run.

    Raises:
        ValueError: it is damaged, refers to code, or holds another model.
        OSError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    allow_globals()
    state = read_pickle(path)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise ValueError(f"{path} is not a fairseq checkpoint: it holds no model")
    settings = _settings(state)
    check_beside(path, settings["model"])
    return Trained(
        path=path,
        arguments=_arguments(path, settings.pop("model")),
        settings=settings,
        tensors=_todays_names(state["model"]),
        extra_state=state.get("extra_state") or {},
        history=state.get("optimizer_history") or [{}],
    )


def _settings(state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    groups = ("model", "task", "criterion", "common", "checkpoint", "bpe", *_RECIPE)
    if state.get("args") is not None:
        return dict.fromkeys(groups, _as_dict(state["args"]))
    config = state.get("cfg") or {}
    return {group: _as_dict(config.get(group)) for group in groups}


def _as_dict(options: Any) -> dict[str, Any]:
    return dict(vars(options) if isinstance(options, Namespace) else options or {})


def _arguments(path: Path, options: Mapping[str, Any]) -> Namespace:
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
    from fairseq.models.roberta import RobertaModel

    name = options.get("arch") or options.get("_name")
    model = ARCH_MODEL_REGISTRY.get(name)
    if model is None or not issubclass(model, RobertaModel):
        raise ValueError(f"{path} holds a model of architecture {name!r}; only RoBERTa's goes out")
    arguments = copy.deepcopy(Namespace(**options))
    ARCH_CONFIG_REGISTRY[name](arguments)
    if arguments.encoder_normalize_before:
        raise ValueError(
            f"{path} normalises before each layer (pre-norm), which transformers' RoBERTa does not"
        )
    return arguments


def _todays_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of older fairseq versions become today's; buffers and unused copies go."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^decoder\.", "encoder.", name)
        name = name.replace(".emb_layer_norm.", ".layernorm_embedding.")
        if _BUFFERS.fullmatch(name) or _COPY.fullmatch(name):
            continue
        joined = re.fullmatch(r"(.*\.self_attn\.)in_proj_(weight|bias)", name)
        if joined:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{joined[1]}{part}_proj.{joined[2]}"] = rows
        else:
            renamed[name] = tensor
    return renamed
