"""What a SentencePiece model file says of its pieces and of its normalisation."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Numbers of sentencepiece_model.proto, which is not read by its own classes: they need protobuf.
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
UNIGRAM = 1
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE, _SUFFIX, _BYTE_FALLBACK = 3, 24, 35
_CHARSMAP, _DUMMY_PREFIX, _EXTRA_WHITESPACES, _ESCAPE = 2, 3, 4, 5


@dataclass(frozen=True)
class SentencePieceModel:
    """A model's contents.

    Attributes:
        pieces: (spelling, score, type) of each piece, in the order of its ids.
        is_unigram: whether it splits by probability, not by merges.
        charsmap: the compiled table of replaced characters; empty: characters stay.
        adds_prefix: a text begins with a space mark.
        removes_spaces: spaces at the ends and beside others go.
        escapes_spaces: spaces become ``▁``.
        has_byte_fallback: unknown characters become their bytes.
        marks_ends: the space mark follows a word.
    """

    pieces: tuple[tuple[str, float, int], ...]
    is_unigram: bool
    charsmap: bytes
    adds_prefix: bool
    removes_spaces: bool
    escapes_spaces: bool
    has_byte_fallback: bool
    marks_ends: bool


def read_sentence_piece(path: Path) -> SentencePieceModel:
    """Read a ``.model`` file.

    Raises:
        ValueError: it is none.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        fields = list(_fields(data))
        pieces = tuple(_piece(value) for number, value in fields if number == _PIECES)
        trainer = dict(_fields(_last(fields, _TRAINER, b"")))
        normalizer = dict(_fields(_last(fields, _NORMALIZER, b"")))
    except (IndexError, TypeError, UnicodeDecodeError, ValueError, struct.error) as error:
        raise ValueError(f"{path} is not a SentencePiece model") from error
    if not pieces:
        raise ValueError(f"{path} is not a SentencePiece model")
    return SentencePieceModel(
        pieces=pieces,
        is_unigram=trainer.get(_MODEL_TYPE, UNIGRAM) == UNIGRAM,
        charsmap=normalizer.get(_CHARSMAP, b""),
        adds_prefix=bool(normalizer.get(_DUMMY_PREFIX, True)),
        removes_spaces=bool(normalizer.get(_EXTRA_WHITESPACES, True)),
        escapes_spaces=bool(normalizer.get(_ESCAPE, True)),
        has_byte_fallback=bool(trainer.get(_BYTE_FALLBACK, False)),
        marks_ends=bool(trainer.get(_SUFFIX, False)),
    )


def _piece(message: bytes) -> tuple[str, float, int]:
    fields = dict(_fields(message))
    score = struct.unpack("<f", fields[_SCORE])[0] if _SCORE in fields else 0.0
    return fields.get(_PIECE, b"").decode("utf-8"), score, fields.get(_TYPE, NORMAL)


def _last(fields: list[tuple[int, Any]], number: int, default: Any) -> Any:
    return next((value for found, value in reversed(fields) if found == number), default)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of a protobuf message: integers as int, everything else as bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(message):
            raise ValueError("truncated")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
