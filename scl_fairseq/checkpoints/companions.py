"""What a checkpoint needs besides its weights, laid next to it while it is trained.

A folder of checkpoints then serves text without the data that it was trained on:

    checkpoint_best.pt
    input0/dict.txt  label/dict.txt     where fairseq's sentence_prediction looks below its data;
                                        sentences without labels need neither
    dict.txt  vocab.txt  …              the BPE's files, which make the folder a --bpe-dir
    text.json                           which BPE, which labels, which further tokens

Each checkpoint has what ``text.json`` says inside it too (``training_state``), with the hashes of
these files. ``own_texts`` sees to it that they are of all checkpoints in their folder.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints import own_texts
from scl_fairseq.configuration import as_dict
from scl_fairseq.files import write_bytes
from scl_fairseq.text.assets import EMBEDDING, named_by_options
from scl_fairseq.text.bpe_files import BESIDE_VOCABULARY, BPE_DIR, BPE_OPTIONS
from scl_fairseq.text.description import (
    DICTIONARY,
    INPUT,
    LABELS,
    REPORT,
    TEXT,
    fingerprint,
    read_description,
    write_description,
)
from scl_fairseq.text.dictionary import label_names
from scl_fairseq.versions import installed

logger = logging.getLogger(__name__)

CRASH = "crash.pt"  # fairseq saves under this name what it crashed with
PACKAGES = ("fairseq", "fairseq-fixed", "torch", "tokenizers", "sentencepiece", "fastBPE")


def install() -> None:
    """Have every training on sentences lay them next to its checkpoints, once."""
    from fairseq.trainer import Trainer

    if getattr(Trainer.save_checkpoint, "_scl_fairseq", False):
        return
    _describe_and_check(Trainer)
    _write_at_the_first_save(Trainer)


def _describe_and_check(trainer_class: type) -> None:
    original, original_load = trainer_class.__init__, trainer_class.load_checkpoint

    @functools.wraps(original)
    def __init__(self, cfg, task, *args, **kwargs):
        self._scl_text, self._scl_files = _describe_or_warn(cfg, task)
        if self._scl_text:
            own_texts.check_folder(cfg, self._scl_text)
        original(self, cfg, task, *args, **kwargs)

    @functools.wraps(original_load)
    def load_checkpoint(self, filename, *args, **kwargs):
        if self._scl_text:
            own_texts.check_start(self.cfg, self._scl_text, Path(filename))
        return original_load(self, filename, *args, **kwargs)

    trainer_class.__init__, trainer_class.load_checkpoint = __init__, load_checkpoint


def _write_at_the_first_save(trainer_class: type) -> None:
    original = trainer_class.save_checkpoint

    @functools.wraps(original)
    def save_checkpoint(self, filename, *args, **kwargs):
        saved = original(self, filename, *args, **kwargs)
        folder, is_first = Path(filename).parent, not hasattr(self, "_scl_companions")
        if is_first and self.is_data_parallel_master and Path(filename).name != CRASH:
            self._scl_companions = folder
            if self._scl_text and folder.is_dir():  # not a remote place
                _write_or_warn(self._scl_text, self._scl_files, folder)
        return saved

    save_checkpoint._scl_fairseq = True
    trainer_class.save_checkpoint = save_checkpoint


def _describe_or_warn(cfg, task) -> tuple[dict[str, Any], dict[str, Path]]:
    from fairseq.tasks.sentence_prediction import SentencePredictionTask

    if not (isinstance(task, SentencePredictionTask) or _name(task) == EMBEDDING):
        return {}, {}
    try:
        return describe(cfg, task)
    except Exception as error:  # whatever it is, the training is worth more
        logger.warning("what text needs will not be laid next to the checkpoints: %s", error)
        return {}, {}


def _write_or_warn(about: Mapping[str, Any], files: Mapping[str, Path], folder: Path) -> None:
    try:
        write(about, files, folder)
    except Exception as error:
        logger.warning(
            "what text needs could not be written next to the checkpoints in %s: %s", folder, error
        )


def describe(cfg, task) -> tuple[dict[str, Any], dict[str, Path]]:
    """What there is to say of a training's texts, and their files by the names that these get.

    Where the data has no ``bpe`` folder, as stock ``fairseq-preprocess`` leaves it, the BPE is the
    one that the training's own ``--bpe`` options name.

    Args:
        cfg: fairseq's configuration of the training.
        task: its ``sentence_prediction`` or ``sentence_embedding`` task.

    Raises:
        ValueError: a file is damaged.
        OSError: it cannot be read.
    """
    data = Path(task.cfg.data)
    is_labelled = _name(task) != EMBEDDING
    dictionary = data / INPUT
    if not (is_labelled or dictionary.is_file()):
        dictionary = data / DICTIONARY
    files, labels = {DICTIONARY: dictionary}, []
    if is_labelled and not getattr(task.cfg, "regression_target", False):
        files[LABELS] = data / LABELS
        labels = label_names(files[LABELS])
    prepared = read_description(data / REPORT)
    bpe, bpe_files = _find_bpe(cfg, data, prepared.get("bpe"))
    files |= bpe_files
    about = {
        "task": prepared.get("task"),
        "labels": labels,
        "sentence_columns": prepared.get("sentence_columns"),
        "num_inputs": 2 if is_labelled and (data / "input1").is_dir() else 1,
        "bpe": bpe,
        "init_token": task.cfg.init_token if is_labelled else task.source_dictionary.bos(),
        "separator_token": task.cfg.separator_token if is_labelled else None,
        "max_positions": task.max_positions(),
        "sha256": {name: fingerprint(path) for name, path in files.items()},
        "versions": installed(PACKAGES),
    }
    if bpe is None:
        about["missing"] = (
            f"the BPE files: {data} has no bpe folder, and the training had no --bpe with files"
        )
    return about, {**files, **({INPUT: dictionary} if is_labelled else {})}


def write(about: Mapping[str, Any], files: Mapping[str, Path], folder: Path) -> None:
    """Write dictionaries, BPE files and ``text.json`` into a folder of checkpoints.

    Args:
        about: of :func:`describe`.
        files: of :func:`describe`.
        folder: is there already; files of an earlier training are replaced.

    Raises:
        ValueError: the folder holds other files of these names, which are left as they are.
        OSError: reading or writing failed.
    """
    _copy_all(files, folder)
    write_description(folder, about)


def _find_bpe(cfg, data: Path, prepared: str | None) -> tuple[str | None, dict[str, Path]]:
    """The BPE of the data: its name, and its files by the names that they get."""
    if prepared in BPE_OPTIONS:
        names = BPE_OPTIONS[prepared].values()
        files = {name: data / BPE_DIR / name for name in (*names, BESIDE_VOCABULARY)}
        files = {name: path for name, path in files.items() if path.is_file()}
        if all(name in files for name in names):
            return prepared, files
    return named_by_options(as_dict(getattr(cfg, "bpe", None)))


def _name(task) -> str | None:
    return as_dict(task.cfg).get("_name")


def _copy_all(sources: Mapping[str, Path], folder: Path) -> None:
    contents = {folder / name: source.read_bytes() for name, source in sources.items()}
    changed = {
        path: content
        for path, content in contents.items()
        if not path.exists() or path.read_bytes() != content
    }
    foreign = [path for path in changed if path.exists()]
    if foreign and not (folder / TEXT).exists():
        raise ValueError(f"{foreign[0]} is there already, and is another")
    for path, content in changed.items():
        write_bytes(path, content)
