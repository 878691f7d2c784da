"""Where the files are that turn text into a checkpoint's token ids, and its outputs into labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.vocabulary import SENTENCE_PIECE
from scl_fairseq.files import read_json

ABOUT = "text.json"
REPORT = "preprocess.json"  # what scl-preprocess says of the data it wrote
BPE_DIR = "bpe"  # where it keeps the BPE files
# Names under which each encoding's files are published; a checkpoint's folder tells by them which
# encoding it is.
BPE_FILES = {
    "gpt2": (("encoder.json", "vocab.bpe"),),
    "wordpiece": (("vocab.txt",),),
    "sentencepiece": tuple((n,) for n in (SENTENCE_PIECE, "sentencepiece.model", "spm.model")),
}


@dataclass(frozen=True)
class Sources:
    """The files of a checkpoint.

    Attributes:
        dictionary: fairseq's ``dict.txt``.
        label_dictionary: the same for labels; None where there is none.
        labels: what ``text.json`` says instead of it.
        task: the task's name, from there or from the binarised data; None where it is not known.
        bpe: ``gpt2``, ``wordpiece`` or ``sentencepiece``.
        bpe_files: that encoding's.
    """

    dictionary: Path
    label_dictionary: Path | None
    labels: tuple[str, ...] | None
    task: str | None
    bpe: str
    bpe_files: tuple[Path, ...]


def find_sources(
    checkpoint: Path,
    data_dir: Path | None = None,
    bpe: str | None = None,
    bpe_dir: Path | None = None,
    trained_on: str | None = None,
) -> Sources:
    """Look in the folders that were named, next to the checkpoint, and where it was trained.

    Args:
        checkpoint: the file.
        data_dir: binarised data.
        bpe: the encoding; by default the one whose files are there.
        bpe_dir: the encoding's files.
        trained_on: the binarised data that the checkpoint itself names; it may be gone.

    Raises:
        ValueError: a file that is needed is nowhere; the message says where it was looked for.
        OSError: a folder that was named is not there.
    """
    for folder in (data_dir, bpe_dir):
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder")
    beside = checkpoint.parent
    about = read_json(beside / ABOUT) if (beside / ABOUT).is_file() else {}
    data = [data_dir] if data_dir else [beside, *([Path(trained_on)] if trained_on else [])]
    dictionaries = [folder / "input0" / "dict.txt" for folder in data]
    if not data_dir:
        dictionaries = [beside / "dict.txt", *dictionaries]
        dictionaries += [bpe_dir / "dict.txt"] if bpe_dir else []
    dictionary = _first_file(dictionaries)
    if dictionary is None:
        raise ValueError(
            f"no dictionary for {checkpoint}: looked for {_listed(dictionaries)}; --data-dir names "
            "the binarised data"
        )
    bpe = bpe or (None if bpe_dir else _text(about, "bpe", beside))
    folders = [bpe_dir] if bpe_dir else [beside, *(folder / BPE_DIR for folder in data)]
    bpe, files = _find_bpe(folders, bpe)
    labels = about.get("labels")
    return Sources(
        dictionary=dictionary,
        label_dictionary=_first_file([folder / "label" / "dict.txt" for folder in data]),
        labels=tuple(map(str, labels)) if isinstance(labels, Sequence) and labels else None,
        task=_text(about, "task", beside) or _task_of(data),
        bpe=bpe,
        bpe_files=files,
    )


def _find_bpe(folders: Sequence[Path], bpe: str | None) -> tuple[str, tuple[Path, ...]]:
    if bpe is not None and bpe not in BPE_FILES:
        raise ValueError(f"--bpe {bpe} has no form in transformers; has: {', '.join(BPE_FILES)}")
    for folder in folders:
        for name in [bpe] if bpe else BPE_FILES:
            for files in BPE_FILES[name]:
                if all((folder / file).is_file() for file in files):
                    return name, tuple(folder / file for file in files)
    needed = [choices[0] for name, choices in BPE_FILES.items() if bpe in (None, name)]
    raise ValueError(
        f"{' and '.join(map(str, folders))} {'has' if len(folders) == 1 else 'have'} no "
        f"{' or '.join(map(' with '.join, needed))}; --bpe-dir names a folder that has the BPE "
        "files"
    )


def _task_of(data: Sequence[Path]) -> str | None:
    report = _first_file([folder / REPORT for folder in data])
    name = read_json(report).get("task") if report else None
    return name if isinstance(name, str) else None


def _first_file(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _text(about: dict[str, Any], key: str, folder: Path) -> str | None:
    value = about.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{folder / ABOUT}: {key} is {value!r}, expected a name")
    return value


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
