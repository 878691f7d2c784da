"""``fairseq-train`` lines as one would type them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import scl_fairseq


def fairseq_train() -> str:
    """The ``fairseq-train`` of this environment, as one would type it."""
    return short_path(Path(sys.executable).parent / "fairseq-train")


def user_dir() -> str:
    """What to pass as ``--user-dir``, whether this runs from a clone or installed."""
    return short_path(Path(scl_fairseq.__file__).parent)


def short_path(path: Path) -> str:
    """``path`` relative to the current folder where it lies below, otherwise absolute."""
    # absolute, not resolve: an environment's python is a link that must not be followed.
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def as_arguments(options: Mapping[str, object]) -> list[str]:
    """Options of ``fairseq-train`` by name: True is a flag, False and None leave one out."""
    found = []
    for name, value in options.items():
        if value is True:
            found.append(f"--{name}")
        elif value is not None and value is not False:
            found += [f"--{name}", str(value)]
    return found
