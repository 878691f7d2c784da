"""Which criterion goes with which task, data and model, before anything is loaded."""

from __future__ import annotations

import os

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import ARCH_MODEL_REGISTRY, FairseqEncoderDecoderModel
from fairseq.tasks import TASK_REGISTRY

CLASSIFICATION, EMBEDDING = "sentence_prediction", "sentence_embedding"
TASKS_OF = {
    "sentence_prediction_scl": (CLASSIFICATION,),
    "supcon": (CLASSIFICATION, EMBEDDING),
    "simcse": (EMBEDDING,),
    "infocse": (EMBEDDING,),
}


def is_classification(task: str) -> bool:
    """Whether a task is fairseq's ``sentence_prediction``, or made from it."""
    return issubclass(TASK_REGISTRY[task], TASK_REGISTRY[CLASSIFICATION])


def check_pair(criterion: str, task: str) -> None:
    """Refuse a criterion with a task that does not give it what it needs.

    Tasks and criterions of other plug-ins may be made for each other.

    Raises:
        ValueError: they do not go together.
    """
    wanted, given = TASKS_OF.get(criterion), TASK_REGISTRY[task]
    if wanted is None:
        if task == EMBEDDING and _is_stock(CRITERION_REGISTRY[criterion]):
            others = [name for name, tasks in TASKS_OF.items() if EMBEDDING in tasks]
            raise ValueError(
                f"--task {task} has no labels, which --criterion {criterion} needs: it goes with "
                f"--criterion {', '.join(others)}"
            )
        return
    is_known = _is_stock(given) or task == EMBEDDING
    if is_known and not any(issubclass(given, TASK_REGISTRY[name]) for name in wanted):
        also = ", which reads this data as well" if is_classification(task) else ""
        raise ValueError(f"--criterion {criterion} needs --task {' or '.join(wanted)}{also}")


def check_model(task: str, arch: str, has_decoder_input: bool) -> None:
    """Refuse a model that has no classification heads, or gets no input for its decoder.

    Args:
        task: its name.
        arch: name of the architecture.
        has_decoder_input: whether ``--add-prev-output-tokens`` is given.

    Raises:
        ValueError: the task does not serve such a model.
    """
    model = ARCH_MODEL_REGISTRY.get(arch)
    if model is None or not (is_classification(task) or task == EMBEDDING):
        return
    if not hasattr(model, "register_classification_head"):
        raise ValueError(
            f"--task {task} needs a model with classification heads, such as --arch roberta_base: "
            f"{arch} has none"
        )
    if issubclass(model, FairseqEncoderDecoderModel):
        if task == EMBEDDING:
            raise ValueError(
                f"--task {task} needs a RoBERTa model: {arch} has a decoder, for which the task "
                "has no input"
            )
        if not has_decoder_input:
            raise ValueError(f"--arch {arch} has a decoder: it needs --add-prev-output-tokens")


def check_files(task: str, data: str, is_regression: bool) -> None:
    """Refuse a folder of another kind of data than the task reads.

    Raises:
        ValueError: a dictionary that the task reads is not there.
    """
    if task == EMBEDDING:
        if not _have(data, "dict.txt", os.path.join("input0", "dict.txt")):
            raise ValueError(f"--task {task}: {data} has neither dict.txt nor input0/dict.txt")
        return
    if not is_classification(task):
        return
    if not _have(data, os.path.join("input0", "dict.txt")):
        lines = " (unlabelled lines go with --task sentence_embedding)"
        hint = lines if _have(data, "dict.txt") else ""
        raise ValueError(f"--task {task}: {data} has no input0/dict.txt{hint}")
    if not is_regression and not _have(data, os.path.join("label", "dict.txt")):
        raise ValueError(
            f"--task {task}: {data} has no label/dict.txt; data with numbers in label/train.label "
            "goes with --regression-target, data without labels with --task sentence_embedding"
        )


def _have(folder: str, *names: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def _is_stock(thing: type) -> bool:
    return thing.__module__.split(".")[0] == "fairseq"
