"""Versions of what a result depends on."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

PACKAGES = ("tokenizers", "sentencepiece", "fastBPE", "numpy")


def installed(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of this package, Python and libraries; what is not installed is left out.

    Args:
        packages: by default those that encode.
    """
    from scl_fairseq import __version__

    found = {"scl-fairseq": __version__, "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
