"""Sizes of an encoder: from a Hugging Face ``config.json`` to fairseq's arguments and flags."""

import zipfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scl_fairseq.checkpoints.layer_norms import LAYER_NORM_EPS
from scl_fairseq.files import read_json

if TYPE_CHECKING:
    from scl_fairseq.checkpoints.source_head import SourceHead

# fairseq's "gelu" is the exact form and "gelu_accurate" the tanh approximation, despite its name.
ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    "gelu_new": "gelu_accurate",
    "gelu_pytorch_tanh": "gelu_accurate",
}
MODEL_TYPES = ("bert", "roberta", "xlm-roberta")
FAIRSEQ_PADDING_INDEX = 1
_SIZES = (
    "encoder_layers",
    "encoder_embed_dim",
    "encoder_ffn_embed_dim",
    "encoder_attention_heads",
    "max_positions",
)


@dataclass(frozen=True)
class Architecture:
    """A BERT, RoBERTa or XLM-R encoder, in the terms of its ``config.json``.

    ``first_position`` is the row of the position embedding that the first token uses: 0 in BERT,
    one past the padding index in RoBERTa and XLM-R.
    """

    model_type: str
    layers: int
    width: int
    ffn_width: int
    heads: int
    position_rows: int
    first_position: int
    vocabulary_size: int
    token_types: int
    activation_fn: str
    dropout: float
    attention_dropout: float
    layer_norm_eps: float
    classifier_dropout: float | None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture":
        """Read the contents of a ``config.json``.

        Raises:
            ValueError: a key is missing, has an impossible value, or asks for something that
                fairseq's RoBERTa encoder does not compute; the message names the key and the value.
        """
        model_type = _one_of(config, "model_type", MODEL_TYPES)
        activation = _one_of(config, "hidden_act", tuple(ACTIVATIONS))
        _one_of(config, "position_embedding_type", ("absolute",), default="absolute")
        _one_of(config, "is_decoder", (False,), default=False)
        _one_of(config, "add_cross_attention", (False,), default=False)
        _check_dtype(config)
        width, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
        if width % heads:
            raise ValueError(
                f"config.json: hidden_size {width} is no multiple of num_attention_heads {heads}"
            )
        padding = _count(config, "pad_token_id", default=1, least=0)
        first_position = 0 if model_type == "bert" else padding + 1
        rows = _count(config, "max_position_embeddings", least=first_position + 1)
        return cls(
            model_type=model_type,
            layers=_count(config, "num_hidden_layers"),
            width=width,
            ffn_width=_count(config, "intermediate_size"),
            heads=heads,
            position_rows=rows,
            first_position=first_position,
            vocabulary_size=_count(config, "vocab_size"),
            token_types=_count(config, "type_vocab_size", default=2),
            activation_fn=ACTIVATIONS[activation],
            dropout=_rate(config, "hidden_dropout_prob"),
            attention_dropout=_rate(config, "attention_probs_dropout_prob"),
            layer_norm_eps=float(config.get("layer_norm_eps", 1e-12)),
            classifier_dropout=_rate(config, "classifier_dropout", None),
        )

    @property
    def family(self) -> str:
        """``bert`` or ``roberta``: how its tensors are named."""
        return "bert" if self.model_type == "bert" else "roberta"

    @property
    def max_positions(self) -> int:
        """Longest input in tokens, ``<s>`` and ``</s>`` included."""
        return self.position_rows - self.first_position

    def namespace(self, head: "SourceHead | None" = None, separators: int = 2) -> Namespace:
        """The arguments of a fairseq checkpoint that hold this encoder.

        Without a head the task is ``masked_lm``, as in fairseq's own RoBERTa archives: the hub then
        finds ``dict.txt`` in the checkpoint's folder and needs no label dictionary.

        Args:
            head: the classification head that the checkpoint has too.
            separators: how many ``</s>`` the classifier expects between two texts.
        """
        arguments = self._of_encoder()
        if head is None:
            return arguments
        from scl_fairseq.checkpoints.head_training import DEFAULT_HEAD
        from scl_fairseq.text.dictionary import BOS, EOS

        return Namespace(
            **{
                **vars(arguments),
                "task": "sentence_prediction",
                "criterion": "sentence_prediction",
                "num_classes": head.outputs,
                "regression_target": head.is_regression,
                "classification_head_name": DEFAULT_HEAD,
                "init_token": BOS,
                "separator_token": EOS if separators == 2 else None,
                "seed": 1,
                "pooler_dropout": (
                    self.dropout if self.classifier_dropout is None else self.classifier_dropout
                ),
                "pooler_activation_fn": head.activation,
                LAYER_NORM_EPS: self.layer_norm_eps,
            }
        )

    def _of_encoder(self) -> Namespace:
        return Namespace(
            arch="roberta",
            task="masked_lm",
            encoder_layers=self.layers,
            encoder_embed_dim=self.width,
            encoder_ffn_embed_dim=self.ffn_width,
            encoder_attention_heads=self.heads,
            max_positions=self.max_positions,
            tokens_per_sample=self.max_positions,
            activation_fn=self.activation_fn,
            pooler_activation_fn="tanh",
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=0.0,
            pooler_dropout=self.classifier_dropout or 0.0,
        )


def architecture_flags(source: Mapping[str, Any] | Namespace | str | Path) -> list[str]:
    """The ``fairseq-train`` flags that build the network a checkpoint fits into.

    Args:
        source: the contents of a ``config.json``; the ``args`` of a fairseq checkpoint; a
            checkpoint file; or a folder with a ``config.json`` or else a ``model.pt``.

    Returns:
        ``["--arch", "roberta", "--encoder-layers", "6", …]``. Sizes that a fairseq checkpoint
        leaves to its architecture (``roberta_base``) are left to it here too.

    Raises:
        ValueError: the configuration is not one that can be converted.
        OSError: there is no such file.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir() and (path / "config.json").exists():
            source = read_json(path / "config.json")
        else:
            source = _checkpoint_args(path / "model.pt" if path.is_dir() else path)
    if not isinstance(source, Namespace):
        source = Architecture.from_config(source).namespace()
    flags = ["--arch", source.arch]
    for name in (*_SIZES, "activation_fn"):
        if getattr(source, name, None) is not None:
            flags += ["--" + name.replace("_", "-"), str(getattr(source, name))]
    if getattr(source, "pooler_activation_fn", None) not in (None, "tanh"):
        flags += ["--pooler-activation-fn", source.pooler_activation_fn]
    return flags


def _checkpoint_args(path: Path) -> Namespace:
    import torch

    from scl_fairseq.checkpoints.loading import allow_globals

    allow_globals()
    # Mapping leaves the weights on the disk; files in torch's older format cannot be mapped.
    state = torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path))
    args = state.get("args") or (state.get("cfg") or {}).get("model")
    if not isinstance(args, Namespace) or not hasattr(args, "arch"):
        raise ValueError(f"{path} names no architecture in its arguments")
    return args


def _one_of(config: Mapping[str, Any], key: str, allowed: tuple, default: Any = None) -> Any:
    value = config.get(key, default)
    if value not in allowed:
        known = ", ".join(str(choice) for choice in allowed)
        raise ValueError(f"config.json: {key} is {value!r}; supported: {known}")
    return value


def _count(config: Mapping[str, Any], key: str, default: int | None = None, least: int = 1) -> int:
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"config.json: {key} is {value!r}; expected an integer of {least} or more")
    return value


def _check_dtype(config: Mapping[str, Any]) -> None:
    """Weights are read as they are stored; what else would be made of them is refused."""
    if config.get("quantization_config"):
        raise ValueError(
            "config.json: quantization_config is there; only floating weights are read"
        )
    for key in ("dtype", "torch_dtype"):
        value = config.get(key)
        if value is not None and "float" not in str(value):
            raise ValueError(f"config.json: {key} is {value!r}; expected a floating one")


def _rate(config: Mapping[str, Any], key: str, default: float | None = 0.1) -> float | None:
    value = config.get(key, default)
    if value is None and default is None:
        return None
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"config.json: {key} is {value!r}; expected a rate from 0 to below 1")
    return float(value)
