"""A model as the bytes of its files, which are pickled, written and read again."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

from scl_fairseq.text.assets import find_checkpoint

ABOUT = "classifier.json"
_NOT_OF_MODEL = ("data", "train.json", "train.log", ".lock")


def packed(folder: Path) -> dict[str, bytes]:
    """The files of a model, by name."""
    checkpoint = find_checkpoint(folder)
    found = {checkpoint.name: checkpoint.read_bytes()}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and path.suffix != ".pt" and name.parts[0] not in _NOT_OF_MODEL:
            found[name.as_posix()] = path.read_bytes()
    found.pop(ABOUT, None)
    return found


def unpack(files: dict[str, bytes], folder: Path) -> None:
    """Write them into a folder again."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within it fairseq may log and set up logging; outside all is as it was."""
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers, level = list(root.handlers), root.level
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
