"""Where a checkpoint finds what text needs: dictionary, BPE files and label names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.configuration import as_dict
from scl_fairseq.text.bpe_files import (
    BESIDE_VOCABULARY,
    BPE_DIR,
    BPE_OPTIONS,
    guess_bpe,
    has_files,
    needed_files,
)
from scl_fairseq.text.choices import BPES
from scl_fairseq.text.dictionary import label_names

TEXT = "text.json"  # beside checkpoints
REPORT = "preprocess.json"  # in a folder of binarised data
EMBEDDING = "sentence_embedding"  # the task of this package that has no labels
CLASSIFIER, ENCODER = "sentence_prediction", "masked_lm"
# Where each task looks for its dictionary, below its data; the first that is there is it.
DICTIONARIES = {
    CLASSIFIER: ("input0/dict.txt",),
    ENCODER: ("dict.txt",),
    EMBEDDING: ("input0/dict.txt", "dict.txt"),
}
CHECKPOINTS = ("checkpoint_best.pt", "model.pt", "checkpoint_last.pt")


@dataclass(frozen=True)
class TextFiles:
    """What stands between text and a checkpoint.

    Attributes:
        data: the folder that fairseq's task takes as its data.
        dictionary: its ``dict.txt``.
        labels: names in the order of the classifier's outputs; none for an encoder or a regression.
        num_inputs: sentences of an example in training, where that is known.
        bpe, bpe_dir: the encoding and its files.
    """

    data: Path
    dictionary: Path
    labels: tuple[str, ...]
    num_inputs: int | None
    bpe: str
    bpe_dir: Path


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the first of ``CHECKPOINTS`` in a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such checkpoint")
        return path
    for name in CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"{path} holds no {', '.join(CHECKPOINTS[:-1])} or {CHECKPOINTS[-1]}")


def find(
    checkpoint: Path,
    cfg: Any,
    data_dir: Path | None = None,
    bpe: str | None = None,
    bpe_dir: Path | None = None,
) -> TextFiles:
    """Find what a checkpoint needs: as told, or next to it, or in the data that it names.

    Args:
        checkpoint: a file.
        cfg: fairseq's configuration in it.
        data_dir: binarised data with the dictionaries of the training.
        bpe: one of ``BPES``.
        bpe_dir: its files.

    Raises:
        FileNotFoundError: something is missing; the message names the option that supplies it.
        ValueError: the checkpoint is of another task.
    """
    task = as_dict(cfg.task)
    if task.get("_name") not in DICTIONARIES:
        raise ValueError(
            f"{checkpoint} is of the task {task.get('_name')}, expected one of "
            f"{', '.join(DICTIONARIES)}"
        )
    is_classifier = task["_name"] == CLASSIFIER
    data, dictionary = _find_data(checkpoint, task, data_dir)
    labels = data / "label" / "dict.txt"
    has_labels = is_classifier and not as_dict(cfg.criterion).get("regression_target", False)
    if has_labels and not labels.is_file():
        raise FileNotFoundError(
            f"{data} has no label/dict.txt; --data-dir names the data that {checkpoint} was "
            "trained on"
        )
    bpe, bpe_dir = _find_bpe(checkpoint, cfg, data, bpe, bpe_dir)
    return TextFiles(
        data=data,
        dictionary=dictionary,
        labels=tuple(label_names(labels)) if has_labels else (),
        num_inputs=_num_inputs(data) if is_classifier else None,
        bpe=bpe,
        bpe_dir=bpe_dir,
    )


def _find_data(checkpoint: Path, task: dict[str, Any], data_dir: Path | None) -> tuple[Path, Path]:
    """The folder that stands for the task's data, and the dictionary in it."""
    names = DICTIONARIES[task["_name"]]
    trained_on = task.get("data")
    if data_dir is not None:
        folders = [data_dir]
    elif trained_on in (None, "???"):
        folders = [checkpoint.parent]
    else:
        folders = [checkpoint.parent, Path(trained_on)]
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder, folder / name
    lacking = f"{' and '.join(map(str, folders))} lack{'s' * (len(folders) == 1)} {names[-1]}"
    raise FileNotFoundError(
        f"{lacking}; --data-dir names the data that {checkpoint} was trained on"
    )


def _find_bpe(
    checkpoint: Path, cfg, data: Path, bpe: str | None, bpe_dir: Path | None
) -> tuple[str, Path]:
    if bpe is not None and bpe not in BPES:
        raise ValueError(f"--bpe {bpe}, expected one of {', '.join(BPES)}")
    if bpe_dir is not None and not bpe_dir.is_dir():
        raise FileNotFoundError(f"--bpe-dir {bpe_dir} is no folder")
    beside = checkpoint.parent
    folders = [bpe_dir] if bpe_dir else [beside, data / BPE_DIR, data]
    noted = (read_description(beside / TEXT), read_description(data / REPORT))
    names = [bpe] if bpe else [about.get("bpe") for about in noted]
    named, files = named_by_options(cfg)
    names += [named] if named and not bpe else []
    name = next((name for name in names if name in BPES), None)
    found = _first(folders, name)
    if found is None and bpe_dir is None and name in (None, named) and files:
        found = named, next(iter(files.values())).parent
    if found is None:
        needed = f": {', '.join(needed_files(name))}" if name else ""
        where = " or ".join(map(str, dict.fromkeys(folders)))
        raise FileNotFoundError(
            f"{checkpoint}: no BPE files in {where}{needed}; --bpe and --bpe-dir name them"
        )
    return found


def _first(folders: Iterable[Path], bpe: str | None) -> tuple[str, Path] | None:
    for folder in folders:
        if bpe is None and (guess := guess_bpe(folder)):
            return guess, folder
        if bpe is not None and has_files(bpe, folder):
            return bpe, folder
    return None


def _num_inputs(data: Path) -> int:
    noted = read_description(data / TEXT).get("num_inputs")
    return noted if noted in (1, 2) else 1 + (data / "input1").is_dir()


def read_description(path: Path) -> dict[str, Any]:
    """Contents of a ``text.json`` or ``preprocess.json``; nothing where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def named_by_options(cfg) -> tuple[str | None, dict[str, Path]]:
    """The BPE that a training's own options name, where its files are there."""
    options = as_dict(getattr(cfg, "bpe", None))
    bpe = options.get("_name")
    files = {
        name: Path(str(options.get(option))) for option, name in BPE_OPTIONS.get(bpe, {}).items()
    }
    if not files or not all(path.is_file() for path in files.values()):
        return None, {}
    beside = next(iter(files.values())).with_name(BESIDE_VOCABULARY)
    if bpe == "wordpiece" and beside.is_file():
        files[BESIDE_VOCABULARY] = beside
    return bpe, files
