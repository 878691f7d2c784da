"""Which files a data folder has, and how each of them is laid out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data.manifest import Manifest
from scl_fairseq.data.tasks import CUSTOM, TSV_FILES, Task, lines_task

BOM = b"\xef\xbb\xbf"
SAMPLE_HEADER = ("id", "label", "sentence1")
MANIFEST = "manifest.json"
_LONGEST_HEADER = 1 << 16
LONGEST_SHOWN = 200  # characters of a file in a message


@dataclass(frozen=True)
class Source:
    """One file (or a set of line-aligned files), ready to be read.

    Attributes:
        split: ``train``, ``dev``, ``test``, …
        paths: the file; label and inputs of line-aligned files.
        format: ``tsv``, ``csv`` or ``lines``.
        columns: names of its fields.
        label_at, id_at: which field is what; None where there is no such field.
        sentences_at: fields of the sentences.
        labels: how the file spells the labels.
        respellings: other spellings of them, see the task.
        joins_columns, drops_malformed, drops_empty, is_joined: as in the task.
        offset: bytes before the first row.
        has_bom: it starts with a byte order mark.
    """

    split: str
    paths: tuple[Path, ...]
    format: str
    columns: tuple[str, ...]
    label_at: int | None
    id_at: int | None
    sentences_at: tuple[int, ...]
    labels: tuple[str, ...]
    respellings: Mapping[str, str]
    joins_columns: bool
    drops_malformed: bool
    offset: int
    first_line: int
    has_bom: bool
    drops_empty: bool = False
    is_joined: bool = True

    @property
    def path(self) -> Path:
        """The file that messages name."""
        return self.paths[0]

    @property
    def name(self) -> str:
        """Name of the file; line-aligned files are listed."""
        return ", ".join(path.name for path in self.paths)

    @property
    def num_inputs(self) -> int:
        """Texts of an example."""
        return 1 if self.joins_columns else len(self.sentences_at)

    @property
    def num_bytes(self) -> int:
        """Size of all its files."""
        return sum(path.stat().st_size for path in self.paths)


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
    task: Task, folder: Path, strict: bool = False, splits: Collection[str] | None = None
) -> DataFolder:
    """Find the files of a task and look at how they begin.

    Args:
        task: says which files and columns there are.
        folder: official data, or a few-shot sample.
        strict: refuse malformed rows also where the official data has some.
        splits: which of the files to look at; all by default.

    Raises:
        FileNotFoundError: train or dev is missing.
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    is_sample = bool(task.labels) and _is_sample(task, folder / TSV_FILES["train"])
    if is_sample:
        _check_manifest(task, folder)
    files = TSV_FILES if is_sample else task.files
    files = {split: name for split, name in files.items() if splits is None or split in splits}
    if task.name == CUSTOM and not (folder / files["train"]).exists():
        found = {split: _line_aligned(task, folder, split) for split in files}
        files = {split: f"{split}.tsv or {split}.input0" for split in files}
    else:
        found = {
            split: open_source(task, folder / name, split, strict)
            for split, name in files.items()
            if (folder / name).exists()
        }
    sources = {split: source for split, source in found.items() if source}
    for split in ("train", "dev"):
        if split not in sources and split not in task.optional:
            inside = folder / task.name / files[split]
            hint = f"; did you mean {folder / task.name}?" if inside.exists() else ""
            if (folder / "sample0").is_dir():
                hint = f"; it holds samples, name one of them: {folder / 'sample0'}"
            raise FileNotFoundError(f"{folder} has no {files[split]}{hint}")
    absent = tuple(name for split, name in files.items() if split not in sources)
    return DataFolder(sources, absent, is_sample)


def open_source(task: Task, path: Path, split: str = "train", strict: bool = False) -> Source:
    """Look at the beginning of a file of the task, or of a few-shot sample.

    A test set may be without labels, every other file has them.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    if not head.removeprefix(BOM):
        raise ValueError(f"{path}:1: empty file, expected the rows of {task.name} {split}")
    has_bom = head.startswith(BOM)
    start = len(BOM) if has_bom else 0
    line, newline, _ = head[start:].partition(b"\n")
    if len(head) == _LONGEST_HEADER and not newline:  # a long first row, cut inside a character
        line = line.decode("utf-8", "ignore").encode()
    first = _decode_header(path, line)
    is_test = split.startswith("test")
    is_sample = bool(task.labels) and _has_sample_header(task, path, first)

    if is_sample:
        columns, label = tuple(first), "label"
        sentences = tuple(f"sentence{i + 1}" for i in range(task.num_inputs))
        if (count := sum(column.startswith("sentence") for column in columns)) > len(sentences):
            raise ValueError(
                f"{path}:1: {count} sentences in a row, expected {len(sentences)} for {task.name}"
            )
    else:
        has_header = not task.headerless or (is_test and bool(task.labels) and not task.csv)
        columns = tuple(first) if has_header else task.headerless
        label, sentences = task.label_column, task.sentence_columns
    header_is_there = is_sample or columns is not task.headerless
    expected = sentences if is_test or not task.labels else (label, *sentences)
    missing = [column for column in expected if column not in columns]
    if missing:
        found = " | ".join(columns)
        found = found if len(found) <= LONGEST_SHOWN else found[:LONGEST_SHOWN] + "..."
        raise ValueError(
            f"{path}:1: wrong header {found!r}, expected the columns {', '.join(expected)}; "
            f"missing: {', '.join(missing)}"
        )
    twice = [column for column in expected if columns.count(column) > 1]
    if twice:
        raise ValueError(f"{path}:1: column {twice[0]!r} is there twice, expected it once")
    id_column = "id" if is_sample else task.id_column
    label_at = columns.index(label) if label in columns else None
    return Source(
        split=split,
        paths=(path,),
        format="csv" if task.csv and not is_sample else "tsv",
        columns=columns,
        label_at=label_at,
        id_at=columns.index(id_column) if id_column in columns else None,
        sentences_at=tuple(columns.index(column) for column in sentences),
        labels=task.labels if is_sample or not task.raw_labels else task.raw_labels,
        respellings=task.respellings,
        joins_columns=task.joins_columns and not is_sample,
        drops_malformed=task.drops_malformed and not strict and label_at is not None,
        offset=start + (len(line) + len(newline) if header_is_there else 0),
        first_line=2 if header_is_there else 1,
        has_bom=has_bom,
        drops_empty=task.drops_empty,
        is_joined=task.is_joined,
    )


def open_lines(folder: Path) -> Task:
    """The task of unlabelled text, with as many sentences a line as the first of ``train.txt``.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: there are too many on a line.
    """
    path = folder / lines_task().files["train"]
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {path.name}, one sentence a line")
    with path.open("rb") as file:
        first = file.readline(_LONGEST_HEADER)
    try:
        return lines_task(first.count(b"\t") + 1)
    except ValueError as error:
        raise ValueError(f"{path}:1: {error}") from None


def _line_aligned(task: Task, folder: Path, split: str) -> Source | None:
    """``train.label``, ``train.input0``, …: one example a line, as in fairseq's own recipes."""
    label = folder / f"{split}.label"
    inputs = [folder / f"{split}.input{i}" for i in range(task.num_inputs)]
    if not inputs[0].exists():
        return None
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
    return Source(
        split=split,
        paths=paths,
        format="lines",
        columns=tuple(path.suffix[1:] for path in paths),
        label_at=len(inputs) if label.exists() else None,
        id_at=None,
        sentences_at=tuple(range(len(inputs))),
        labels=task.labels,
        respellings={},
        joins_columns=False,
        drops_malformed=False,
        offset=0,
        first_line=1,
        has_bom=any(_starts_with_bom(path) for path in paths),
    )


def _starts_with_bom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(BOM)) == BOM


def _decode_header(path: Path, line: bytes) -> list[str]:
    if b"\0" in line:
        raise ValueError(f"{path}:1: a NUL byte, expected UTF-8 text")
    try:
        return line.decode("utf-8").removesuffix("\r").split("\t")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise ValueError(f"{path}:1: not UTF-8 (byte 0x{byte:02x}), expected UTF-8") from None


def _is_sample(task: Task, path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        line = file.read(_LONGEST_HEADER).removeprefix(BOM).split(b"\n")[0]
    return _has_sample_header(task, path, line.decode("utf-8", "replace").rstrip("\r").split("\t"))


def _has_sample_header(task: Task, path: Path, columns: list[str]) -> bool:
    """Whether a file is a sample's; one of a custom task may look like it by chance."""
    if tuple(columns[:3]) != SAMPLE_HEADER:
        return False
    own = {task.label_column, *task.sentence_columns}
    return not (task.name == CUSTOM and own <= set(columns)) or path.with_name(MANIFEST).exists()


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
