"""The ``README.md`` of an exported model: only what its checkpoint says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from scl_fairseq.checkpoints import card_facts
from scl_fairseq.checkpoints.source_card import LANGUAGE, LICENCE
from scl_fairseq.checkpoints.trained import Trained
from scl_fairseq.embeddings import CLS, MEAN

_POOLINGS = {CLS: "CLS (the first token)", MEAN: "mean over the tokens"}
ONNX = "onnx"
LIBRARIES = {
    "huggingface": "transformers",
    "sentence-transformers": "sentence-transformers",
    ONNX: "onnx",
}


def model_card(
    trained: Trained,
    name: str,
    target: str,
    form: str,
    task: str | None,
    pooling: str | None,
    labels: Sequence[str] | None,
    max_positions: int,
    scores: Mapping[str, str] | None = None,
) -> str:
    """Markdown with YAML in front, as the hub reads it.

    Args:
        trained: the checkpoint.
        name: of the model.
        target: a key of ``LIBRARIES``.
        form: as :func:`export_weights.form_of` names it.
        task: the data's name; None where it is not known.
        pooling: of sentence vectors; None where the target has none.
        labels: of a classifier, empty for a score; None without a classifier.
        max_positions: its longest input in tokens.
        scores: further ones, by name.
    """
    about = card_facts.data_facts(trained, task, labels)
    if pooling or labels is not None or trained.pooling == MEAN:
        about["pooling"] = _POOLINGS[pooling or trained.pooling]
    data = about.get("data")
    known = card_facts.limits(trained, data, max_positions)
    parts = {
        "": _table({**about, **card_facts.versions()}),
        "Training": _table(card_facts.recipe(trained)),
        "Scores": _table({**card_facts.scores(trained), **(scores or {})}),
        "Known limits": [f"- {sentence}" for sentence in known],
    }
    lines = ["---", *_front(trained, name, target, form, data, labels), "---", ""]
    lines += [f"# {name}", "", _sentence(target, form, labels is not None), ""]
    for title, content in parts.items():
        if content:
            lines += [*([f"## {title}", ""] if title else []), *content, ""]
    return "\n".join(lines)


def _front(
    trained: Trained,
    name: str,
    target: str,
    form: str,
    data: str | None,
    labels: Sequence[str] | None,
) -> list[str]:
    pipeline = {
        "ForSequenceClassification": "text-classification",
        "ForMaskedLM": "fill-mask",
    }.get(form, "feature-extraction")
    if target == "sentence-transformers":
        pipeline = "sentence-similarity" if labels is None else "text-classification"
    front: dict[str, str | list | Mapping] = {
        "library_name": LIBRARIES[target],
        "pipeline_tag": pipeline,
        "tags": ["fairseq", "scl-fairseq", "roberta"],
    }
    source = card_facts.source_of(trained)
    front |= {key: source[key] for key in (LICENCE, LANGUAGE) if key in source}
    score = card_facts.dev_score(trained)
    if data and score and pipeline == "text-classification":
        result = {
            "task": {"type": pipeline},
            "dataset": {"name": data, "type": data.lower(), "split": "validation"},
            "metrics": [{"type": score[0], "value": score[1]}],
        }
        front["model-index"] = [{"name": name, "results": [result]}]
    return [f"{key}: {_yaml(value)}" for key, value in front.items()]


def _table(facts: Mapping[str, str]) -> list[str]:
    if not facts:
        return []
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items())]


def _sentence(target: str, form: str, is_classifier: bool) -> str:
    if target == "sentence-transformers" and is_classifier:
        return (
            "A text classifier, converted from a fairseq checkpoint by scl-fairseq: "
            "`SentenceTransformer(...).encode(texts)` gives its logits."
        )
    if target == "sentence-transformers":
        return "A sentence encoder, converted from a fairseq checkpoint by scl-fairseq."
    what = {
        "ForSequenceClassification": "A text classifier",
        "ForMaskedLM": "A masked language model",
    }.get(form, "An encoder")
    end = (
        " `tokenizer.json` makes `input_ids` and `attention_mask` of texts, from which the models "
        "make `logits`; `scl-predict` takes the folder as it is, with its files in `bpe`."
        if target == ONNX
        else ""
    )
    return (
        f"{what} of the RoBERTa architecture, converted from a fairseq checkpoint by scl-fairseq."
        + end
    )


def _yaml(value: str | list | Mapping) -> str:
    # JSON is YAML, with every string quoted where it must be.
    plain = isinstance(value, str) and value.replace("-", "").replace(".", "").isalnum()
    return value if plain else json.dumps(value, ensure_ascii=False, allow_nan=False)
