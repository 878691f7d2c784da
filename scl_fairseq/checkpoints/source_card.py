"""What the folder of a Hugging Face encoder says of itself in its ``README.md``: name and licence.

It goes along in the converted checkpoint and in all that is trained from it, so that a model card
can say whose work a model stands on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

NAME, LICENCE, LANGUAGE = "name", "license", "language"  # as model cards spell them
_CARD = "README.md"
_LONGEST = 100  # characters
_LIST = re.compile(r"\n\s*-\s*")


def read_source_card(folder: Path) -> dict[str, str]:
    """Name, licence and language, as far as they are told; the name is else the folder's.

    Args:
        folder: of the encoder.
    """
    found = {NAME: folder.resolve().name}
    try:
        text = (folder / _CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return found
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    for key in (LICENCE, LANGUAGE) if front else ():
        # A word on the line, or a list below it.
        told = re.search(rf"^{key}:[ \t]*(.*(?:\n\s*-\s*.*)*)", front[1], re.MULTILINE)
        value = _plain(", ".join(filter(None, _LIST.split(told[1])))) if told else ""
        if value:
            found[key] = value
    heading = re.search(r"^# (.+)$", text[front.end() if front else 0 :], re.MULTILINE)
    if heading and _plain(heading[1]):
        found[NAME] = _plain(heading[1])
    return found


def checked(source: object) -> Mapping[str, str]:
    """What a checkpoint says of its source, as far as it is of that form."""
    if not isinstance(source, Mapping):
        return {}
    return {k: _plain(v) for k, v in source.items() if isinstance(v, str) and _plain(v)}


def _plain(text: str) -> str:
    text = " ".join(text.strip().strip("\"'").split())
    return text if len(text) <= _LONGEST and text.isprintable() else ""
