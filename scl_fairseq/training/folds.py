"""Cross-validation: each row is predicted by a training that has not seen it."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scl_fairseq.data.records import Row, read_rows
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.files import write_text
from scl_fairseq.inference.bootstrap import resample_sum
from scl_fairseq.training.inputs import TRAIN, Inputs, look_at, table_files

FOLDS = "folds"
LABEL = "label"
RESAMPLES, SEED = 10_000, 0


def check(inputs: Inputs, folds: int) -> None:
    """Refuse data that cannot be folded.

    Raises:
        ValueError: it is no table, or a class has too few rows.
    """
    if inputs.tables is None:
        raise ValueError("--folds: goes with tables of one's own, whose rows can be dealt anew")
    for name, count in inputs.counts.items():
        left = count - math.ceil(count / folds)
        if left < 2:
            raise ValueError(
                f"--folds {folds}: class {name!r} has {count} rows, which leaves {left} to train "
                "on beside one fold; fewer folds, or more rows"
            )


def deal(rows: Sequence[Row], folds: int, seed: int) -> list[int]:
    """The fold of each row; rows of a class are spread evenly, and folds are of about one size."""
    random = StableRandom(seed, FOLDS, folds)
    fold_of, turn = [0] * len(rows), 0
    for label in sorted({row.label for row in rows}):
        places = [place for place, row in enumerate(rows) if row.label == label]
        for at in random.sample(len(places), len(places)):
            fold_of[places[at]] = turn % folds
            turn += 1
    return fold_of


def cross_validate(
    inputs: Inputs,
    folds: int,
    seed: int,
    out: Path,
    done: Sequence[Mapping[str, Any]],
    train_and_score: Callable[[int, Inputs, Path], Mapping[str, Any]],
    on_fold: Callable[[list[Mapping[str, Any]]], None],
) -> dict[str, Any]:
    """Train and score once a fold.

    Args:
        inputs: whose training rows are dealt; dev and test sets are not looked at.
        folds: how many.
        seed: of the deal.
        out: receives what is needed meanwhile.
        done: scores of the folds that an earlier call has finished.
        train_and_score: trains on inputs, in a folder; returns the scores on their test set.
        on_fold: is told the scores of all folds so far.

    Returns:
        Number of folds, mean and standard deviation of accuracy over them, and the share of all
        rows that were right, with its interval; in percent.
    """
    rows = read_rows(inputs.task, table_files(inputs.path)[TRAIN])
    fold_of = deal(rows, folds, seed)
    scores = list(done)
    for fold in range(len(scores), folds):
        folder = out / FOLDS / str(fold)
        own, others = [], []
        for row, at in zip(rows, fold_of, strict=True):
            (own if at == fold else others).append(row)
        _write(folder, "train", others)
        _write(folder, "test", own)
        text = _names(inputs.num_inputs)
        part = look_at(folder / "tables", text, LABEL, dev_share=inputs.dev_share)
        scores.append(dict(train_and_score(fold, part, folder / "model")))
        on_fold(scores)
        shutil.rmtree(folder)
    shutil.rmtree(out / FOLDS, ignore_errors=True)
    return summary(scores)


def summary(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the scores of all folds, see ``cross_validate``."""
    accuracies = [one["accuracy"] for one in scores]
    counts = [one["num_examples"] for one in scores]
    right = round(sum(a * n / 100 for a, n in zip(accuracies, counts, strict=True)))
    correct = np.zeros(sum(counts), np.int64)
    correct[:right] = 1
    low, high = resample_sum(correct, RESAMPLES, SEED).interval
    size = len(correct)
    return {
        "folds": len(scores),
        "num_examples": size,
        "mean": statistics.mean(accuracies),
        "sd": statistics.stdev(accuracies),
        "accuracy": 100 * right / size,
        "accuracy_interval": [100 * low / size, 100 * high / size],
        "accuracies": accuracies,
    }


def told(found: Mapping[str, Any]) -> str:
    """A summary, for people."""
    low, high = found["accuracy_interval"]
    each = ", ".join(f"{one:.1f}" for one in found["accuracies"])
    return (
        f"cross-validation in {found['folds']} folds: accuracy {found['mean']:.2f} ± "
        f"{found['sd']:.2f} % (mean ± sd over folds: {each})\n"
        f"of all {found['num_examples']} rows {found['accuracy']:.2f} % are right, 95 % interval "
        f"{low:.2f} to {high:.2f}; each by a training without its fold"
    )


def _write(folder: Path, split: str, rows: Sequence[Row]) -> None:
    lines = [
        json.dumps(
            {LABEL: row.label, **dict(zip(_names(len(row.sentences)), row.sentences, strict=True))},
            ensure_ascii=False,
            allow_nan=False,
        )
        for row in rows
    ]
    write_text(folder / "tables" / f"{split}.jsonl", "".join(f"{line}\n" for line in lines))


def _names(num_inputs: int) -> tuple[str, ...]:
    return ("text1", "text2")[:num_inputs]
