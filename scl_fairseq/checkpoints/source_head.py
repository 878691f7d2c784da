"""The classification head of a Hugging Face folder: its tensors, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scl_fairseq.checkpoints.source_modules import SourceModules
from scl_fairseq.embeddings import CLS
from scl_fairseq.text.dictionary import SPECIAL_SYMBOLS

SUFFIX = "ForSequenceClassification"
# Modules of the head, fairseq's name for each. BERT's pooler is its first layer.
MODULES = {
    "bert": {"pooler.dense": "dense", "classifier": "out_proj"},
    "roberta": {"classifier.dense": "dense", "classifier.out_proj": "out_proj"},
}
_SINGLE, _MULTI, _REGRESSION = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)


@dataclass(frozen=True)
class SourceHead:
    """A head.

    Attributes:
        outputs: how many it has.
        labels: their names, in their order; none for a regression.
        activation: after the first layer, fairseq's name.
        pooling: what it reads, ``cls`` or ``mean``.
    """

    outputs: int
    labels: tuple[str, ...]
    activation: str = "tanh"
    pooling: str = CLS

    @property
    def is_regression(self) -> bool:
        """Whether the output is a score."""
        return not self.labels


def read_head(
    config: Mapping[str, Any], tensors: Mapping[str, Any], family: str
) -> SourceHead | None:
    """The head that a folder has; None where it has none.

    Args:
        config: the contents of ``config.json``.
        tensors: the weights, by the names that ``weights.bare_names`` gives them.
        family: ``bert`` or ``roberta``.

    Raises:
        ValueError: the head is none of fairseq's, or its outputs are not told.
    """
    if not any(name.startswith("classifier.") for name in tensors):
        return None
    named = [str(name) for name in config.get("architectures") or []]
    if named and not named[0].endswith(SUFFIX):
        raise ValueError(
            f"config.json: architectures is {named[0]}, and the weights hold a classifier; of "
            f"heads with classes fairseq has that of {SUFFIX} alone"
        )
    last = next(m for m, ours in MODULES[family].items() if ours == "out_proj") + ".weight"
    if last not in tensors:
        raise ValueError(f"the weights hold classifier tensors, but no {last}")
    return _head(config, len(tensors[last]))


def read_layers(
    config: Mapping[str, Any], modules: SourceModules, tensors: dict[str, Any], family: str
) -> SourceHead | None:
    """The head that the Dense modules of a folder are; None where it has none.

    Args:
        config: the contents of the encoder's ``config.json``.
        modules: with the layers.
        tensors: the encoder's weights, to which those of the layers come, named as a head's.
        family: ``bert`` or ``roberta``.

    Raises:
        ValueError: the layers' weights are not of their sizes, or the outputs are not told.
        OSError: a file cannot be read.
    """
    if not modules.layers:
        return None
    from scl_fairseq.checkpoints.tensor_files import find_weights, read_weights

    first, last = modules.layers
    if first.outputs != config["hidden_size"]:
        raise ValueError(
            f"{first.folder} is {first.outputs} wide; the first layer of a head of fairseq's is as "
            f"wide as the encoder, {config['hidden_size']}"
        )
    for name in [name for name in tensors if name.startswith("classifier.")]:
        del tensors[name]  # sentence-transformers does not read it
    for layer, name in zip(modules.layers, MODULES[family], strict=True):
        stored = read_weights(find_weights(layer.folder))
        if "linear.weight" in stored:  # a layer may be without bias
            stored.setdefault("linear.bias", stored["linear.weight"][:, 0] * 0)
        if sorted(stored) != ["linear.bias", "linear.weight"]:
            raise ValueError(f"{layer.folder} holds the weights {', '.join(sorted(stored))}")
        for part in ("weight", "bias"):
            tensors[f"{name}.{part}"] = stored[f"linear.{part}"]
    return replace(
        _head(config, last.outputs), activation=first.activation, pooling=modules.pooling or CLS
    )


def _head(config: Mapping[str, Any], outputs: int) -> SourceHead:
    kind = config.get("problem_type") or (_REGRESSION if outputs == 1 else _SINGLE)
    if kind == _MULTI:
        raise ValueError(
            f"config.json: problem_type is {_MULTI}: fairseq's classifiers choose one label"
        )
    if kind not in (_SINGLE, _REGRESSION) or (kind == _REGRESSION) != (outputs == 1):
        raise ValueError(f"config.json: problem_type is {kind!r}, with {outputs} outputs")
    return SourceHead(outputs, () if outputs == 1 else _labels(config, outputs))


def _labels(config: Mapping[str, Any], outputs: int) -> tuple[str, ...]:
    told = config.get("id2label") or {str(n): f"LABEL_{n}" for n in range(outputs)}
    try:
        names = {int(number): str(name) for number, name in told.items()}
    except (AttributeError, ValueError):
        raise ValueError(f"config.json: id2label is {told!r}") from None
    if sorted(names) != list(range(outputs)):
        raise ValueError(
            f"config.json: id2label names the outputs {sorted(names)}, and the head has {outputs}"
        )
    labels = tuple(names[number] for number in range(outputs))
    for name, number in (config.get("label2id") or {}).items():
        if name in labels and labels[int(number)] != name:
            raise ValueError(f"config.json: label2id and id2label number {name!r} differently")
    for label in labels:
        # A dictionary has one a line; a space within is no harm.
        is_bare = label.strip() == label and len(label.splitlines()) == 1
        if not is_bare or label in SPECIAL_SYMBOLS or label.startswith("madeupword"):
            raise ValueError(f"config.json: a fairseq dictionary cannot hold the label {label!r}")
        if labels.count(label) > 1:
            raise ValueError(f"config.json: id2label has {label!r} twice")
    return labels
