"""Few-shot samples as the paper draws them.

N labelled examples in total that follow the label distribution of the training set; half of the dev
set is the test set, up to 500 of the rest the validation set, both following its distribution. What
the paper does not say: one split of dev serves every sample and every N, and each class keeps at
least one example.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scl_fairseq import versions
from scl_fairseq.data.account import Account, OnProgress, silent
from scl_fairseq.data.few_shot import ClassIds, Size, draw_samples
from scl_fairseq.data.file_report import FileReport
from scl_fairseq.data.folders import open_folder
from scl_fairseq.data.manifest import PARTS, Manifest, Reading
from scl_fairseq.data.parallel import available_cores
from scl_fairseq.data.records import Row
from scl_fairseq.data.row_index import RowIndex, draw_dev, fetch_rows, index_rows
from scl_fairseq.data.sources import MANIFEST, Source
from scl_fairseq.data.tasks import CUSTOM, Task
from scl_fairseq.files import replaced_folder, write_text


@dataclass(frozen=True)
class WrittenSamples:
    """Folders of the samples, rows of each class in each of their files, and what was special.

    ``repeated`` rows of dev have a text that stands in train too; they are counted in data of one's
    own.
    """

    folders: list[Path]
    label_counts: dict[str, dict[str, int]]
    reports: list[FileReport]
    repeated: int = 0


def write_samples(
    task: Task,
    data_dir: Path,
    out: Path,
    size: Size,
    num_samples: int,
    seed: int,
    strict: bool = False,
    workers: int | None = None,
    on_progress: OnProgress = silent,
    dev_share: float | None = None,
) -> WrittenSamples:
    """Draw from train and dev of a data folder and write a folder for each sample.

    ``out/sample0``, … hold ``train.tsv``, ``dev.tsv``, ``test.tsv`` (header ``id label sentence1
    [sentence2]``) and ``manifest.json``. ``out`` is replaced whole. Where there is no dev set,
    ``dev_share`` of train is drawn as such before anything else is.

    Raises:
        ValueError, OSError: bad input, or too few rows; ``out`` is as it was then.
    """
    workers = workers or available_cores()
    _check_apart(data_dir, out)
    draws_dev = dev_share is not None
    folder = open_folder(task, data_dir, strict, ("train", "dev"), draws_dev)
    sources = folder.sources
    account = Account(sources.values(), on_progress, passes=2)
    with replaced_folder(out, is_ours=_holds_samples) as target:
        indices = {name: index_rows(source, workers, account) for name, source in sources.items()}
        classes = {name: index.by_class(task, index.ids) for name, index in indices.items()}
        if draws_dev:
            aside = draw_dev(task, sources["train"], classes["train"], dev_share, seed)
            classes = _parted(classes["train"], set(aside))
        try:
            drawn = draw_samples(task, classes["train"], classes["dev"], size, num_samples, seed)
        except ValueError as error:
            split, _, message = str(error).partition(": ")
            source = sources.get(split, sources["train"])
            raise ValueError(f"{source.path}: {message}") from None
        wanted = {"train": {i for ids in drawn.train for i in ids}}
        of_dev = {*drawn.validation, *drawn.test}
        wanted["train" if draws_dev else "dev"] = of_dev | (wanted["train"] if draws_dev else set())
        rows = {
            name: fetch_rows(source, task, wanted[name], workers, account)
            for name, source in sources.items()
        }
        train_rows, dev_rows = rows["train"], rows.get("dev", rows["train"])
        checksums = account.checksums()
        for index, ids in enumerate(drawn.train):
            parts = {
                "train": [train_rows[i] for i in ids],
                "dev": [dev_rows[i] for i in drawn.validation],
                "test": [dev_rows[i] for i in drawn.test],
            }
            manifest = _manifest(task, parts, checksums, size.per_class, index, seed, dev_share)
            write_sample(task, target / f"sample{index}", parts, manifest)
    return WrittenSamples(
        folders=[out / f"sample{index}" for index in range(num_samples)],
        label_counts=manifest.label_counts,
        reports=[index.report for index in indices.values()],
        repeated=_repeated(indices, classes),
    )


def _parted(rows: ClassIds, dev: Collection[int]) -> dict[str, ClassIds]:
    """The rows of each class without those of dev, and those of dev."""
    return {
        "train": {label: [i for i in ids if i not in dev] for label, ids in rows.items()},
        "dev": {label: [i for i in ids if i in dev] for label, ids in rows.items()},
    }


def _repeated(indices: Mapping[str, RowIndex], classes: Mapping[str, ClassIds]) -> int:
    """Rows of dev whose text stands in train too."""
    texts = {}
    for name, of_class in classes.items():
        index = indices.get(name, indices["train"])
        ids = np.array([i for of_label in of_class.values() for i in of_label], np.int64)
        texts[name] = index.texts[np.isin(index.ids, ids)] if len(index.texts) else index.texts
    return int(np.isin(texts["dev"], texts["train"]).sum())


def write_sample(
    task: Task, folder: Path, parts: Mapping[str, Sequence[Row]], manifest: Manifest
) -> None:
    """Write the files of one sample."""
    for name, rows in parts.items():
        write_text(folder / f"{name}.tsv", _as_tsv(task, rows))
    write_text(folder / MANIFEST, manifest.as_json())


def redraw(manifest: Manifest, data_dir: Path, out: Path, workers: int | None = None) -> Path:
    """Write the sample of a manifest once more, from the same official files.

    Args:
        manifest: of the sample.
        data_dir: the files that it was drawn from.
        out: the sample's folder; replaced whole.
        workers: processes; by default one for each core.

    Raises:
        ValueError: a file is not the one of the manifest, or lacks a row; the sample was augmented.
    """
    workers = workers or available_cores()
    _check_apart(data_dir, out)
    if manifest.augmentation is not None:
        raise ValueError(
            "the manifest is of an augmented sample; the one of the sample that it was made from "
            "draws that again, and scl-augment augments it"
        )
    task = manifest.find_task()
    draws_dev = manifest.reading is not None and manifest.reading.dev_share is not None
    folder = open_folder(task, data_dir, splits=("train", "dev"), draws_dev=draws_dev)
    sources = folder.sources
    _check_sources(manifest, tuple(sources.values()))
    parts = {}
    with replaced_folder(out, is_ours=is_sample) as target:
        for name, ids in manifest.row_ids.items():
            source = sources["train" if name == "train" or draws_dev else "dev"]
            rows = fetch_rows(source, task, ids, workers)
            missing = [i for i in ids if i not in rows]
            if missing:
                raise ValueError(f"{source.path}: no row with id {missing[0]}, which {name} needs")
            parts[name] = [rows[i] for i in ids]
        write_sample(task, target, parts, manifest)
    return out


def _manifest(
    task: Task,
    parts: Mapping[str, Sequence[Row]],
    checksums: dict[str, str],
    per_class: int | None,
    sample: int,
    seed: int,
    dev_share: float | None,
) -> Manifest:
    counts = {name: Counter(row.label for row in rows) for name, rows in parts.items()}
    columns = reading = None
    if task.name == CUSTOM:
        columns = [task.label_column, *task.sentence_columns]
        reading = Reading(list(task.headerless), task.quoting, dev_share)
    return Manifest(
        task=task.name,
        labels=list(task.labels),
        num_inputs=task.num_inputs,
        num_examples=len(parts["train"]),
        per_class=per_class,
        sample=sample,
        seed=seed,
        source_sha256=checksums,
        row_ids={name: [row.id for row in rows] for name, rows in parts.items()},
        label_counts={
            name: {label: of_part[label] for label in task.labels}
            for name, of_part in counts.items()
        },
        columns=columns,
        versions=versions.installed(),
        reading=reading,
    )


def _check_sources(manifest: Manifest, sources: Sequence[Source]) -> None:
    """Refuse files that are not those the sample was drawn from."""
    account = Account(sources, silent)
    for source in sources:
        for path in source.paths:
            with path.open("rb") as file:
                while data := file.read(1 << 20):
                    account(path, data)
    found = account.checksums()
    folder = sources[0].path.parent
    for name in sorted({*found, *manifest.source_sha256}):
        expected = manifest.source_sha256.get(name, "no such file")
        if found.get(name) != expected:
            raise ValueError(
                f"{folder / name}: SHA-256 {found.get(name, 'of no such file')}, expected "
                f"{expected}: not the file that the sample was drawn from"
            )


def is_sample(folder: Path) -> bool:
    """Whether a folder holds a sample and nothing else, which may be replaced."""
    files = {MANIFEST, *(f"{name}.tsv" for name in PARTS)}
    return {path.name for path in folder.iterdir()} == files


def _holds_samples(folder: Path) -> bool:
    """Whether a folder holds samples and nothing else, which may be replaced."""
    return all(
        re.fullmatch(r"sample\d+", path.name) and path.is_dir() and is_sample(path)
        for path in folder.iterdir()
    )


def _check_apart(data_dir: Path, out: Path) -> None:
    """Refuse to replace what is being read."""
    if out.resolve() in (data_dir.resolve(), *data_dir.resolve().parents):
        raise ValueError(f"--out {out} holds --data-dir {data_dir}; name another folder")


def _as_tsv(task: Task, rows: Sequence[Row]) -> str:
    header = ["id", "label", *(f"sentence{i + 1}" for i in range(task.num_inputs))]
    lines = [header, *([str(row.id), row.label, *row.sentences] for row in rows)]
    return "".join("\t".join(fields) + "\n" for fields in lines)
