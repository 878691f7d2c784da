"""Reports on sentence embeddings: what ``scl-evaluate --sts`` scored, beside InfoCSE's tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scl_fairseq.experiments import tables
from scl_fairseq.experiments.published_sts import (
    ABLATION,
    ABLATIONS,
    AVERAGE,
    BEIR,
    BEIR_METHODS,
    BEIR_NUMBERS,
    BEIR_SETS,
    NAMES,
    NOTES,
    STS,
    STS_NUMBERS,
)
from scl_fairseq.experiments.report import Report
from scl_fairseq.experiments.tables import Column, Table
from scl_fairseq.inference.sts_files import STS_B_DEV, TEST_SETS

SETS = (*TEST_SETS, AVERAGE, STS_B_DEV)


def is_scores(path: Path) -> bool:
    """Whether a result is one file of scores, and not the folder or lines of a sweep."""
    return path.suffix == ".json"


def build(paths: Sequence[Path], published: str | None) -> Report:
    """Tabulate.

    Args:
        paths: files of ``scl-evaluate --sts DIR --json FILE``; beside BEIR's table also files of
            ``{"beir": {MODEL: {DATA: nDCG}}}``.
        published: ``sts`` (by default), ``sts-ablation`` or ``beir``; ``none`` for ours alone.

    Raises:
        ValueError: a file is something else.
        OSError: it cannot be read.
    """
    published = published or STS
    if published not in (*NAMES, "none"):
        raise ValueError(
            f"--published {published} is of sweeps; scores of sentence embeddings go with "
            f"{', '.join(NAMES)} or none"
        )
    if published == BEIR:
        made, about = _beir_table(paths), "Retrieval, beside the published table"
    else:
        found = [one for path in paths for one in _read(path)]
        make = _ablation_table if published == ABLATION else _sts_table
        made, about = make(found, published), "Sentence embeddings"
    return Report(about, tuple(_summary(paths)), (made,), (), (), 0)


def _read(path: Path) -> list[dict[str, Any]]:
    record = read_record(path)
    try:
        return [
            {
                "name": str(one["name"]),
                "embedding": str(one["embedding"]),
                **{key: float(value) for key, value in one["spearman"].items()},
                AVERAGE: one["average"] if set(TEST_SETS) <= set(one["spearman"]) else None,
            }
            for one in record["checkpoints"]
        ]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if "beir" in record:
            raise ValueError(
                f"{path} has scores on BEIR, which go with --published beir"
            ) from error
        raise ValueError(f"{path} is not what scl-evaluate --sts --json writes") from error


def read_record(path: Path) -> dict[str, Any]:
    """What a file of scores holds.

    Raises:
        ValueError: it is something else.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds no scores")
    return record


def _summary(paths: Sequence[Path]) -> Iterator[str]:
    yield f"Scores: {', '.join(map(str, paths))}."
    for path in paths:
        record = read_record(path)
        versions = record.get("versions")
        if isinstance(versions, dict):
            yield f"{path}: " + ", ".join(f"{k} {v}" for k, v in versions.items()) + "."
        if "metric" in record:
            yield f"{path}: {record['metric']}."


def _columns(first: Sequence[str], others: Sequence[str]) -> tuple[Column, ...]:
    return tuple(Column(name, (name,)) for name in (*first, *others))


def _sts_table(found: Sequence[dict[str, Any]], published: str) -> Table:
    sets = [name for name in SETS if published == STS or any(name in one for one in found)]
    rows = [("ours", one["name"], one["embedding"], one) for one in found]
    if published == STS:
        rows += [("published", name, "", numbers) for name, numbers in STS_NUMBERS.items()]
    lines = tuple(
        (
            *(tables.text(value) for value in row[:3]),
            *(tables.number(row[3].get(name), 2) for name in sets),
        )
        for row in rows
    )
    notes = [
        'Spearman x 100; a year\'s sub-sets are one set (the "all" setting).',
        "An average of ours is there where all seven sets are.",
        *NOTES.get(published, ()),
    ]
    columns = _columns(("", "model", "embedding"), sets)
    return Table("sts", "Semantic textual similarity", columns, lines, tuple(notes))


def _ablation_table(found: Sequence[dict[str, Any]], published: str) -> Table:
    names = dict.fromkeys([*ABLATIONS, *(one["name"] for one in found)])
    kinds = list(dict.fromkeys(one["embedding"] for one in found))
    ours = {(one["name"], one["embedding"]): one for one in found}
    lines = tuple(
        (
            tables.text(name),
            tables.number(ABLATIONS.get(name), 2),
            *(tables.number(ours.get((name, kind), {}).get(STS_B_DEV), 2) for kind in kinds),
        )
        for name in names
    )
    columns = _columns(("", "published"), [f"ours ({kind})" for kind in kinds])
    notes = ("Spearman x 100 on STS-B's dev set.", *NOTES[published])
    return Table("ablation", "Ablations of InfoCSE", columns, lines, notes)


def _beir_table(paths: Sequence[Path]) -> Table:
    ours: dict[str, dict[str, float]] = {}
    for path in paths:
        record = read_record(path).get("beir")
        try:
            ours |= {
                name: {data: float(value) for data, value in scores.items()}
                for name, scores in record.items()
            }
            if not all(0 <= value <= 1 for one in ours.values() for value in one.values()):
                raise ValueError("nDCG is 0 to 1")
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no {{'beir': {{MODEL: {{DATA: nDCG from 0 to 1}}}}}}"
            ) from error
    for one in ours.values():
        if set(BEIR_SETS) <= set(one):
            one[AVERAGE] = statistics.fmean(one[name] for name in BEIR_SETS)
    data = [*BEIR_NUMBERS, *(name for one in ours.values() for name in one)]
    lines = tuple(
        (
            tables.text(name),
            *(tables.number(one.get(name), 4) for one in ours.values()),
            *(tables.number(BEIR_NUMBERS.get(name, {}).get(of), 4) for of in BEIR_METHODS),
        )
        for name in dict.fromkeys(data)
    )
    columns = _columns(("",), [*(f"ours: {name}" for name in ours), *BEIR_METHODS])
    note = (
        f"An average of ours is there where all {len(BEIR_SETS)} sets above it are; sets below it "
        "are not of the published table. Another encoder or other texts are no reproduction."
    )
    return Table("beir", "BEIR, nDCG", columns, lines, (note, *NOTES[BEIR]))
