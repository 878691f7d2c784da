"""Sentences with their paraphrases as views, out of the data of an augmented sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fairseq.data import FairseqDataset, data_utils

SOURCE = Path("source") / "train.txt"  # of scl-preprocess: for each row the id of its original
SPLIT = "train"


def group_views(task, number: int) -> None:
    """Have a task load its training split as sentences with ``number`` views each.

    Args:
        task: a ``sentence_prediction`` task on data of ``scl-preprocess``.
        number: V, 2 or more.

    Raises:
        ValueError: the data does not say which rows were made of which.
    """
    path = Path(task.cfg.data) / SOURCE
    if not path.is_file():
        raise ValueError(
            "--supcon-view-source text needs a sample of scl-augment, binarised by scl-preprocess: "
            f"there is no {path}"
        )
    load = task.load_dataset

    def load_dataset(split, *args, **kwargs):
        dataset = load(split, *args, **kwargs)
        if split == SPLIT:
            ids = [int(line) for line in path.read_text("utf-8").split()]
            if len(ids) != len(task.datasets[split]):
                raise ValueError(
                    f"{path} has {len(ids)} lines for {len(task.datasets[split])} rows"
                )
            dataset = task.datasets[split] = TextViews(
                task.datasets[split], ids, number, task.cfg.seed
            )
        return dataset

    task.load_dataset = load_dataset


class TextViews(FairseqDataset):
    """A data set whose examples are an original and its paraphrases, V rows each.

    The first view is the original. Of more paraphrases than V - 1 others are drawn in each epoch;
    where there are fewer, the original stands for the rest.

    Args:
        dataset: all rows, an original before its paraphrases.
        ids: of each row's original.
        number: V.
        seed: of the draw and of the order.
    """

    def __init__(self, dataset: FairseqDataset, ids: Sequence[int], number: int, seed: int):
        super().__init__()
        self.dataset = dataset
        rows_of: dict[int, list[int]] = {}
        for row, original in enumerate(ids):
            rows_of.setdefault(original, []).append(row)
        self._groups = list(rows_of.values())
        self._number, self._seed = number, seed
        # Shared: fairseq's data loaders keep their processes from epoch to epoch.
        self._epoch = torch.ones(1, dtype=torch.int64).share_memory_()
        self._sizes = np.array([max(dataset.size(row) for row in rows) for rows in self._groups])

    def __len__(self):
        return len(self._groups)

    def __getitem__(self, index):
        original, *paraphrases = self._groups[index]
        wanted = self._number - 1
        if len(paraphrases) > wanted:
            draw = np.random.default_rng([self._seed, self._epoch.item(), index])
            paraphrases = draw.choice(paraphrases, wanted, replace=False).tolist()
        rows = [original, *paraphrases, *[original] * (wanted - len(paraphrases))]
        return [self.dataset[row] for row in rows]

    def collater(self, samples):
        """One batch of all rows, those of an example one after the other."""
        return self.dataset.collater([row for rows in samples for row in rows])

    @property
    def sizes(self):
        """Tokens of the longest view that an example may have, which positions must hold."""
        return self._sizes

    def size(self, index):
        """The same of one example."""
        return self._sizes[index]

    def num_tokens(self, index):
        """What the views take of a batch."""
        return self._number * self._sizes[index]

    def ordered_indices(self):
        """At random, and the same in every epoch, as the task has it."""
        with data_utils.numpy_seed(self._seed):
            return np.random.permutation(len(self))

    def set_epoch(self, epoch):
        """Draw other paraphrases."""
        super().set_epoch(epoch)
        self._epoch.fill_(epoch)
