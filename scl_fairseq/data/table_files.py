"""Names of the files of one's own: tables that say their kind, beside fairseq's text files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scl_fairseq.data.streams import PACKED

TSV, CSV, JSONL, ALIGNED = "tsv", "csv", "jsonl", "lines"
KINDS = (TSV, CSV, JSONL)
FIRST_INPUT = "input0"
EXPECTED = f".{TSV}, .{CSV} or .{JSONL} (or one of them with {PACKED})"
_OTHER_NAMES = {"dev": ("valid", "validation", "val", "eval", "development")}


def kind_of(path: Path) -> str | None:
    """``tsv``, ``csv`` or ``jsonl`` by the file's name, or None."""
    name = path.name.casefold().removesuffix(PACKED)
    return next((kind for kind in KINDS if name.endswith(f".{kind}")), None)


def find_table(folder: Path, split: str) -> Path | None:
    """The file of a split: a table, or the first of fairseq's line-aligned files.

    Raises:
        ValueError: there are several.
    """
    names = [f"{split}.{kind}{packed}" for kind in KINDS for packed in ("", PACKED)]
    names.append(f"{split}.{FIRST_INPUT}")
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        several = " and ".join(path.name for path in found)
        raise ValueError(f"{folder} has {several}, expected one file for {split}")
    return found[0] if found else None


def tell_others(folder: Path, names: Iterable[str]) -> str:
    """What lies there under another ending or name than was looked for; empty where nothing does.

    Args:
        folder: where it was looked for.
        names: of the files that were looked for.
    """
    stems = {name.split(".")[0].casefold() for name in names}
    stems.update(other for stem in tuple(stems) for other in _OTHER_NAMES.get(stem, ()))
    found = sorted(
        path.name
        for path in folder.iterdir()
        if path.name.split(".")[0].casefold() in stems and path.name not in names
    )
    return f", but {', '.join(found)}" if found else ""
