"""Texts and labels as Python has them: lists, NumPy, pandas, data sets; checked row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scl_fairseq.files import write_text
from scl_fairseq.training.tables import TableSettings

TEXTS = ("text1", "text2")
LABEL = "label"
Pair = tuple[str, ...]


def texts_of(texts: Any, what: str = "texts", num_inputs: int | None = None) -> list[Pair]:
    """Each text, or pair of texts, as a tuple of one or two strings.

    Args:
        texts: an iterable of strings or pairs; a table of one or two columns.
        what: for messages.
        num_inputs: texts of an example; None: as the first one has.

    Raises:
        ValueError: a row is missing, empty or something else; the message has its number, from 0.
        TypeError: it is one string, or nothing that can be gone through.
    """
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise TypeError(f"{what}: expected a list of texts, not one {type(texts).__name__}")
    rows = _rows_of(texts)
    found = [_row(what, place, row) for place, row in enumerate(rows)]
    expected = num_inputs or (len(found[0]) if found else 1)
    for place, row in enumerate(found):
        if len(row) != expected:
            raise ValueError(
                f"{what}[{place}]: {len(row)} texts, and {expected} in "
                f"{'the training' if num_inputs else 'the first row'}"
            )
    return found


def labels_of(labels: Any, size: int) -> np.ndarray:
    """Labels as an array of their own type, (N,).

    Raises:
        ValueError: there are fewer or more than texts, or one is missing; the message has its row.
    """
    values = _array(labels)
    if values.ndim != 1:
        raise ValueError(f"labels: expected one label a text, got the shape {values.shape}")
    if len(values) != size:
        raise ValueError(f"{size} texts and {len(values)} labels; expected a label for each text")
    for place, value in enumerate(values.tolist()):
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            raise ValueError(f"labels[{place}]: no label ({value!r}); label the row, or drop it")
    return values


def classes_of(labels: np.ndarray) -> np.ndarray:
    """The distinct labels, sorted.

    Raises:
        ValueError: there are fewer than two.
    """
    try:
        found = np.unique(labels)
    except TypeError:  # of several types, which have no order
        distinct = list(dict.fromkeys(labels.tolist()))
        found = np.empty(len(distinct), object)
        found[:] = sorted(distinct, key=lambda one: (type(one).__name__, repr(one)))
    if len(found) < 2:
        raise ValueError(
            f"one class alone ({found.tolist()[0]!r}); a classifier needs two or more classes"
        )
    return found


def indices_of(labels: np.ndarray, classes: np.ndarray) -> list[int]:
    """The place of each label among the classes.

    Raises:
        ValueError: one is not among them.
    """
    place_of = {value: place for place, value in enumerate(classes.tolist())}
    found = []
    for place, value in enumerate(labels.tolist()):
        if value not in place_of:
            raise ValueError(f"labels[{place}]: {value!r} is none of the classes of training")
        found.append(place_of[value])
    return found


def names_of(classes: np.ndarray) -> list[str]:
    """A name of each class that fairseq's dictionaries can hold: what it is printed as, or its
    number.
    """
    names = [str(value) for value in classes.tolist()]
    try:
        TableSettings(TEXTS[:1], LABEL).task(names)
    except ValueError:
        return [f"class{place}" for place in range(len(classes))]
    return names


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def write_rows(path: Path, rows: Sequence[Pair], labels: Sequence[str]) -> None:
    """JSON lines of texts and labels."""
    lines = (
        json.dumps(
            {LABEL: label, **dict(zip(TEXTS, row, strict=False))},
            ensure_ascii=False,
            allow_nan=False,
        )
        for row, label in zip(rows, labels, strict=True)
    )
    write_text(path, "".join(f"{line}\n" for line in lines))


def _rows_of(texts: Any) -> Iterable[Any]:
    if hasattr(texts, "itertuples"):  # a table of pandas', whose own rows are names of columns
        return [row if len(row) > 1 else row[0] for row in texts.itertuples(index=False, name=None)]
    if isinstance(texts, np.ndarray) and texts.ndim == 2 and texts.shape[1] == 1:
        return texts[:, 0].tolist()
    return texts.tolist() if isinstance(texts, np.ndarray) else texts


def _row(what: str, place: int, row: Any) -> Pair:
    parts = (row,) if isinstance(row, str) or is_missing(row) else row
    if not isinstance(parts, (tuple, list)) or not 1 <= len(parts) <= 2:
        raise ValueError(
            f"{what}[{place}]: {type(row).__name__}, expected a text, or two of them for a pair"
        )
    for part in parts:
        if is_missing(part):
            raise ValueError(f"{what}[{place}]: no text ({part!r}); fill it, or drop the row")
        if not isinstance(part, str):
            raise ValueError(f"{what}[{place}]: {part!r} is no text but {type(part).__name__}")
        if not part.strip():
            raise ValueError(f"{what}[{place}]: an empty text; fill it, or drop the row")
        if "\0" in part or any(0xD800 <= ord(sign) <= 0xDFFF for sign in part):
            raise ValueError(f"{what}[{place}]: a NUL, or half of a surrogate pair; take it out")
    return tuple(str(part) for part in parts)


def _array(labels: Any) -> np.ndarray:
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise TypeError(f"labels: expected a list of labels, not one {type(labels).__name__}")
    if hasattr(labels, "to_numpy"):
        return labels.to_numpy()
    if isinstance(labels, np.ndarray):
        return labels
    listed = list(labels)
    kinds = {type(value) for value in listed}
    if len(kinds) == 1 and kinds <= {str, int, float, bool}:
        return np.array(listed)
    found = np.empty(len(listed), object)  # no type is made another: 1 and "1" stay two
    found[:] = listed
    return found
