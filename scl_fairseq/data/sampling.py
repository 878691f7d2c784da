"""Few-shot samples as the paper draws them.

N labelled examples in total that follow the label distribution of the training set; half of the dev
set is the test set, up to 500 of the rest the validation set, both following its distribution. What
the paper does not say: one split of dev serves every sample and every N, and each class keeps at
least one example.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.tasks import Row, Task, read_rows
from scl_fairseq.files import replaced_folder, write_text

MAX_VALIDATION = 500
SAMPLE_FILES = ("train", "dev", "test")


@dataclass(frozen=True)
class FewShotSamples:
    """Several training samples with the validation and test rows that they share."""

    train: list[list[Row]]
    validation: list[Row]
    test: list[Row]


def allocate(total: int, available: Mapping[str, int]) -> dict[str, int]:
    """How many examples of each class, by the largest remainder, at least one each.

    Args:
        total: how many in all.
        available: examples there are of each class; its order breaks ties.

    Raises:
        ValueError: a class is empty, ``total`` is smaller than the number of classes or larger than
            what there is.
    """
    there_are = sum(available.values())
    empty = [label for label, count in available.items() if count == 0]
    if empty:
        raise ValueError(f"no example of class {', '.join(empty)}")
    if not len(available) <= total <= there_are:
        raise ValueError(
            f"cannot draw {total} examples from {there_are} rows of {len(available)} classes"
        )
    exact = {label: total * count / there_are for label, count in available.items()}
    share = {label: int(quota) for label, quota in exact.items()}
    by_remainder = sorted(exact, key=lambda label: share[label] - exact[label])
    for label in by_remainder[: total - sum(share.values())]:
        share[label] += 1
    for label in share:
        if share[label] == 0:
            share[max(share, key=share.__getitem__)] -= 1
            share[label] = 1
    return share


def draw(
    task: Task,
    train: Sequence[Row],
    dev: Sequence[Row],
    num_examples: int,
    num_samples: int,
    seed: int,
) -> FewShotSamples:
    """Draw samples; the same arguments give the same rows everywhere.

    Args:
        task: gives the classes.
        train: official training rows.
        dev: official dev rows, of which half become the test set.
        num_examples: N, labelled examples in total.
        num_samples: how many training samples.
        seed: names the draw.

    Raises:
        ValueError: there are too few rows, see ``allocate``.
    """
    test_counts = allocate(len(dev) // 2, _class_sizes(task, dev))
    test, rest = _split(task, dev, test_counts, StableRandom(seed, task.name, "test"))
    validation_counts = allocate(min(MAX_VALIDATION, len(rest)), _class_sizes(task, rest))
    validation, _ = _split(
        task, rest, validation_counts, StableRandom(seed, task.name, "validation")
    )
    counts = allocate(num_examples, _class_sizes(task, train))
    samples = [
        _split(task, train, counts, StableRandom(seed, task.name, num_examples, index))[0]
        for index in range(num_samples)
    ]
    return FewShotSamples(samples, validation, test)


def write_samples(
    task: Task, data_dir: Path, out: Path, num_examples: int, num_samples: int, seed: int
) -> list[Path]:
    """Draw from ``train.tsv`` and ``dev.tsv`` in ``data_dir`` and write a folder a sample.

    Each folder ``out/sample0``, … holds ``train.tsv``, ``dev.tsv``, ``test.tsv`` (header ``id label
    sentence1 [sentence2]``, ids are row numbers of the official files) and ``manifest.json``.

    Returns:
        The sample folders.

    Raises:
        ValueError: a file is malformed, or has too few rows.
    """
    sources = {name: data_dir / f"{name}.tsv" for name in ("train", "dev")}
    rows = {name: read_rows(task, path) for name, path in sources.items()}
    checksums = {name: _sha256(path) for name, path in sources.items()}
    drawn = draw(task, rows["train"], rows["dev"], num_examples, num_samples, seed)
    folders = []
    for index, sample in enumerate(drawn.train):
        parts = dict(zip(SAMPLE_FILES, (sample, drawn.validation, drawn.test), strict=True))
        manifest = {
            "task": task.name,
            "num_examples": num_examples,
            "sample": index,
            "seed": seed,
            "source_sha256": checksums,
            "row_ids": {name: [row.id for row in part] for name, part in parts.items()},
            "label_counts": {name: _class_sizes(task, part) for name, part in parts.items()},
        }
        folder = out / f"sample{index}"
        with replaced_folder(folder) as temporary:
            for name, part in parts.items():
                write_text(temporary / f"{name}.tsv", _as_tsv(task, part))
            write_text(temporary / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        folders.append(folder)
    return folders


def _class_sizes(task: Task, rows: Sequence[Row]) -> dict[str, int]:
    sizes = dict.fromkeys(task.labels, 0)
    for row in rows:
        sizes[row.label] += 1
    return sizes


def _split(
    task: Task, rows: Sequence[Row], counts: Mapping[str, int], random: StableRandom
) -> tuple[list[Row], list[Row]]:
    """Draw ``counts`` rows of each class; both parts come back in the order of the file."""
    chosen: set[int] = set()
    for label in task.labels:
        ids = sorted(row.id for row in rows if row.label == label)
        chosen.update(random.shuffled(ids)[: counts[label]])
    drawn = sorted((row for row in rows if row.id in chosen), key=lambda row: row.id)
    return drawn, [row for row in rows if row.id not in chosen]


def _as_tsv(task: Task, rows: Sequence[Row]) -> str:
    header = ["id", "label", *(f"sentence{i + 1}" for i in range(len(task.sentence_columns)))]
    lines = [header, *([str(row.id), row.label, *row.sentences] for row in rows)]
    return "".join("\t".join(fields) + "\n" for fields in lines)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
