"""The classification head of a Hugging Face folder: its tensors, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scl_fairseq.text.dictionary import SPECIAL_SYMBOLS

SUFFIX = "ForSequenceClassification"
HEAD = "sentence_classification_head"  # fairseq's default name
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
    """

    outputs: int
    labels: tuple[str, ...]

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
    outputs = len(tensors[last])
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
