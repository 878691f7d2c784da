"""Ids and classes of all rows of a file, without their text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scl_fairseq.data.blocks import Block, read_blocks, useful_workers
from scl_fairseq.data.file_report import FileReport
from scl_fairseq.data.parallel import ordered_map
from scl_fairseq.data.records import Records, Row, fingerprints, parse
from scl_fairseq.data.sources import Source
from scl_fairseq.data.splits import draw_share
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.streams import OnBytes, ignore
from scl_fairseq.data.tasks import Task


@dataclass(frozen=True)
class RowIndex:
    """One entry a row, in the order of the file.

    Attributes:
        rows: row numbers, from 0, (R,) int64.
        ids: what the file calls the rows, (R,) int64, all different.
        labels: label indices, (R,) int64.
        texts: numbers that tell texts apart, (R,) uint64; empty for official files.
        report: what was special about the file.
    """

    rows: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    texts: np.ndarray
    report: FileReport

    def by_class(self, task: Task, of: np.ndarray) -> dict[str, list[int]]:
        """``of`` (``ids`` or ``rows``) of each class, in the task's order of classes."""
        return {label: of[self.labels == place].tolist() for place, label in enumerate(task.labels)}


def index_rows(source: Source, workers: int, on_bytes: OnBytes = ignore) -> RowIndex:
    """Read a labelled file once.

    Raises:
        ValueError: ``file:line: what is wrong, what was expected``; also where an id comes twice.
    """
    blocks = read_blocks(source, on_bytes)
    workers = useful_workers(workers, source)
    parts = list(ordered_map(_index, blocks, _no_state, (), workers))
    empty = [np.zeros(0, np.int64)]
    rows, ids, labels = (np.concatenate([part[i] for part in parts] or empty) for i in range(3))
    texts = np.concatenate([part[3] for part in parts] or [np.zeros(0, np.uint64)])
    _check_distinct(source, rows, ids)
    report = FileReport.of(source)
    for part in parts:
        report.note(part[4])
    return RowIndex(rows, ids, labels, texts, report)


def draw_dev(
    task: Task, source: Source, rows: Mapping[str, Sequence[int]], share: float, seed: int
) -> list[int]:
    """Rows of train that become dev where there is none.

    Args:
        task: names the draw.
        source: train.
        rows: of each class of it, by number or id.
        share: part of them that is drawn.
        seed: names the draw.

    Raises:
        ValueError: a class has too few rows; the message names the file.
    """
    try:
        return draw_share(rows, share, StableRandom(seed, task.name, "dev share"))
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from None


def fetch_rows(
    source: Source, task: Task, ids: Collection[int], workers: int, on_bytes: OnBytes = ignore
) -> dict[int, Row]:
    """The rows with these ids, by id."""
    found = {}
    blocks, state = read_blocks(source, on_bytes), (task.labels, frozenset(ids))
    workers = useful_workers(workers, source)
    for rows in ordered_map(_fetch, blocks, _wanted, state, workers):
        found.update((row.id, row) for row in rows)
    return found


def _no_state() -> None:
    return None


def _wanted(labels: tuple[str, ...], ids: frozenset[int]) -> tuple[tuple[str, ...], frozenset[int]]:
    return labels, ids


def _index(_: None, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Records]:
    records = parse(block)
    return (
        np.array(records.rows, np.int64),
        np.array(records.ids, np.int64),
        np.array(records.labels, np.int64),
        fingerprints(records.sentences if block.source.is_compared else ()),
        records.peculiarities(),
    )


def _fetch(state: tuple[tuple[str, ...], frozenset[int]], block: Block) -> list[Row]:
    labels, wanted = state
    records = parse(block)
    rows = []
    for place, row_id in enumerate(records.ids):
        if row_id in wanted:
            sentences = records.sentences[place]
            if block.source.is_own:  # unquoted text has none
                sentences = tuple([sentence.replace("\t", " ") for sentence in sentences])
            if any("\t" in sentence for sentence in sentences):
                raise ValueError(
                    f"{block.source.path}:{records.lines[place]}: a tab in a sentence, which the "
                    "columns of a sample cannot hold"
                )
            rows.append(Row(row_id, labels[records.labels[place]], sentences))
    return rows


def _check_distinct(source: Source, rows: np.ndarray, ids: np.ndarray) -> None:
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(again):
        first, second = rows[order[again[0] : again[0] + 2]] + source.first_line
        raise ValueError(
            f"{source.path}:{second}: id {ids[order[again[0]]]} is on line {first} too, expected "
            "every id once"
        )
