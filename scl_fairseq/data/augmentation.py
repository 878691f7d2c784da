"""Few-shot samples with paraphrases of their training rows, for each sampling temperature one.

Work is kept by shards of rows, so that a run that was killed goes on where it stopped; a sample
appears, whole, when all its shards are there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from scl_fairseq.data.augmented_sample import (
    BREAKS,
    Augmented,
    OpenedSample,
    Settings,
    open_sample,
    read_finished,
    write_augmented,
)
from scl_fairseq.data.paraphrase import NO_TEXT, Outcome, Paraphraser, Request
from scl_fairseq.data.records import Row
from scl_fairseq.data.sampling import is_sample
from scl_fairseq.files import file_sha256, write_text

PARTIAL = "partial"  # in the output folder: the shards of what is not finished
SHARD_ROWS = 32
OnProgress = Callable[[int, int], None]


def augment(
    sample: Path,
    out: Path,
    paraphraser: Paraphraser,
    settings: Settings,
    task: str | None = None,
    shard_rows: int = SHARD_ROWS,
    on_progress: OnProgress = lambda done, total: None,
) -> list[Augmented]:
    """Write an augmented sample for each temperature.

    ``out/T0.3``, … are samples as ``sampling.write_samples`` makes them; their ``train.tsv`` has a
    further column ``source``, the original rows first and then ``ratio`` paraphrases of each, with
    its id and label. ``dev.tsv`` and ``test.tsv`` are the sample's own. What is there, made in the
    same way, stays.

    Args:
        sample: folder of a few-shot sample.
        out: receives a folder for each temperature, ``T`` and its value, ``paraphrased`` without.
        paraphraser: makes the sentences.
        settings: how many, and how.
        task: name of the sample's task, where the caller knows it.
        shard_rows: rows whose paraphrases are kept together.
        on_progress: is told how many sentences are done, and how many there are.

    Raises:
        ValueError, OSError: the sample is none, or ``out`` holds something else, or what the
            paraphraser raises; finished shards stay.
    """
    opened = open_sample(sample, task)
    _check_apart(sample, out)
    made_as = _made_as(opened, paraphraser, settings, shard_rows)
    per_set = settings.ratio * len(opened.rows) * opened.task.num_inputs
    done, total = 0, per_set * len(settings.temperatures)
    results = []

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, total)

    for temperature in settings.temperatures:
        folder = out / folder_name(temperature)
        partial = out / PARTIAL / made_as[:16] / folder.name
        result = read_finished(folder, made_as)
        if result is None:
            if folder.exists() and any(folder.iterdir()) and not is_sample(folder):
                raise ValueError(f"{folder} holds something else; name a new or an empty folder")
            outcomes = _run_shards(
                opened, paraphraser, settings, temperature, partial, shard_rows, advance
            )
            result = write_augmented(
                opened, folder, paraphraser, settings, temperature, outcomes, made_as
            )
        else:
            advance(per_set)
        results.append(result)
        _remove(partial)
    return results


def _remove(partial: Path) -> None:
    """Shards that are not needed any more, and the folders above that are empty then."""
    shutil.rmtree(partial, ignore_errors=True)
    for parent in (partial.parent, partial.parent.parent):
        with suppress(OSError):  # another run's shards are there
            parent.rmdir()


def folder_name(temperature: float | None) -> str:
    """Name of the folder of a temperature: ``T0.3``."""
    return "paraphrased" if temperature is None else f"T{temperature:g}"


def _check_apart(sample: Path, out: Path) -> None:
    inside = sample.resolve()
    if inside in (out.resolve(), *out.resolve().parents):
        raise ValueError(f"--out {out} lies within --sample {sample}; name another folder")


def _made_as(
    opened: OpenedSample, paraphraser: Paraphraser, settings: Settings, shard_rows: int
) -> str:
    """A hash of all that decides the texts of a run; the temperature names its folder."""
    about = {
        "train": file_sha256(opened.folder / "train.tsv"),
        "dev": file_sha256(opened.folder / "dev.tsv"),
        "test": file_sha256(opened.folder / "test.tsv"),
        "ratio": settings.ratio,
        "seed": settings.seed,
        # A command sees the lines of a shard together.
        "shard": shard_rows,
        "paraphraser": paraphraser.describe(),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _requests(opened: OpenedSample, rows: Sequence[Row], ratio: int) -> list[Request]:
    """All that there is to paraphrase in these rows, in the order of the result."""
    return [
        Request(BREAKS.sub(" ", sentence), (row.id, copy, place))
        for row in rows
        for copy in range(ratio)
        for place, sentence in enumerate(row.sentences)
    ]


def _run_shards(
    opened: OpenedSample,
    paraphraser: Paraphraser,
    settings: Settings,
    temperature: float | None,
    partial: Path,
    shard_rows: int,
    advance: Callable[[int], None],
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for number, start in enumerate(range(0, len(opened.rows), shard_rows)):
        rows = opened.rows[start : start + shard_rows]
        requests = _requests(opened, rows, settings.ratio)
        path = partial / f"shard{number}.json"
        if path.is_file():
            found = [Outcome(*pair) for pair in json.loads(path.read_text("utf-8"))]
            advance(len(requests))
        else:
            found = _paraphrase(paraphraser, requests, temperature, settings.seed, advance)
            pairs = [[outcome.text, outcome.note] for outcome in found]
            write_text(path, json.dumps(pairs, ensure_ascii=False, allow_nan=False) + "\n")
        outcomes += found
    return outcomes


def _paraphrase(
    paraphraser: Paraphraser,
    requests: Sequence[Request],
    temperature: float | None,
    seed: int,
    advance: Callable[[int], None],
) -> list[Outcome]:
    wanted = [request for request in requests if request.sentence]
    advance(len(requests) - len(wanted))
    answers = iter(paraphraser.paraphrase(wanted, temperature, seed, advance))
    return [next(answers) if request.sentence else Outcome(None, NO_TEXT) for request in requests]
