"""The training sentences whose vectors are nearest to a sentence's, by the cosine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scl_fairseq.data.binarized import open_binarized
from scl_fairseq.inference.classifier import load_classifier
from scl_fairseq.inference.evaluation import LengthSortedBatches, read_dataset, tokens_for
from scl_fairseq.inference.hub import SentenceModel

SPLIT = "train"


@dataclass(frozen=True)
class Neighbour:
    """A training sentence, or two; its label, and the cosine of its vector with the other's."""

    text: str
    label: str
    similarity: float


class Neighbours:
    """Sentences of the training set with their vectors.

    Args:
        texts: N of them.
        labels: their label names.
        vectors: (N, C), what the classifier reads, of any length.
        total: sentences of the training set, of which these are a part.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[str], vectors: Tensor, total: int):
        self.texts, self.labels, self.total = texts, labels, total
        self._vectors = F.normalize(vectors.float().cpu(), dim=1)

    def nearest(self, vectors: Tensor, count: int) -> list[list[Neighbour]]:
        """The nearest of each of (B, C), the nearest first; twins of a text once."""
        similarities = F.normalize(vectors.float().cpu(), dim=1) @ self._vectors.T
        found = []
        for row in similarities:
            chosen: dict[str, Neighbour] = {}
            for index in row.argsort(descending=True, stable=True).tolist():
                if len(chosen) == count:
                    break
                one = Neighbour(self.texts[index], self.labels[index], float(row[index]))
                chosen.setdefault(one.text, one)
            found.append(list(chosen.values()))
        return found


class _Some:
    """A part of a fairseq data set, as ``LengthSortedBatches`` reads it."""

    def __init__(self, dataset, chosen: Sequence[int]):
        self._dataset, self._chosen = dataset, chosen
        self.collater = dataset.collater

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int):
        return self._dataset[self._chosen[index]]

    def num_tokens(self, index: int) -> int:
        return self._dataset.num_tokens(self._chosen[index])


def find_training_data(model: SentenceModel, checkpoint: Path) -> Path | None:
    """The binarised data of a checkpoint's training, where it is still there."""
    beside = checkpoint if checkpoint.is_dir() else checkpoint.parent
    for folder in (beside / "data", model.trained_on):
        if folder is not None and (folder / "input0" / f"{SPLIT}.idx").is_file():
            return folder
    return None


def of_training(
    model: SentenceModel,
    checkpoint: Path,
    data: Path,
    limit: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """Neighbours from the training set, in the words that the tokens spell.

    Args:
        model: of the checkpoint.
        checkpoint: its path.
        data: binarised data of its training.
        limit: sentences at most, spread evenly.
        on_progress: is told sentences done and in all.

    Raises:
        FileNotFoundError: there is no training set.
        ValueError: the data does not fit, or what the model makes of it is not finite.
    """
    classifier = load_classifier(checkpoint, open_binarized(data, (SPLIT,)))
    dataset = classifier.task.load_dataset(SPLIT)
    total = len(dataset)
    chosen = np.linspace(0, total - 1, min(limit, total)).round().astype(int).tolist()
    some = _Some(dataset, chosen)
    network = classifier.model.to(model.device)
    batches = LengthSortedBatches(some, tokens_for(model.device))
    reading = read_dataset(network, batches, classifier.head_name, on_progress=on_progress)
    texts = [_text(model, some[index]["net_input.src_tokens"]) for index in range(len(some))]
    names = classifier.data.labels
    labels = [names[int(target)] for target in reading.targets]
    return Neighbours(texts, labels, reading.inputs, total)


def _text(model: SentenceModel, tokens: Tensor) -> str:
    spelled = model.decode(tokens.to(torch.int64))
    return spelled if isinstance(spelled, str) else " | ".join(spelled)
