"""What a worker of ``scl-preprocess`` does with a block of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scl_fairseq.data.binarize import join
from scl_fairseq.data.blocks import Block
from scl_fairseq.data.choices import DROP, ERROR, TRUNCATE
from scl_fairseq.data.records import Records, fingerprints, parse
from scl_fairseq.text.choices import has_separator
from scl_fairseq.text.dictionary import EOS, SPECIAL_SYMBOLS, UNK
from scl_fairseq.text.encodings import Encoder, load_encoder
from scl_fairseq.text.truncation import positions, shortened


@dataclass(frozen=True)
class Settings:
    """How rows become bytes.

    Attributes:
        bpe, bpe_dir: the encoding and its files.
        max_positions: positions of the model.
        on_long: what to do with rows that need more.
    """

    bpe: str
    bpe_dir: Path
    max_positions: int = 512
    on_long: str = TRUNCATE

    @property
    def has_separator(self) -> bool:
        """Whether training puts one before the second text."""
        return has_separator(self.bpe)


@dataclass(frozen=True)
class Job:
    """A block, and which of its rows go to the second of its source's outputs.

    Attributes:
        set_aside: row numbers in the file, ascending.
    """

    source: int
    block: Block
    set_aside: np.ndarray


@dataclass
class Part:
    """Bytes for one output.

    Attributes:
        inputs: indices and lengths for each text.
        labels: label indices, (rows,); None where there are none.
        ids: row ids, (rows,).
        texts: numbers that tell the rows' texts apart, (rows,); none of official files.
        longest: most positions of a row, 0 without rows.
        unknown: how many symbols the dictionary lacks.
    """

    inputs: list[tuple[bytes, np.ndarray]]
    labels: np.ndarray | None
    ids: np.ndarray
    texts: np.ndarray
    rows: int
    longest: int
    unknown: int


@dataclass
class Encoded:
    """A block's part of each output, and what was special about its rows."""

    source: int
    parts: list[Part]
    seen: Records
    long: list[int] = field(default_factory=list)


def make_state(settings: Settings) -> tuple[Settings, Encoder]:
    """What a worker keeps between blocks."""
    return settings, load_encoder(settings.bpe, settings.bpe_dir)


def encode_block(state: tuple[Settings, Encoder], job: Job) -> Encoded:
    """Encode a block.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    settings, encoder = state
    itemsize = encoder.dictionary.dtype.itemsize
    records = parse(job.block)
    texts = [encoder.encode(column) for column in zip(*records.sentences, strict=True)]
    texts = texts or [[] for _ in range(job.block.source.num_inputs)]  # all rows were dropped
    done = Encoded(job.source, [], records.peculiarities())
    kept = _fit(settings, job, records, texts, itemsize, done)
    aside = np.isin(np.asarray(records.rows, np.int64)[kept], job.set_aside, assume_unique=True)
    for mask in (~aside, aside):
        done.parts.append(_part(settings, encoder, job, records, texts, kept[mask]))
    return done


def _fit(
    settings: Settings,
    job: Job,
    records: Records,
    texts: list[list[bytes]],
    itemsize: int,
    done: Encoded,
) -> np.ndarray:
    """Shorten long rows in place, or leave them out; returns the places of the rows that stay."""
    long: set[int] = set()
    for columns in _together(job, texts):
        long.update(_shorten(settings, job, records, columns, itemsize))
    done.long = [records.lines[place] for place in sorted(long)]
    kept = np.ones(len(records.rows), bool)
    if settings.on_long == DROP:
        kept[list(long)] = False
    return np.flatnonzero(kept)


def _together(job: Job, texts: list[Any]) -> list[list[Any]]:
    """The columns, in groups that are one example to the model."""
    return [texts] if job.block.source.is_joined else [[column] for column in texts]


def _shorten(
    settings: Settings, job: Job, records: Records, texts: list[list[bytes]], itemsize: int
) -> list[int]:
    """Shorten rows of an example's columns in place; returns the places of the long ones."""
    fixed = positions([0] * len(texts), settings.has_separator)
    totals = np.full(len(records.rows), fixed, np.int64)
    for column in texts:
        totals += np.fromiter(map(len, column), np.int64, len(column)) // itemsize
    long = np.flatnonzero(totals > settings.max_positions).tolist()
    for place in long:
        if settings.on_long == ERROR:
            raise ValueError(
                f"{job.block.source.path}:{records.lines[place]}: {totals[place]} positions, "
                f"expected at most {settings.max_positions} (--max-positions); --on-long truncate "
                "or drop accepts the row"
            )
        whole = [column[place] for column in texts]
        excess = int(totals[place]) - settings.max_positions
        for column, text in zip(texts, shortened(whole, excess, itemsize), strict=True):
            column[place] = text
    return long


def _part(
    settings: Settings,
    encoder: Encoder,
    job: Job,
    records: Records,
    texts: list[list[bytes]],
    places: np.ndarray,
) -> Part:
    dtype = encoder.dictionary.dtype
    everything = len(places) == len(records.rows)
    chosen = places.tolist()
    inputs = [
        join(column if everything else [column[place] for place in chosen], dtype.itemsize)
        for column in texts
    ]
    examples = _together(job, [part[1] for part in inputs]) if chosen else []
    longest = (positions(np.stack(group), settings.has_separator).max() for group in examples)
    return Part(
        inputs=inputs,
        labels=np.asarray(records.labels, np.int64)[places] if records.labels else None,
        ids=np.asarray(records.ids, np.int64)[places],
        texts=fingerprints(
            [records.sentences[place] for place in chosen] if job.block.source.is_compared else ()
        ),
        rows=len(chosen),
        longest=int(max(longest, default=0)),
        unknown=sum(int((np.frombuffer(part[0], dtype) == UNK).sum()) for part in inputs),
    )


def label_bytes(labels: Sequence[int] | np.ndarray, dtype: np.dtype) -> tuple[bytes, np.ndarray]:
    """Labels as fairseq stores them: the index in the label dictionary, then ``</s>``."""
    rows = np.full((len(labels), 2), EOS, dtype)
    rows[:, 0] = np.asarray(labels) + len(SPECIAL_SYMBOLS)
    return rows.tobytes(), np.full(len(labels), 2, np.int32)
