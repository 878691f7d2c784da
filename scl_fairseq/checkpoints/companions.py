"""What a checkpoint needs besides its weights, laid next to it while it is trained.

A folder of checkpoints then serves text without the data that it was trained on:

    checkpoint_best.pt
    input0/dict.txt  label/dict.txt     where fairseq's sentence_prediction looks below its data;
                                        sentences without labels need neither
    dict.txt  vocab.txt  …              the BPE's files, which make the folder a --bpe-dir
    text.json                           which BPE, which labels, which further tokens
"""

from __future__ import annotations

import functools
import json
import logging
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from scl_fairseq.files import write_bytes, write_text

logger = logging.getLogger(__name__)

TEXT = "text.json"
EMBEDDING = "sentence_embedding"  # the task of this package that has no labels
# fairseq's options for the files of each BPE, and the names that the files get.
BPE_OPTIONS = {
    "gpt2": {"gpt2_encoder_json": "encoder.json", "gpt2_vocab_bpe": "vocab.bpe"},
    "wordpiece": {"wordpiece_vocab": "vocab.txt"},
    "sentencepiece": {"sentencepiece_model": "sentencepiece.bpe.model"},
    "fastbpe": {"bpe_codes": "bpecodes"},
}
BESIDE_VOCABULARY = "tokenizer_config.json"
CRASH = "crash.pt"  # fairseq saves under this name what it crashed with
PACKAGES = ("fairseq", "fairseq-fixed", "torch", "tokenizers", "sentencepiece", "fastBPE")


def install() -> None:
    """Have every training on sentences lay them next to its checkpoints, once."""
    from fairseq.trainer import Trainer

    original = Trainer.save_checkpoint
    if getattr(original, "_scl_fairseq", False):
        return

    @functools.wraps(original)
    def save_checkpoint(self, filename, *args, **kwargs):
        saved = original(self, filename, *args, **kwargs)
        folder, is_first = Path(filename).parent, not hasattr(self, "_scl_companions")
        if is_first and self.is_data_parallel_master and Path(filename).name != CRASH:
            self._scl_companions = folder
            _write_or_warn(self.cfg, self.task, folder)
        return saved

    save_checkpoint._scl_fairseq = True
    Trainer.save_checkpoint = save_checkpoint


def _write_or_warn(cfg, task, folder: Path) -> None:
    from fairseq.tasks.sentence_prediction import SentencePredictionTask

    is_of_text = isinstance(task, SentencePredictionTask) or _name(task) == EMBEDDING
    if not (is_of_text and folder.is_dir()):  # or a remote place
        return
    try:
        write(cfg, task, folder)
    except Exception as error:  # whatever it is, the training is worth more
        logger.warning(
            "what text needs could not be written next to the checkpoints in %s: %s", folder, error
        )


def write(cfg, task, folder: Path) -> None:
    """Write dictionaries, BPE files and ``text.json`` into a folder of checkpoints.

    Where the data has no ``bpe`` folder, as stock ``fairseq-preprocess`` leaves it, the BPE is the
    one that the training's own ``--bpe`` options name.

    Args:
        cfg: fairseq's configuration of the training.
        task: its ``sentence_prediction`` or ``sentence_embedding`` task.
        folder: is there already; files of an earlier training are replaced.

    Raises:
        ValueError: the folder holds other files of these names, which are left as they are.
        OSError: reading or writing failed.
    """
    data = Path(task.cfg.data)
    is_labelled = _name(task) != EMBEDDING
    dictionary = data / "input0" / "dict.txt"
    if not (is_labelled or dictionary.is_file()):
        dictionary = data / "dict.txt"
    sources = {"dict.txt": dictionary}
    if is_labelled:
        sources["input0/dict.txt"] = dictionary
    labels = []
    if is_labelled and not getattr(task.cfg, "regression_target", False):
        sources["label/dict.txt"] = data / "label" / "dict.txt"
        labels = label_names(sources["label/dict.txt"])
    prepared = read_description(data / "preprocess.json")
    bpe, files = _find_bpe(cfg, data, prepared.get("bpe"))
    about = {
        "task": prepared.get("task"),
        "labels": labels,
        "num_inputs": 2 if is_labelled and (data / "input1").is_dir() else 1,
        "bpe": bpe,
        "init_token": task.cfg.init_token if is_labelled else task.source_dictionary.bos(),
        "separator_token": task.cfg.separator_token if is_labelled else None,
        "max_positions": task.max_positions(),
        "versions": _versions(),
    }
    if bpe is None:
        about["missing"] = (
            f"the BPE files: {data} has no bpe folder, and the training had no --bpe with files"
        )
    _copy_all({**sources, **files}, folder)
    write_text(folder / TEXT, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def read_description(path: Path) -> dict[str, Any]:
    """Contents of a ``text.json`` or ``preprocess.json``; nothing where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def label_names(path: Path) -> list[str]:
    """Labels of a ``label/dict.txt`` in the order of a classifier's outputs."""
    lines = path.read_text("utf-8").splitlines()
    # fairseq-preprocess pads dictionaries with words of its own.
    return [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("madeupword")]


def _find_bpe(cfg, data: Path, prepared: str | None) -> tuple[str | None, dict[str, Path]]:
    """The BPE of the data: its name, and its files by the names that they get."""
    if prepared in BPE_OPTIONS:
        names = BPE_OPTIONS[prepared].values()
        files = {name: data / "bpe" / name for name in (*names, BESIDE_VOCABULARY)}
        files = {name: path for name, path in files.items() if path.is_file()}
        if all(name in files for name in names):
            return prepared, files
    return named_by_options(cfg)


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


def _name(task) -> str | None:
    return as_dict(task.cfg).get("_name")


def as_dict(cfg) -> dict[str, Any]:
    """A part of fairseq's configuration, in which a value that was never set does not raise."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(cfg):
        return OmegaConf.to_container(cfg)
    return vars(cfg) if hasattr(cfg, "__dict__") else {}


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


def _versions() -> dict[str, str]:
    from scl_fairseq import __version__

    found = {"scl-fairseq": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
