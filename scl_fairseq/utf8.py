"""UTF-8 in and out, whatever the locale says.

A locale decides how Python reads arguments and file names, and what its streams and those of the
processes that it starts write. In one without a label's characters that would lose them, and two
labels could become one.
"""

from __future__ import annotations

import codecs
import os
import sys

# What makes a Python that is started speak UTF-8.
VARIABLES = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
_RESTARTED = "SCL_FAIRSEQ_RESTARTED"
_ERRORS = "scl_fairseq.bytes_or_escape"


def environment() -> dict[str, str]:
    """The environment for Python processes, which then speak UTF-8."""
    return {**os.environ, **VARIABLES}


def begin_command() -> None:
    """Make this process, which a command has to itself, speak UTF-8 with all that it starts.

    Arguments and file names were decoded before any code of ours: where that was not as UTF-8, the
    process begins again, as Python's UTF-8 mode has it.
    """
    is_utf8 = codecs.lookup(sys.getfilesystemencoding()).name == "utf-8"
    if not is_utf8 and sys.executable and _RESTARTED not in os.environ:
        words = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, words, {**environment(), _RESTARTED: "1"})
    os.environ.pop(_RESTARTED, None)
    if "PYTHONIOENCODING" in os.environ:
        os.environ.update(VARIABLES)
    print_utf8()


def print_utf8() -> None:
    r"""Have what is printed be UTF-8 with ``\n`` line ends; no text makes printing fail."""
    codecs.register_error(_ERRORS, _bytes_or_escape)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors=_ERRORS, newline="\n")


def _bytes_or_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """A file name that is no UTF-8 is printed as its own bytes, anything else is escaped."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
