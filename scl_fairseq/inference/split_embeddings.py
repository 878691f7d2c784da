"""Embeddings of a binarised split: a checkpoint and its data, no raw text and no BPE files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scl_fairseq.checkpoints.head_training import name_of
from scl_fairseq.configuration import as_dict
from scl_fairseq.data.binarized import open_binarized
from scl_fairseq.inference.classifier import load_classifier
from scl_fairseq.models.head_pooling import pooling_of
from scl_fairseq.text.assets import find_checkpoint


@dataclass(frozen=True)
class SplitEmbeddings:
    """The examples of a split, as a fine-tuned model sees them.

    Attributes:
        vectors: (N, C), float32, on the CPU, in the order of the split.
        kind: what they are, ``cls`` or ``mean``: what the classifier reads.
        labels: (N,), class indices.
        class_names: names of the classes in the label dictionary.
        accuracy: of the model's predictions, percent; None where no classifier was trained.
        criterion: name of the one that it was trained with.
        scl_lambda: weight of SCL in the loss it was trained with; 0 where that had no SCL.
        scl_temperature: tau; None where that had no SCL.
    """

    vectors: Tensor
    kind: str
    labels: Tensor
    class_names: tuple[str, ...]
    accuracy: float | None
    criterion: str
    scl_lambda: float
    scl_temperature: float | None


def embed_split(checkpoint: Path, data_dir: Path, split: str = "test") -> SplitEmbeddings:
    """What the classifier reads of the last layer, for a whole split, on a GPU where there is one.

    They are those of ``SentenceModel.embed`` for the same sentences, without the need for their
    text.

    Args:
        checkpoint: that ``fairseq-train`` wrote, of a RoBERTa with a classification head; or its
            folder.
        data_dir: binarised data with the dictionaries that it was trained with.
        split: as fairseq names it: train, valid, test, ...

    Raises:
        FileNotFoundError: there is no such checkpoint or split, or the split has no labels.
        ValueError: the checkpoint is damaged, not of such a classifier, or does not fit the data; a
            row is longer than the model's positions; vectors are not finite.
    """
    checkpoint = find_checkpoint(checkpoint)
    classifier = load_classifier(checkpoint, open_binarized(data_dir, (split,)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reading = classifier.read(split, device)
    if reading.inputs is None:
        raise ValueError(f"{checkpoint}: its classification head is none of a RoBERTa's")
    accuracy = None
    if classifier.training.was_trained(classifier.head_name):
        correct = reading.logits.argmax(dim=1).cpu() == reading.targets
        accuracy = 100 * correct.double().mean().item()
    criterion = as_dict(classifier.cfg.criterion)
    scl_lambda = criterion.get("scl_lambda") or 0.0
    return SplitEmbeddings(
        vectors=reading.inputs.float().cpu(),
        kind=pooling_of(classifier.model.classification_heads[classifier.head_name]),
        labels=reading.targets,
        class_names=tuple(classifier.data.labels),
        accuracy=accuracy,
        criterion=str(name_of(criterion)),
        scl_lambda=scl_lambda,
        scl_temperature=criterion["scl_temperature"] if scl_lambda else None,
    )
