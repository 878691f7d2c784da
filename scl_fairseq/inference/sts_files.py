"""Sentence pairs with similarity scores, in the files that SentEval reads.

``STS12-en-test`` … ``STS16-en-test``, ``STSBenchmark`` and ``SICK``, in a folder or in its ``STS``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# The sub-sets of each year, as SentEval takes them: without 2013's SMT, whose texts are not free.
SUBSETS = {
    "STS12": ("MSRpar", "MSRvid", "SMTeuroparl", "surprise.OnWN", "surprise.SMTnews"),
    "STS13": ("FNWN", "headlines", "OnWN"),
    "STS14": ("deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"),
    "STS15": ("answers-forums", "answers-students", "belief", "headlines", "images"),
    "STS16": ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"),
}
STS_B, SICK_R, STS_B_DEV = "STS-B", "SICK-R", "STS-B dev"
TEST_SETS = (*SUBSETS, STS_B, SICK_R)
_BENCHMARK = {STS_B: "sts-test.csv", STS_B_DEV: "sts-dev.csv"}
_SICK_FILE = "SICK_test_annotated.txt"
_SICK_COLUMNS = ("sentence_A", "sentence_B", "relatedness_score")


@dataclass(frozen=True)
class ScoredPairs:
    """A set of sentence pairs; of a year, all its sub-sets one after another ("all" setting).

    Attributes:
        name: as tables call it.
        pairs: two sentences each.
        scores: people's, one a pair; the higher, the more alike.
        sha256: of its files.
    """

    name: str
    pairs: tuple[tuple[str, str], ...]
    scores: tuple[float, ...]
    sha256: str


def read_sts(folder: Path) -> tuple[list[ScoredPairs], list[str]]:
    """All sets that a folder has, and the names of the test sets that it lacks.

    Args:
        folder: SentEval's ``data/downstream``, its ``STS``, or any folder with some of the sets.

    Raises:
        FileNotFoundError: there is no such folder, none of the sets is in it, or a set has a part
            of its files only.
        ValueError: ``file:line: what is wrong, what was expected``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--sts {folder} is no folder")
    found = [pairs for name in (*TEST_SETS, STS_B_DEV) if (pairs := _read_set(folder, name))]
    names = [pairs.name for pairs in found]
    missing = [name for name in TEST_SETS if name not in names]
    if not found:
        raise FileNotFoundError(
            f"--sts {folder} has no STS12-en-test … STS16-en-test, STSBenchmark or SICK, the "
            "folders of SentEval"
        )
    return found, missing


def _read_set(folder: Path, name: str) -> ScoredPairs | None:
    if name in _BENCHMARK:
        path = _find(folder, f"STSBenchmark/{_BENCHMARK[name]}")
        return path and _scored(name, [path], _benchmark_rows(path))
    if name == SICK_R:
        path = _find(folder, f"SICK/{_SICK_FILE}")
        return path and _scored(name, [path], _sick_rows(path))
    year = _find(folder, f"{name}-en-test")
    return year and _read_year(name, year)


def _find(folder: Path, name: str) -> Path | None:
    places = [folder, folder / "STS"]
    if name.startswith("SICK"):  # SentEval keeps it beside STS
        places.append(folder.parent)
    return next((place / name for place in places if (place / name).exists()), None)


def _read_year(name: str, year: Path) -> ScoredPairs:
    paths: list[Path] = []
    rows: list[tuple[str, str, float]] = []
    for subset in SUBSETS[name]:
        texts, scores = (year / f"STS.{kind}.{subset}.txt" for kind in ("input", "gs"))
        for path in (texts, scores):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: {name} is all of its sub-sets")
        paths += [texts, scores]
        rows += _aligned_rows(texts, scores)
    return _scored(name, paths, rows)


def _scored(
    name: str, paths: Sequence[Path], rows: Iterable[tuple[str, str, float]]
) -> ScoredPairs:
    rows = list(rows)
    if len(rows) < 2:
        raise ValueError(f"{paths[0]}:1: {len(rows)} pairs, expected several")
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    pairs = tuple((first, second) for first, second, _ in rows)
    return ScoredPairs(name, pairs, tuple(row[2] for row in rows), digest.hexdigest())


def _aligned_rows(texts: Path, scores: Path) -> Iterator[tuple[str, str, float]]:
    """Pairs, and on the same line of another file their score; those without one do not count."""
    lines, values = _lines(texts), _lines(scores)
    if len(lines) != len(values):
        raise ValueError(
            f"{scores}:{len(values)}: {len(values)} scores for the {len(lines)} pairs of {texts}"
        )
    for number, (line, value) in enumerate(zip(lines, values, strict=True), start=1):
        if value.strip():
            fields = line.split("\t")
            if len(fields) < 2:
                raise ValueError(f"{texts}:{number}: 1 field, expected two sentences")
            yield _words(fields[0]), _words(fields[1]), _score(scores, number, value)


def _benchmark_rows(path: Path) -> Iterator[tuple[str, str, float]]:
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) < 7:
            raise ValueError(
                f"{path}:{number}: {len(fields)} fields, expected genre, file, year, id, score and "
                "two sentences"
            )
        yield _words(fields[5]), _words(fields[6]), _score(path, number, fields[4])


def _sick_rows(path: Path) -> Iterator[tuple[str, str, float]]:
    lines = _lines(path)
    header = lines[0].split("\t") if lines else []
    if missing := [column for column in _SICK_COLUMNS if column not in header]:
        raise ValueError(f"{path}:1: no column {', '.join(missing)}")
    at = [header.index(column) for column in _SICK_COLUMNS]
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise ValueError(f"{path}:{number}: {len(fields)} fields, expected {len(header)}")
        first, second, score = (fields[place] for place in at)
        yield _words(first), _words(second), _score(path, number, score)


def _lines(path: Path) -> list[str]:
    """Only newlines end a line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8, expected UTF-8") from None
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []


def _words(text: str) -> str:
    """As SentEval has them: with one space between."""
    return " ".join(text.split())


def _score(path: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}:{number}: score {text.strip()[:40]!r}, expected a number")
    return value
