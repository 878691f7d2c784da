"""The labels of ``sentence_prediction``'s data are the classes that a training counts on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from fairseq.data import data_utils
from fairseq.tasks.sentence_prediction import SentencePredictionTask

from scl_fairseq.refusals import listed
from scl_fairseq.text.dictionary import labels_of


def check_num_classes(task) -> None:
    """Refuse a number of classes that is not the number of labels.

    One more would be an output that is never right, and one less an index out of range.

    Raises:
        ValueError: they differ; the message has both.
    """
    if not isinstance(task, SentencePredictionTask) or task.cfg.regression_target:
        return
    labels, given = labels_of(task.label_dictionary), task.cfg.num_classes
    if given != len(labels):
        raise ValueError(
            f"--num-classes {given}, but {task.cfg.data} has {len(labels)} labels: "
            f"{listed(labels)}; give --num-classes {len(labels)}"
        )


def check_splits(task, criterion, dataset_cfg) -> None:
    """Look at the labels of all that a training reads.

    Args:
        task: fairseq's; others than ``sentence_prediction`` are left alone.
        criterion: where it has ``needs_labels``, and this is False, it trains without.
        dataset_cfg: fairseq's options of the data.

    Raises:
        ValueError: a split has no labels, or a row one that is none of the classes.
    """
    if not isinstance(task, SentencePredictionTask):
        return
    needs = getattr(criterion, "needs_labels", True)
    splits = {dataset_cfg.train_subset: True} if needs else {}
    if not dataset_cfg.disable_validation:
        combines = bool(dataset_cfg.combine_valid_subsets)
        names = ["valid"] if combines else dataset_cfg.valid_subset.split(",")
        splits.update(dict.fromkeys(names, combines))
    for split, combines in splits.items():
        for part in _parts(task.cfg.data, split) if combines else [split]:
            _check(task, part, needs, getattr(criterion, "label_hint", ""))


def _parts(data: str, split: str) -> Iterator[str]:
    """A split and what fairseq appends to it: train, train1, train2."""
    yield split
    number = 1
    while os.path.exists(os.path.join(data, "input0", f"{split}{number}.idx")):
        yield f"{split}{number}"
        number += 1


def _check(task, split: str, needs: bool, hint: str) -> None:
    path = os.path.join(task.cfg.data, "label", split)
    if task.cfg.regression_target:
        is_there, dataset = os.path.isfile(f"{path}.label"), None
        path = f"{path}.label"
    else:
        dataset = data_utils.load_indexed_dataset(path, task.label_dictionary)
        is_there = dataset is not None
    if not is_there and needs:
        raise ValueError(f"{split} has no labels ({path}), which this criterion needs{hint}")
    if dataset is not None:
        _check_rows(dataset, task.label_dictionary, path)


def _check_rows(dataset, dictionary, path: str) -> None:
    """One word a row, and that a label."""
    tokens, row_of = _tokens(dataset)
    words = tokens != dictionary.eos()
    tokens, row_of = tokens[words], row_of[words]
    lengths = np.bincount(row_of, minlength=len(dataset))
    if (lengths != 1).any():
        row = int(np.flatnonzero(lengths != 1)[0])
        raise ValueError(f"{path}: the label of row {row} has {lengths[row]} words, expected one")
    labels = labels_of(dictionary)
    classes = tokens - dictionary.nspecial
    wrong = np.flatnonzero((classes < 0) | (classes >= len(labels)))
    if len(wrong):
        row, token = int(wrong[0]), int(tokens[wrong[0]])
        name = dictionary[token] if token < len(dictionary) else f"index {token}"
        raise ValueError(
            f"{path}: the label of row {row} is none of the dictionary's ({name}), expected one "
            f"of {listed(labels)}; {len(wrong)} such row{'s' * (len(wrong) > 1)}"
        )


def _tokens(dataset) -> tuple[np.ndarray, np.ndarray]:
    """All tokens of an indexed data set as int64, and the rows that they are of."""
    sizes = np.asarray(dataset.sizes)
    if hasattr(dataset, "_bin_buffer"):  # mmap: at once, in the order of the file
        tokens = np.frombuffer(dataset._bin_buffer, dataset._index.dtype)
    else:
        tokens = np.concatenate([dataset[row].numpy() for row in range(len(dataset))])
    return tokens.astype(np.int64), np.repeat(np.arange(len(sizes)), sizes)
