"""What can happen to a file: cut, mixed up, of another encoding, or another file altogether."""

import random
from pathlib import Path


def corrupt(path: Path, rng: random.Random, others: list[Path]) -> str:
    """Spoil a file in one of many ways; returns which.

    Args:
        path: the file; there may be a folder in its place afterwards, or nothing but an empty file.
        rng: chooses.
        others: files that may take its place.
    """
    data = path.read_bytes()
    lines = data.splitlines(keepends=True) or [b""]
    at, line = rng.randrange(len(data) + 1), rng.randrange(len(lines))
    kind = rng.choice(list(_KINDS))
    if kind == "another file":
        other = rng.choice(others)
        path.write_bytes(other.read_bytes())
        return f"{kind}, {other.name}"
    path.write_bytes(_KINDS[kind](data, at, lines, line, rng))
    return f"{kind}, byte {at}, line {line + 1}"


def _swap(data, at, lines, line, rng):
    other = rng.randrange(len(lines))
    lines[line], lines[other] = lines[other], lines[line]
    return b"".join(lines)


_KINDS = {
    "truncated": lambda data, at, lines, line, rng: data[:at],
    "without its start": lambda data, at, lines, line, rng: data[at:],
    "empty": lambda data, at, lines, line, rng: b"",
    "a byte changed": lambda data, at, lines, line, rng: (
        data[: max(at - 1, 0)] + bytes([rng.randrange(256)]) + data[at:]
    ),
    "not UTF-8": lambda data, at, lines, line, rng: data[:at] + b"\xff\xfe" + data[at:],
    "UTF-16": lambda data, at, lines, line, rng: data.decode("latin-1").encode("utf-16"),
    "NUL bytes": lambda data, at, lines, line, rng: data[:at] + bytes(8) + data[at + 8 :],
    "a line less": lambda data, at, lines, line, rng: b"".join(lines[:line] + lines[line + 1 :]),
    "a line twice": lambda data, at, lines, line, rng: b"".join(lines[: line + 1] + lines[line:]),
    "two lines swapped": _swap,
    "an empty line": lambda data, at, lines, line, rng: b"".join(
        [*lines[:line], b"\n", *lines[line:]]
    ),
    "CR LF": lambda data, at, lines, line, rng: data.replace(b"\n", b"\r\n"),
    "something appended": lambda data, at, lines, line, rng: data + b"nonsense nonsense\n",
    "another file": None,
}
