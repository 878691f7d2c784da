"""What a training reads: one's own tables, GLUE's files, or data that is binarised already."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scl_fairseq.data.account import OnProgress, silent
from scl_fairseq.data.binarized import BinarizedData, has_labels, open_binarized
from scl_fairseq.data.choices import AUTO
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.folders import open_folder
from scl_fairseq.data.preprocess import Report, preprocess
from scl_fairseq.data.table_files import EXPECTED, find_table, kind_of, tell_others
from scl_fairseq.data.tasks import Task, find_task
from scl_fairseq.data.text_tables import headers_of
from scl_fairseq.files import check_unsplit, file_sha256
from scl_fairseq.refusals import listed
from scl_fairseq.text.description import INPUT, LABELS
from scl_fairseq.text.dictionary import read_dictionary
from scl_fairseq.training.choices import DEV_SHARE
from scl_fairseq.training.tables import Scan, TableSettings, check_classes, class_names, scan

TRAIN, DEV, TEST = "train", "dev", "test"


@dataclass(frozen=True)
class Inputs:
    """Data that was looked at, and is not yet prepared.

    Attributes:
        path: the file or folder.
        task: how it is read; None where it is binarised already.
        labels: the classes in their order.
        num_inputs: texts of an example.
        dev_share: part of train that becomes dev; None where there is a dev set.
        sha256: of all its files.
        counts: rows of each class in train, of one's own tables.
        tables: how one's own tables are read.
    """

    path: Path
    task: Task | None
    labels: tuple[str, ...]
    num_inputs: int
    dev_share: float | None
    sha256: str
    counts: dict[str, int] = field(default_factory=dict)
    tables: TableSettings | None = None

    def prepare(
        self,
        destination: Path,
        bpe: Settings,
        seed: int,
        workers: int,
        on_progress: OnProgress = silent,
    ) -> Report:
        """Binarise it, as ``scl-preprocess`` does; the errors are those of ``preprocess``."""
        return preprocess(
            self.task, self.path, destination, bpe, seed=seed, workers=workers,
            on_progress=on_progress, dev_share=self.dev_share,
        )  # fmt: skip


def look_at(
    path: Path,
    text: Sequence[str] = (),
    label: str | None = None,
    task: str | None = None,
    dev_share: float | None = None,
    columns: Sequence[str] = (),
    quoting: str | None = None,
) -> Inputs:
    """Look at the data of a training.

    Args:
        path: a table, a folder of train, dev and test, of GLUE's files, or of binarised data.
        text: names of the one or two columns of texts, of one's own tables.
        label: name of the column of labels.
        task: of GLUE.
        dev_share: part of train that becomes dev where there is none.
        columns: see ``TableSettings``.
        quoting: see ``TableSettings``.

    Raises:
        ValueError, OSError: it is not what a classifier can be trained on.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    told = {
        "--text": text, "--label": label, "--columns": columns, "--quoting": quoting,
        "--task": task, "--dev-share": dev_share,
    }  # fmt: skip
    if is_binarized(path):
        check_unsplit(path)
        _refuse(told, list(told), f"{path} is binarised already, and has its own")
        return _binarized(path)
    if task is not None:
        _refuse(told, list(told)[:4], f"goes with tables of one's own; --task {task} has its own")
        return _of_glue(path, task, dev_share)
    settings = TableSettings(tuple(text), label or "", tuple(columns), quoting or AUTO)
    return _own(path, settings, dev_share)


def is_binarized(path: Path) -> bool:
    """Whether ``scl-preprocess`` or ``fairseq-preprocess`` wrote a folder."""
    return (path / INPUT).is_file()


def open_prepared(folder: Path) -> BinarizedData:
    """Binarised data with a training and a validation set, and perhaps a test set.

    Raises:
        ValueError, OSError: it has not, or is damaged.
    """
    splits = ("train", "valid")
    if (folder / "input0" / "test.idx").is_file() and has_labels(folder, "test"):
        splits += ("test",)
    return open_binarized(folder, splits)


def _refuse(told: dict[str, object], names: Sequence[str], why: str) -> None:
    for name in names:
        if told[name]:
            raise ValueError(f"{name} {why}" if why.startswith("goes") else f"{name}: {why}")


def _binarized(path: Path) -> Inputs:
    data = open_prepared(path)
    if not (path / LABELS).is_file():
        raise FileNotFoundError(f"{path / LABELS} is missing: it names the classes")
    return Inputs(path, None, tuple(data.labels), data.num_inputs, None, data.sha256)


def _of_glue(path: Path, name: str, dev_share: float | None) -> Inputs:
    task = find_task(name)
    if path.is_file():
        raise ValueError(f"{path} is a file; --task {name} reads the folder of its files")
    if dev_share is not None:
        raise ValueError(f"--dev-share is for data without a dev set; {task.name} has one")
    found = open_folder(task, path)
    sha256 = _sha256([one for source in found.sources.values() for one in source.paths])
    return Inputs(path, task, task.labels, task.num_inputs, None, sha256)


def _own(path: Path, settings: TableSettings, dev_share: float | None) -> Inputs:
    files = table_files(path)
    _check_named(settings, files[TRAIN])
    train = scan(settings, files[TRAIN], TRAIN)
    where = str(files[TRAIN])
    check_classes(settings.label, train.counts, train.rows, where)
    labels = class_names(train.counts)
    draws_dev = DEV not in files
    if draws_dev:
        for name, count in train.counts.items():
            if count < 2:
                raise ValueError(
                    f"{where}: one row of class {name!r}, of which dev needs one and train "
                    "another; add rows of it, or drop it"
                )
    elif dev_share is not None:
        raise ValueError(f"--dev-share is for data without a dev set; {files[DEV]} is there")
    for split in (DEV, TEST):
        if split in files:
            _check_split(settings, scan(settings, files[split], split), labels, split)
    share = (dev_share or DEV_SHARE) if draws_dev else None
    return Inputs(
        path=path,
        task=settings.task(labels),
        labels=tuple(labels),
        num_inputs=len(settings.text),
        dev_share=share,
        sha256=_sha256(list(files.values())),
        counts=dict(train.counts),
        tables=settings,
    )


def table_files(path: Path) -> dict[str, Path]:
    """The tables of one's own by split."""
    if path.is_file():
        if kind_of(path) is None:
            raise ValueError(f"{path}: unknown kind of file, expected {EXPECTED}")
        return {TRAIN: path}
    found = {split: find_table(path, split) for split in (TRAIN, DEV, TEST)}
    if found[TRAIN] is None:
        names = [f"{TRAIN}.{kind}" for kind in ("csv", "tsv", "jsonl")]
        there = sorted(one.name for one in path.iterdir())
        hint = tell_others(path, names) or (f"; it holds {listed(there)}" if there else "")
        raise FileNotFoundError(
            f"{path} has no {TRAIN}{EXPECTED}{hint}; --task names one of GLUE's"
        )
    other = tell_others(path, [f"{DEV}.csv"]) if found[DEV] is None else ""
    if other:
        raise ValueError(f"{path} has no {DEV} set{other}; name it {DEV} to have it used")
    for one in found.values():
        if one is not None and kind_of(one) is None:
            raise ValueError(
                f"{one}: scl-train reads tables; scl-preprocess reads line-aligned files, and "
                "scl-train the folder that it writes"
            )
    return {split: one for split, one in found.items() if one is not None}


def _check_named(settings: TableSettings, path: Path) -> None:
    for option, given in (("--text", settings.text), ("--label", settings.label)):
        if not given:
            headers = [list(settings.columns)] if settings.columns else headers_of(
                path, kind_of(path) or ""
            )  # fmt: skip
            columns = max(headers, key=len)
            what = "the texts" if option == "--text" else "the classes"
            raise ValueError(
                f"{option} is missing: it names the column of {what}; the columns of {path} are "
                f"{listed([repr(name) for name in columns])}"
            )
    if len(settings.text) > 2:
        raise ValueError(f"--text {' '.join(settings.text)}: expected one column, or two for pairs")
    if len(set(settings.text)) < len(settings.text):
        raise ValueError(f"--text {' '.join(settings.text)}: a pair needs two different columns")
    if settings.label in settings.text:
        raise ValueError(f"--label {settings.label} is a --text column too; name the other one")


def _check_split(settings: TableSettings, found: Scan, labels: Sequence[str], split: str) -> None:
    path = found.source.path
    unknown = [name for name in found.counts if name not in labels]
    if unknown:
        raise ValueError(
            f"{path}: the label {unknown[0]!r} is in no row of train, whose classes are "
            f"{listed(labels)}; add rows of it to train, or drop those of {split}"
        )
    if not found.rows:
        raise ValueError(f"{path}: no rows; expected texts with labels")
    missing = [name for name in labels if name not in found.counts]
    if split == DEV and missing:
        raise ValueError(
            f"{path}: no row of class {listed(missing)}, which train has; add some, or move the "
            "file away to have dev drawn from train"
        )


def _sha256(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name}\0{file_sha256(path)}".encode())
    return digest.hexdigest()


def check_dictionary(inputs: Inputs, encoder_dictionary: Path) -> None:
    """Refuse binarised data of another vocabulary than the encoder's.

    Raises:
        ValueError: it is.
    """
    own = inputs.path / INPUT
    if read_dictionary(own).sha256 != read_dictionary(encoder_dictionary).sha256:
        raise ValueError(
            f"{inputs.path} was binarised for another encoder: {INPUT} is not its "
            f"{encoder_dictionary.name}; scl-preprocess with --bpe-dir {encoder_dictionary.parent}"
        )
