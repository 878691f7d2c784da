"""Starting Python processes that import what this one imports."""

from __future__ import annotations

import os
import sys


def python_code(statement: str) -> str:
    """A program for ``python -c`` that looks for modules where this process does, then goes on.

    A Python that is started by ``-m`` or ``-c`` looks in the current folder first. In a clone that
    is another copy of this package, where it is installed.
    """
    paths = [os.path.abspath(entry) for entry in sys.path]  # "" is the current folder
    return f"import sys; sys.path[:] = {paths!r}; {statement}"
