"""The ``README.md`` of an exported model: only what its checkpoint says."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence

from scl_fairseq import __version__
from scl_fairseq.checkpoints.trained import Trained
from scl_fairseq.embeddings import CLS, MEAN

_POOLINGS = {CLS: "CLS (the first token)", MEAN: "mean over the tokens"}
LIBRARIES = {"huggingface": "transformers", "sentence-transformers": "sentence-transformers"}


def model_card(
    trained: Trained,
    name: str,
    target: str,
    form: str,
    task: str | None,
    pooling: str | None,
    labels: Sequence[str] | None,
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
    """
    facts = training_facts(trained, task)
    if pooling or labels is not None or trained.pooling == MEAN:
        facts["pooling"] = _POOLINGS[pooling or trained.pooling]
    if labels:
        facts["labels, in the order of the logits"] = ", ".join(labels)
    pipeline = {
        "ForSequenceClassification": "text-classification",
        "ForMaskedLM": "fill-mask",
    }.get(form, "feature-extraction")
    if target == "sentence-transformers":
        pipeline = "sentence-similarity" if labels is None else "text-classification"
    front = {
        "library_name": LIBRARIES[target],
        "pipeline_tag": pipeline,
        "tags": ["fairseq", "scl-fairseq", "roberta"],
    }
    score = dev_score(trained)
    if task and score and pipeline == "text-classification":
        result = {
            "task": {"type": pipeline},
            "dataset": {"name": task, "type": task.lower(), "split": "validation"},
            "metrics": [{"type": score[0], "value": score[1]}],
        }
        front["model-index"] = [{"name": name, "results": [result]}]
    lines = ["---", *(f"{key}: {_yaml(value)}" for key, value in front.items()), "---", ""]
    lines += [f"# {name}", "", _sentence(target, form, labels is not None), ""]
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items()), ""]
    return "\n".join(lines)


def training_facts(trained: Trained, task: str | None) -> dict[str, str]:
    """What there is to say of the training, by name; nothing that the checkpoint leaves open."""
    criterion, common = trained.settings["criterion"], trained.settings["common"]
    facts: dict[str, str] = {}
    if task:
        facts["data"] = task
    if criterion.get("_name") or isinstance(criterion.get("criterion"), str):
        facts["criterion"] = str(criterion.get("_name") or criterion["criterion"])
    for label, key in (("λ (weight of SCL)", "scl_lambda"), ("τ (SCL)", "scl_temperature")):
        if criterion.get(key) is not None:
            facts[label] = f"{criterion[key]:g}"
    if common.get("seed") is not None and trained.updates:
        facts["seed"] = str(common["seed"])
    if trained.updates:
        facts["updates"] = str(trained.updates)
    if score := dev_score(trained):
        facts[f"validation {score[0]}"] = f"{score[1]:g}"
    facts["scl-fairseq"] = __version__
    for package in ("fairseq-fixed", "fairseq", "torch"):
        version = _version(package)
        if version:
            facts[f"converted with {package}"] = version
    return facts


def dev_score(trained: Trained) -> tuple[str, float] | None:
    """The metric that training selected by, and its value for this very checkpoint."""
    metric = trained.settings["checkpoint"].get("best_checkpoint_metric")
    value = trained.extra_state.get("val_loss")
    if not metric or not isinstance(value, (int, float)):
        return None
    return str(metric), round(float(value), 4)


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
    return (
        f"{what} of the RoBERTa architecture, converted from a fairseq checkpoint by scl-fairseq."
    )


def _yaml(value: str | list | Mapping) -> str:
    # JSON is YAML, with every string quoted where it must be.
    return (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
