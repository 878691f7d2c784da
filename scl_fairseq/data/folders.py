"""Which files a data folder has for a task."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data.choices import QUOTED
from scl_fairseq.data.manifest import Manifest
from scl_fairseq.data.sources import (
    MANIFEST,
    Source,
    is_sample_file,
    open_source,
    starts_with_bom,
    without_labels,
)
from scl_fairseq.data.table_files import (
    ALIGNED,
    EXPECTED,
    FIRST_INPUT,
    find_table,
    kind_of,
    tell_others,
)
from scl_fairseq.data.tasks import CUSTOM, TSV_FILES, Task


@dataclass(frozen=True)
class DataFolder:
    """The files of a task in one folder.

    Attributes:
        sources: by split.
        absent: names of the optional files that are not there.
        is_sample: it is a few-shot sample, not the official data.
    """

    sources: dict[str, Source]
    absent: tuple[str, ...]
    is_sample: bool


def open_folder(
    task: Task,
    folder: Path,
    strict: bool = False,
    splits: Collection[str] | None = None,
    draws_dev: bool = False,
) -> DataFolder:
    """Find the files of a task and look at how they begin.

    Args:
        task: says which files and columns there are.
        folder: official data, or a few-shot sample; for a custom task perhaps one file, train.
        strict: refuse malformed rows also where the official data has some.
        splits: which of the files to look at; all by default.
        draws_dev: dev is to be drawn from train, and must not be there.

    Raises:
        FileNotFoundError: train or dev is missing.
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    if task.name == CUSTOM and folder.is_file():
        return _single_file(task, folder, draws_dev)
    if not folder.is_dir():
        what = "no folder" if folder.exists() else "not there"
        raise FileNotFoundError(f"{folder} is {what}")
    is_sample = is_sample_file(task, folder / TSV_FILES["train"])
    if is_sample:
        _check_manifest(task, folder)
        if (task.headerless and task.is_own) or task.quoting == QUOTED:
            raise ValueError(f"{folder} is a few-shot sample: it has a header and no quoting")
    files = TSV_FILES if is_sample else task.files
    files = {split: name for split, name in files.items() if splits is None or split in splits}
    if task.name == CUSTOM and not is_sample:
        found = {split: _open_own(task, folder, split) for split in files}
    else:
        found = {
            split: open_source(task, folder / name, split, strict)
            for split, name in files.items()
            if (folder / name).exists()
        }
    sources = {split: source for split, source in found.items() if source}
    optional = (*task.optional, *(["dev"] if draws_dev else []))
    for split in ("train", "dev"):
        if split not in sources and split not in optional:
            raise FileNotFoundError(_missing(task, folder, split, files[split], is_sample))
    if draws_dev and "dev" in sources:
        raise ValueError(f"{sources['dev'].path} is there; --dev-share is for data without dev")
    absent = tuple(
        name + tell_others(folder, [name])
        for split, name in files.items()
        if split not in sources and not (draws_dev and split == "dev")
    )
    return DataFolder(sources, absent, is_sample)


def _single_file(task: Task, path: Path, draws_dev: bool) -> DataFolder:
    if kind_of(path) is None:
        raise ValueError(f"{path}: unknown kind of file, expected {EXPECTED}")
    if not draws_dev:
        raise ValueError(f"{path} is train alone; --dev-share 0.2 draws dev from it")
    return DataFolder({"train": open_source(task, path)}, (), is_sample=False)


def _open_own(task: Task, folder: Path, split: str) -> Source | None:
    path = find_table(folder, split)
    if path is None:
        return None
    if path.suffix == f".{FIRST_INPUT}":
        if task.headerless or task.quoting == QUOTED:
            option = "--columns" if task.headerless else f"--quoting {QUOTED}"
            raise ValueError(f"{path}: {option} goes with tables; here a file is a column")
        return _line_aligned(task, folder, split)
    return open_source(task, path, split)


def _missing(task: Task, folder: Path, split: str, name: str, is_sample: bool) -> str:
    if (folder / "sample0").is_dir():
        return f"{folder} has no {name}; it holds samples, name one of them: {folder / 'sample0'}"
    if (folder / task.name / name).exists():
        return f"{folder} has no {name}; did you mean {folder / task.name}?"
    expected, names, hint = name, [name], ""
    if task.name == CUSTOM and not is_sample:
        expected = f"{split}{EXPECTED} and no {split}.{FIRST_INPUT}"
        hint = "; --dev-share 0.2 draws dev from train" if split == "dev" else ""
    return f"{folder} has no {expected}{tell_others(folder, names)}{hint}"


def _line_aligned(task: Task, folder: Path, split: str) -> Source:
    """``train.label``, ``train.input0``, …: one example a line, as in fairseq's own recipes."""
    label = folder / f"{split}.label"
    inputs = [folder / f"{split}.input{i}" for i in range(task.num_inputs)]
    second = folder / f"{split}.input{task.num_inputs}"
    if second.exists():
        raise ValueError(
            f"{second} is there too; for pairs name two --sentence-columns, e.g. first second"
        )
    for path in (*inputs[1:], *([] if split == "test" else [label])):
        if not path.exists():
            raise FileNotFoundError(f"{inputs[0]} is there, but {path.name} is not")
    paths = (*inputs, *([label] if label.exists() else []))
    for path in paths:
        if path.stat().st_size == 0:
            raise ValueError(f"{path}:1: empty file, expected the rows of {task.name} {split}")
    source = Source(
        split=split,
        paths=paths,
        format=ALIGNED,
        columns=tuple(path.suffix[1:] for path in paths),
        label_at=len(inputs) if label.exists() else None,
        id_at=None,
        sentences_at=tuple(range(len(inputs))),
        labels=task.labels,
        has_bom=any(starts_with_bom(path) for path in paths),
    )
    if split != "test" or source.label_at is None:
        return source
    with label.open("rb") as file:
        return without_labels(source, file.readline())


def _check_manifest(task: Task, folder: Path) -> None:
    path = folder / MANIFEST
    if not path.exists():
        return
    manifest = Manifest.read(path)
    expected = (task.name, list(task.labels), task.num_inputs)
    if (manifest.task, manifest.labels, manifest.num_inputs) != expected:
        raise ValueError(
            f"{folder} is a few-shot sample of {manifest.task} with the labels "
            f"{', '.join(manifest.labels)} and {manifest.num_inputs} sentences a row, not of "
            f"{task.name} with {', '.join(task.labels)} and {task.num_inputs}"
        )
