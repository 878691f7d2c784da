"""torch and fairseq, which pip does not bring along: what to say where one of them is missing.

fairseq's fork asks for torchaudio and is built apart from what is installed, so that pip fetches
torch with CUDA for it, twice. They are therefore installed by hand; README.md has the lines.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

# setup.py reads these two as well.
STOCK = "fairseq==0.12.2"  # below Python 3.11
FORK = "fairseq-fixed==0.12.3.1"
TORCH_LINE = "pip install torch"
_MORE = "(README.md says under Installing what has to be there before)"
_PACKAGE = __name__.partition(".")[0]
_BAD_INPUT = 2


def require() -> None:
    """Refuse to go on without torch and fairseq, before seconds are spent on importing anything.

    Raises:
        ModuleNotFoundError: one of them is missing; the message is one sentence with the lines that
            install it.
        SystemExit: the same in a command, which has printed the sentence; exit code 2.
    """
    message = missing()
    if message is None:
        return
    command = _command()
    if command is None:
        raise ModuleNotFoundError(message)
    print(f"{command}: error: {message}", file=sys.stderr)
    raise SystemExit(_BAD_INPUT)


def missing() -> str | None:
    """What is missing and the lines that install it; None where all is there."""
    folders = {name: _folder(name) for name in ("torch", "fairseq")}
    names = [name for name, folder in folders.items() if folder is None]
    if names:
        lines = {"torch": TORCH_LINE, "fairseq": fairseq_line()}
        told = " and then ".join(f"'{lines[name]}'" for name in names)
        verb = "is" if len(names) == 1 else "are"
        return f"{' and '.join(names)} {verb} not installed: {told} {_MORE}"
    if sys.version_info >= (3, 11) and _version(folders["fairseq"]) == STOCK.split("==")[1]:
        return (
            f"{STOCK} does not run on Python 3.11 and later: 'pip uninstall fairseq' and then "
            f"'{fairseq_line()}' {_MORE}"
        )
    return None


def fairseq_line() -> str:
    """What installs the fairseq that suits this Python."""
    if sys.version_info < (3, 11):
        return f"pip install --no-deps {STOCK}"
    return f"pip install --no-deps --no-build-isolation {FORK}"


def _folder(name: str) -> Path | None:
    if name in sys.modules:
        return Path(sys.modules[name].__file__).parent
    spec = importlib.util.find_spec(name)
    # A folder without code of its own, such as a clone of fairseq, is found too.
    return Path(spec.origin).parent if spec and spec.origin else None


def _version(package: Path) -> str | None:
    try:
        source = (package / "version.py").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r'^__version__ = "(.+?)"', source, re.MULTILINE)
    return found and found[1]


def _command() -> str | None:
    """The name of the command that is running, if it is one of this package."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name.startswith("scl-"):
        return name
    if name != "-m":  # what it is while the package of `python -m package.module` is imported
        return None
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else ""
    return module if module.partition(".")[0] == _PACKAGE else None
