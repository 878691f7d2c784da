"""Which texts weights belong to: ``text.json`` beside checkpoints, and the same inside each.

It has the label names, the encoding and the task, and under ``sha256`` what the files were: those
that lie beside a checkpoint later can be told from another's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scl_fairseq.files import file_sha256, read_json, write_text
from scl_fairseq.text.dictionary import label_names, read_dictionary

TEXT = "text.json"  # beside checkpoints
REPORT = "preprocess.json"  # in a folder of binarised data
DICTIONARY = "dict.txt"  # in a folder of checkpoints, and in a --bpe-dir
INPUT = "input0/dict.txt"  # in both
LABELS = "label/dict.txt"  # in a folder of checkpoints, and in one of binarised data

Description = Mapping[str, Any]


def read_description(path: Path) -> dict[str, Any]:
    """Contents of a ``text.json`` or ``preprocess.json``; nothing where there is none.

    Raises:
        ValueError: it is damaged; the message names the file.
    """
    if not path.is_file():
        return {}
    found = read_json(path)
    for name, is_right in _RIGHT.items():
        if found.get(name) is not None and not is_right(found[name]):
            raise ValueError(f"{path} is damaged: {name} cannot be {str(found[name])[:80]!r}")
    return found


def write_description(folder: Path, about: Description) -> None:
    """Write ``text.json``, whole or not at all."""
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / TEXT, text + "\n")


def describe_beside(folder: Path) -> dict[str, Any]:
    """What a folder says of its checkpoints, or of its data, also one of an earlier version.

    Raises:
        ValueError: a file of it is damaged.
    """
    found = read_description(folder / TEXT)
    paths = {DICTIONARY: folder / DICTIONARY, LABELS: folder / LABELS}
    if not paths[DICTIONARY].is_file():
        paths[DICTIONARY] = folder / INPUT
    paths = {name: path for name, path in paths.items() if path.is_file()}
    found.setdefault("sha256", {name: fingerprint(path) for name, path in paths.items()})
    if LABELS in paths:
        found.setdefault("labels", label_names(paths[LABELS]))
    return found


def fingerprint(path: Path) -> str:
    """SHA-256 of a file; of a dictionary that of its symbols, all that a model knows of it.

    Raises:
        ValueError: it should be a dictionary, and is none.
    """
    return read_dictionary(path).sha256 if path.name == DICTIONARY else file_sha256(path)


def check_file(name: str, path: Path, own: Description, checkpoint: Path) -> None:
    """Refuse a file that is not the checkpoint's own, where that is known.

    Args:
        name: of the file, in the description.
        path: the one that was found.
        own: the checkpoint's description.
        checkpoint: for the message.

    Raises:
        ValueError: it is another.
    """
    expected = (own.get("sha256") or {}).get(name)
    if expected is None or fingerprint(path) == expected:
        return
    found = f"{path} is not the {name} that {checkpoint} was trained with"
    if name == LABELS and own.get("labels"):
        there, trained = label_names(path), own["labels"]
        raise ValueError(f"{found}: it has the labels {_listed(there)}, not {_listed(trained)}")
    what = "its symbols are others" if path.name == DICTIONARY else "its content is another"
    raise ValueError(f"{found}: {what}")


def difference(own: Description, other: Description, with_labels: bool = True) -> str | None:
    """In what two descriptions differ, as far as both say it: ``the labels a, b, not b, a``.

    Args:
        own: whose values are named first.
        other: named second.
        with_labels: compare labels and task too, not the dictionary alone.
    """
    if with_labels:
        for key, what in _COMPARED.items():
            first, second = own.get(key), other.get(key)
            if first is not None and second is not None and first != second:
                return f"the {what} {_listed(first)}, not {_listed(second)}"
    hashes, others = own.get("sha256") or {}, other.get("sha256") or {}
    names = [name for name in hashes if with_labels or name == DICTIONARY]
    different = [name for name in names if name in others and hashes[name] != others[name]]
    return f"another {different[0]}" if different else None


_COMPARED = {"labels": "labels", "task": "task", "num_inputs": "number of sentences a row"}


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_RIGHT = {
    "task": _is_name,
    "labels": _is_texts,
    "sentence_columns": _is_texts,
    "num_inputs": lambda value: value in (1, 2, 3) and not isinstance(value, bool),
    "bpe": _is_name,
    "sha256": lambda value: isinstance(value, dict) and _is_texts(list(value.values())),
}
