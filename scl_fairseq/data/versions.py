"""Versions of what a result depends on."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("tokenizers", "sentencepiece", "fastBPE", "numpy")


def installed() -> dict[str, str]:
    """Of this package, Python and the libraries that encode; what is not installed is left out."""
    from scl_fairseq import __version__

    found = {"scl-fairseq": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
