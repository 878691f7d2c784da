"""Where a checkpoint finds what text needs: dictionary, BPE files and label names.

One rule for every command. What options name is taken; else what lies beside the checkpoint; else
what lies in the data that it was trained on; and of BPE files at last those that its own ``--bpe``
options name. Whatever is found must be what the checkpoint was trained with, as far as it says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.text.bpe_files import (
    ADJUSTED_GPT2,
    BESIDE_VOCABULARY,
    BPE_DIR,
    BPE_OPTIONS,
    WITH_SETTINGS,
    find_files,
    guess_bpe,
    has_files,
    needed_files,
)
from scl_fairseq.text.choices import BPES, GPT2
from scl_fairseq.text.description import (
    DICTIONARY,
    INPUT,
    LABELS,
    REPORT,
    TEXT,
    Description,
    check_file,
    read_description,
)
from scl_fairseq.text.dictionary import label_names

EMBEDDING = "sentence_embedding"  # the task of this package that has no labels
CLASSIFIER, ENCODER = "sentence_prediction", "masked_lm"
# Where each task looks for its dictionary, below its data; the first that is there is it.
DICTIONARIES = {
    CLASSIFIER: (INPUT,),
    ENCODER: (DICTIONARY, INPUT),
    EMBEDDING: (INPUT, DICTIONARY),
}
CHECKPOINTS = ("checkpoint_best.pt", "model.pt", "checkpoint_last.pt")
_ONNX = ".onnx"
# The rule in the words of --help.
CHECKPOINT_HELP = (
    "that fairseq-train wrote, or a folder with checkpoint_best.pt, model.pt or checkpoint_last.pt"
)
RULE = (
    "dictionary, BPE files and label names: by default those next to the checkpoint, or else in\n"
    "the data it was trained on, or else where its own --bpe options say"
)

Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class TextFiles:
    """What stands between text and a checkpoint.

    Attributes:
        data: the folder that fairseq's task takes as its data.
        dictionary: its ``dict.txt``.
        label_dictionary: its ``label/dict.txt``; None where there is none.
        labels: names in the order of the classifier's outputs; none for an encoder or a regression,
            or where nothing names them.
        num_inputs: sentences of an example in training, where that is known.
        task: name of the task, where that is known.
        bpe: the encoding.
        bpe_files: its files, by the names that this package gives them.
        sentence_columns: names of the training's sentence columns, where they were noted.
    """

    data: Path
    dictionary: Path
    label_dictionary: Path | None
    labels: tuple[str, ...]
    num_inputs: int | None
    task: str | None
    bpe: str
    bpe_files: Mapping[str, Path]
    sentence_columns: tuple[str, ...] = ()


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the first of ``CHECKPOINTS`` in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is an ONNX model.
    """
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such checkpoint")
        if path.suffix == _ONNX:
            raise ValueError(f"{path} is an ONNX model, which scl-predict alone takes")
        return path
    for name in CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    if any(path.glob("*" + _ONNX)):
        raise ValueError(f"{path} holds ONNX models, which scl-predict alone takes")
    raise FileNotFoundError(f"{path} holds no {', '.join(CHECKPOINTS[:-1])} or {CHECKPOINTS[-1]}")


def find(
    checkpoint: Path,
    own: Description,
    settings: Settings,
    data_dir: Path | None = None,
    bpe: str | None = None,
    bpe_dir: Path | None = None,
) -> TextFiles:
    """Find what a checkpoint needs: as told, or next to it, or in the data that it names.

    Args:
        checkpoint: a file.
        own: what it says itself of its texts; empty where an earlier version has written it.
        settings: fairseq's options in it: ``task``, ``criterion`` and ``bpe``.
        data_dir: binarised data with the dictionaries of the training.
        bpe: one of ``BPES``.
        bpe_dir: its files.

    Raises:
        FileNotFoundError: something is missing; the message names the option that supplies it.
        ValueError: the checkpoint is of another task; a file is not its own, or damaged.
    """
    task = settings["task"]
    name = task.get("_name") or task.get("task")
    if name not in DICTIONARIES:
        raise ValueError(
            f"{checkpoint} is of the task {name}, expected one of {', '.join(DICTIONARIES)}"
        )
    for option, folder in (("--data-dir", data_dir), ("--bpe-dir", bpe_dir)):
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"{option} {folder} is no folder")
    beside = checkpoint.parent
    own = own or read_description(beside / TEXT)
    folders = [data_dir] if data_dir else [beside, *_trained_on(task)]
    dictionary = _find_dictionary(checkpoint, folders, DICTIONARIES[name], bpe_dir)
    folder = dictionary.parent.parent if dictionary.parent.name == "input0" else dictionary.parent
    check_file(DICTIONARY, dictionary, own, checkpoint)
    prepared = read_description(folder / REPORT)
    noted = [own.get("bpe"), prepared.get("bpe")]
    bpe, files = _find_bpe(checkpoint, folders, noted, settings.get("bpe", {}), bpe, bpe_dir)
    for file, path in files.items():
        check_file(file, path, own, checkpoint)
    labels, label_dictionary = (), None
    if name == CLASSIFIER and not is_regression(settings):
        labels = tuple(own.get("labels") or ())
        if (folder / LABELS).is_file():
            label_dictionary = folder / LABELS
            check_file(LABELS, label_dictionary, own, checkpoint)
            labels = tuple(label_names(label_dictionary))
    return TextFiles(
        data=dictionary.parent if name == ENCODER else folder,
        dictionary=dictionary,
        label_dictionary=label_dictionary,
        labels=labels,
        num_inputs=_num_inputs(folder, own) if name == CLASSIFIER else None,
        task=own.get("task") or prepared.get("task"),
        bpe=bpe,
        bpe_files=files,
        sentence_columns=tuple(
            own.get("sentence_columns") or prepared.get("sentence_columns") or ()
        ),
    )


def named_by_options(options: Mapping[str, Any]) -> tuple[str | None, dict[str, Path]]:
    """The BPE that a training's own ``--bpe`` options name, where its files are there."""
    bpe = options.get("_name") or options.get("bpe")  # of older checkpoints
    bpe = GPT2 if bpe == ADJUSTED_GPT2 else bpe
    files = {
        name: Path(str(options.get(option))) for option, name in BPE_OPTIONS.get(bpe, {}).items()
    }
    if not files or not all(path.is_file() for path in files.values()):
        return None, {}
    beside = next(iter(files.values())).with_name(BESIDE_VOCABULARY)
    if bpe in WITH_SETTINGS and beside.is_file():
        files[BESIDE_VOCABULARY] = beside
    return bpe, files


def _trained_on(task: Mapping[str, Any]) -> list[Path]:
    folder = task.get("data")
    return [] if folder in (None, "???") else [Path(folder)]


def is_regression(settings: Settings) -> bool:
    """Whether a training's outputs are scores, not classes."""
    return any(settings.get(group, {}).get("regression_target") for group in ("task", "criterion"))


def _find_dictionary(
    checkpoint: Path, folders: list[Path], names: tuple[str, ...], bpe_dir: Path | None
) -> Path:
    paths = [folder / name for folder in folders for name in names]
    paths += [folder / DICTIONARY for folder in (*folders, *([bpe_dir] if bpe_dir else []))]
    for path in paths:
        if path.is_file():
            return path
    lacking = f"{' and '.join(map(str, folders))} lack{'s' * (len(folders) == 1)} {names[0]}"
    raise FileNotFoundError(
        f"{lacking}; --data-dir names the data that {checkpoint} was trained on"
    )


def _find_bpe(
    checkpoint: Path,
    folders: list[Path],
    noted: list[str | None],
    options: Mapping[str, Any],
    bpe: str | None,
    bpe_dir: Path | None,
) -> tuple[str, Mapping[str, Path]]:
    if bpe is not None and bpe not in BPES:
        raise ValueError(f"--bpe {bpe}, expected one of {', '.join(BPES)}")
    named, files = named_by_options(options)
    name = next((one for one in ([bpe] if bpe else [*noted, named]) if one in BPES), None)
    places = [checkpoint.parent, *(place for one in folders for place in (one / BPE_DIR, one))]
    places = [bpe_dir] if bpe_dir else list(dict.fromkeys(places))
    found = _first(places, name)
    if found is None and bpe_dir is None and name in (None, named) and files:
        found = named, files
    if found is None:
        needed = f": {', '.join(needed_files(name))}" if name else ""
        raise FileNotFoundError(
            f"{checkpoint}: no BPE files in {' or '.join(map(str, places))}{needed}; --bpe and "
            "--bpe-dir name them"
        )
    return found


def _first(folders: Iterable[Path], bpe: str | None) -> tuple[str, Mapping[str, Path]] | None:
    for folder in folders:
        name = guess_bpe(folder) if bpe is None else bpe
        if name and has_files(name, folder):
            return name, find_files(name, folder)
    return None


def _num_inputs(data: Path, own: Description) -> int:
    # Of a classifier that came from elsewhere it may not be known.
    return own["num_inputs"] if "num_inputs" in own else 1 + (data / "input1").is_dir()
