"""What there is to say of a checkpoint, by name: data, recipe, scores, and known limits.

Nothing that it leaves open. Of a training by ``scl-train`` its ``train.json`` beside it says more.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scl_fairseq import __version__
from scl_fairseq.checkpoints.source_card import LANGUAGE, LICENCE, NAME, checked
from scl_fairseq.checkpoints.trained import Trained
from scl_fairseq.checkpoints.training_state import SOURCE, part_of
from scl_fairseq.files import read_json

RECORD = "train.json"  # of scl-train
_CUSTOM = "custom"  # the task of tables of one's own
_FEW = 1000  # examples
_SPLITS = {"valid": "validation", "test": "test", "train": "training"}
_OPTIONS = (
    ("optimizer", "optimizer", "_name"),
    ("learning rate", "optimization", "lr"),
    ("schedule", "lr_scheduler", "_name"),
    ("epochs at most", "optimization", "max_epoch"),
    ("updates at most", "optimization", "max_update"),
    ("batch size", "dataset", "batch_size"),
    ("weight decay", "optimizer", "weight_decay"),
)


def record_beside(trained: Trained) -> Mapping[str, Any]:
    """The ``train.json`` beside the checkpoint; nothing where there is none that can be read."""
    path = trained.path.parent / RECORD
    if not path.is_file():
        return {}
    try:
        return read_json(path)
    except (ValueError, OSError):  # a card is not worth the export
        return {}


def data_facts(trained: Trained, task: str | None, labels: Sequence[str] | None) -> dict[str, str]:
    """What it was trained on, and what it began as."""
    record, facts = record_beside(trained), {}
    file = Path(str(record.get("data", ""))).name  # not its folder, which is nobody's business
    data = task if task and task.casefold() != _CUSTOM else _word(file) or task
    if data:
        facts["data"] = data
    for split, count in _counts(record).items():
        facts[f"{_SPLITS.get(split, split)} examples"] = str(count)
    if labels:
        facts["labels, in the order of the logits"] = ", ".join(labels)
    source = source_of(trained)
    facts["encoder"] = source.get(NAME, "")
    facts["licence of the encoder"] = source.get(LICENCE, "not known: what it came from told none")
    return {name: value for name, value in facts.items() if value}


def recipe(trained: Trained) -> dict[str, str]:
    """How it was trained."""
    settings, facts = trained.settings, {}
    criterion = settings["criterion"]
    if criterion.get("_name") or isinstance(criterion.get("criterion"), str):
        facts["criterion"] = str(criterion.get("_name") or criterion["criterion"])
    for label, key in (("λ (weight of SCL)", "scl_lambda"), ("τ (SCL)", "scl_temperature")):
        if criterion.get(key) is not None:
            facts[label] = f"{criterion[key]:g}"
    if settings["common"].get("seed") is not None and trained.updates:
        facts["seed"] = str(settings["common"]["seed"])
    if trained.updates:
        facts["updates"] = str(trained.updates)
        for label, group, key in _OPTIONS:
            value = settings.get(group, {}).get(key)
            value = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
            if value:
                facts[label] = f"{value:g}" if isinstance(value, float) else str(value)
    return facts


def versions() -> dict[str, str]:
    """What made the folder."""
    found = {"scl-fairseq": __version__}
    for package in ("fairseq-fixed", "fairseq", "torch"):
        version = _version(package)
        if version:
            found[f"converted with {package}"] = version
    return found


def scores(trained: Trained) -> dict[str, str]:
    """What it reached, by name; with intervals where they are known."""
    found = {}
    if score := dev_score(trained):
        found[f"validation {score[0]}"] = f"{score[1]:g}"
    told = record_beside(trained).get("scores")
    if isinstance(told, Mapping) and _is_scores(told):
        low, high = told["accuracy_interval"]
        split = _SPLITS.get(told["split"], told["split"])
        found[f"accuracy, {split} set, {told['num_examples']} examples"] = percent(
            told["accuracy"], (low, high)
        )
    return found


def percent(value: float, interval: Sequence[float]) -> str:
    """An accuracy with its 95 % interval."""
    return f"{value:.1f} % (95 % interval {interval[0]:.1f} to {interval[1]:.1f})"


def limits(trained: Trained, data: str | None, max_positions: int | None) -> list[str]:
    """What a reader should know before using it, in sentences."""
    found = []
    if max_positions:
        found.append(f"It reads {max_positions} tokens; of longer texts the end is cut off.")
    if dev_score(trained):
        found.append(
            "The validation score is that by which this checkpoint was chosen among those of its "
            "training: on new texts expect less."
        )
    examples = _counts(record_beside(trained)).get("train")
    if examples and examples < _FEW:
        found.append(f"It has seen {examples} labelled examples.")
    if trained.head is not None and not trained.is_regression:
        found.append("Its probabilities are as training left them; nothing has calibrated them.")
        where = f"those of {data}" if data else "its training's"
        found.append(
            f"It knows no label but those above, and nothing was measured on texts unlike {where}."
        )
    language = source_of(trained).get(LANGUAGE)
    if language:
        found.append(f"The encoder's language: {language}.")
    return found


def source_of(trained: Trained) -> Mapping[str, str]:
    """Name, licence and language of the encoder that its training began with, as far as known."""
    return checked(part_of(trained.extra_state, SOURCE))


def dev_score(trained: Trained) -> tuple[str, float] | None:
    """The metric that training selected by, and its value for this very checkpoint."""
    metric = trained.settings["checkpoint"].get("best_checkpoint_metric")
    value = trained.extra_state.get("val_loss")
    if not metric or not isinstance(value, (int, float)):
        return None
    return str(metric), round(float(value), 4)


def _counts(record: Mapping[str, Any]) -> dict[str, int]:
    counts = record.get("num_examples")
    if not isinstance(counts, Mapping):
        return {}
    return {str(split): n for split, n in counts.items() if isinstance(n, int)}


def _is_scores(told: Mapping[str, Any]) -> bool:
    interval = told.get("accuracy_interval")
    numbers = [told.get("accuracy"), *(interval if isinstance(interval, list) else [None])]
    return (
        len(numbers) == 3
        and all(isinstance(number, (int, float)) for number in numbers)
        and isinstance(told.get("split"), str)
        and isinstance(told.get("num_examples"), int)
    )


def _word(text: str) -> str:
    return text if text.isprintable() else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
