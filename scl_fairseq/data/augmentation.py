"""Few-shot samples with paraphrases of their training rows, for each sampling temperature one.

Work is kept by shards of rows, so that a run that was killed goes on where it stopped; a sample
appears, whole, when all its shards are there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scl_fairseq.data import versions
from scl_fairseq.data.manifest import PARTS, Manifest
from scl_fairseq.data.paraphrase import NO_TEXT, Outcome, Paraphraser, Request
from scl_fairseq.data.records import Row, read_rows
from scl_fairseq.data.sampling import is_sample
from scl_fairseq.data.sources import MANIFEST
from scl_fairseq.data.tasks import Task
from scl_fairseq.data.text_change import Change, measure
from scl_fairseq.files import file_sha256, replaced_folder, write_bytes, write_text

PARTIAL = "partial"  # in the output folder: the shards of what is not finished
SHARD_ROWS = 32
SOURCE = "source"
PACKAGES = ("fairseq", "fairseq-fixed", "torch", "sacremoses", "subword-nmt", "fastBPE")
PACKAGES += ("sentencepiece", "sacrebleu")
_BREAKS = re.compile(r"[\t\n\r\0]+")
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """What an augmentation is made by.

    Attributes:
        temperatures: of sampling, each for a sample of its own; (None,) for a paraphraser that has
            no temperature.
        ratio: paraphrases of each row.
        seed: of the random numbers.
    """

    temperatures: tuple[float | None, ...]
    ratio: int
    seed: int

    def __post_init__(self):
        """Refuse what cannot be.

        Raises:
            ValueError: a temperature or the ratio is out of its range, or a temperature is twice.
        """
        for temperature in self.temperatures:
            if temperature is not None and not 0 < temperature < math.inf:
                raise ValueError(f"--temperature {temperature:g}, expected more than 0")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("a --temperature is there twice")
        if self.ratio < 1:
            raise ValueError(f"--ratio {self.ratio}, expected 1 or more")


@dataclass(frozen=True)
class Augmented:
    """A finished sample.

    Attributes:
        folder: where it is.
        temperature: None without one.
        num_originals, num_copies: rows of ``train.tsv``.
        kept: sentences that stand for their own paraphrase, by reason.
        noted: paraphrases that are there and peculiar, by what they are.
        change: how far the paraphrases are from the originals.
        examples: an original and its paraphrase, up to three.
        was_there: it had been made before, in the same way.
    """

    folder: Path
    temperature: float | None
    num_originals: int
    num_copies: int
    kept: dict[str, int]
    noted: dict[str, int]
    change: Change
    examples: list[tuple[str, str]]
    was_there: bool


@dataclass(frozen=True)
class _Sample:
    folder: Path
    task: Task
    manifest: Manifest
    rows: list[Row]


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
        there = _read_finished(folder, made_as)
        if there is not None:
            advance(per_set)
            results.append(there)
            continue
        if folder.exists() and any(folder.iterdir()) and not is_sample(folder):
            raise ValueError(f"{folder} holds something else; name a new or an empty folder")
        partial = out / PARTIAL / made_as[:16] / folder.name
        outcomes = _run_shards(
            opened, paraphraser, settings, temperature, partial, shard_rows, advance
        )
        results.append(
            _write(opened, folder, paraphraser, settings, temperature, outcomes, made_as)
        )
        shutil.rmtree(partial)
        for parent in (partial.parent, partial.parent.parent):
            with suppress(OSError):  # another run's shards are there
                parent.rmdir()
    return results


def folder_name(temperature: float | None) -> str:
    """Name of the folder of a temperature: ``T0.3``."""
    return "paraphrased" if temperature is None else f"T{temperature:g}"


def open_sample(folder: Path, task: str | None = None) -> _Sample:
    """Read the training rows of a few-shot sample.

    Raises:
        FileNotFoundError: it is no folder, or lacks a file.
        ValueError: it is no sample, of another task, changed, or augmented already.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    for name in (MANIFEST, *(f"{part}.tsv" for part in PARTS)):
        if not (folder / name).is_file():
            hint = f"; name one of its samples: {folder / 'sample0'}"
            hint = hint if (folder / "sample0").is_dir() else ""
            raise FileNotFoundError(
                f"{folder} has no {name}: expected a few-shot sample of scl-sample{hint}"
            )
    manifest = Manifest.read(folder / MANIFEST)
    if task is not None and task.casefold() != manifest.task.casefold():
        raise ValueError(f"{folder} is a sample of {manifest.task}, not of {task}")
    if manifest.augmentation is not None:
        raise ValueError(f"{folder} is augmented already; name the sample that it was made from")
    of_task = manifest.find_task()
    rows = read_rows(of_task, folder / "train.tsv")
    if [row.id for row in rows] != manifest.row_ids["train"]:
        raise ValueError(f"{folder / 'train.tsv'} has other rows than {folder / MANIFEST} says")
    return _Sample(folder, of_task, manifest, rows)


def _check_apart(sample: Path, out: Path) -> None:
    inside = sample.resolve()
    if inside in (out.resolve(), *out.resolve().parents):
        raise ValueError(f"--out {out} lies within --sample {sample}; name another folder")


def _made_as(opened: _Sample, paraphraser: Paraphraser, settings: Settings, shard_rows: int) -> str:
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
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _requests(opened: _Sample, rows: Sequence[Row], ratio: int) -> list[Request]:
    """All that there is to paraphrase in these rows, in the order of the result."""
    return [
        Request(_BREAKS.sub(" ", sentence), (row.id, copy, place))
        for row in rows
        for copy in range(ratio)
        for place, sentence in enumerate(row.sentences)
    ]


def _run_shards(
    opened: _Sample,
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
            write_text(path, json.dumps(pairs, ensure_ascii=False) + "\n")
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


def _write(
    opened: _Sample,
    folder: Path,
    paraphraser: Paraphraser,
    settings: Settings,
    temperature: float | None,
    outcomes: Sequence[Outcome],
    made_as: str,
) -> Augmented:
    width = opened.task.num_inputs
    shown = "" if temperature is None else f" T={temperature:g}"
    lines = [["id", "label", *(f"sentence{i + 1}" for i in range(width)), SOURCE]]
    lines += [[str(row.id), row.label, *row.sentences, f"row={row.id}"] for row in opened.rows]
    pairs: list[tuple[str, str]] = []
    found = iter(outcomes)
    for row in opened.rows:
        for copy in range(settings.ratio):
            sentences, kept = [], []
            for place, sentence in enumerate(row.sentences):
                outcome = next(found)
                text = _BREAKS.sub(" ", outcome.text).strip() if outcome.text else ""
                if text:
                    pairs.append((sentence, text))
                else:
                    kept.append(f"sentence{place + 1}")
                sentences.append(text or sentence)
            source = f"row={row.id}{shown} copy={copy} by={paraphraser.name}"
            source += f" kept={','.join(kept)}" if kept else ""
            lines.append([str(row.id), row.label, *sentences, source])
    kept_by = Counter(outcome.note for outcome in outcomes if not outcome.text)
    noted = Counter(outcome.note for outcome in outcomes if outcome.text and outcome.note)
    result = Augmented(
        folder,
        temperature,
        len(opened.rows),
        len(opened.rows) * settings.ratio,
        dict(sorted(kept_by.items())),
        dict(sorted(noted.items())),
        measure([old for old, _ in pairs], [new for _, new in pairs]),
        _examples(pairs),
        was_there=False,
    )
    labels = Counter(row.label for row in opened.rows)
    manifest = replace(
        opened.manifest,
        label_counts={
            **opened.manifest.label_counts,
            "train": {label: labels[label] * (1 + settings.ratio) for label in opened.task.labels},
        },
        versions=versions.installed(sorted({*versions.PACKAGES, *PACKAGES})),
        augmentation={
            "made_as": made_as,
            "temperature": temperature,
            "ratio": settings.ratio,
            "seed": settings.seed,
            "paraphraser": paraphraser.describe(),
            "sample_versions": opened.manifest.versions,
            "report": {
                "kept": result.kept,
                "noted": result.noted,
                "change": asdict(result.change),
                "examples": result.examples,
            },
        },
    )
    with replaced_folder(folder, is_ours=is_sample) as target:
        write_text(target / "train.tsv", "".join("\t".join(line) + "\n" for line in lines))
        for part in ("dev", "test"):
            write_bytes(target / f"{part}.tsv", (opened.folder / f"{part}.tsv").read_bytes())
        write_text(target / MANIFEST, manifest.as_json())
    return result


def _read_finished(folder: Path, made_as: str) -> Augmented | None:
    """The sample there, if it was made in the same way."""
    if not folder.is_dir() or not is_sample(folder):
        return None
    manifest = Manifest.read(folder / MANIFEST)
    about = manifest.augmentation
    if about is None or about.get("made_as") != made_as:
        return None
    report: dict[str, Any] = about["report"]
    return Augmented(
        folder,
        about["temperature"],
        len(manifest.row_ids["train"]),
        len(manifest.row_ids["train"]) * about["ratio"],
        report["kept"],
        report["noted"],
        Change(**report["change"]),
        [tuple(pair) for pair in report["examples"]],
        was_there=True,
    )


def _examples(pairs: Sequence[tuple[str, str]], count: int = 3) -> list[tuple[str, str]]:
    """Pairs from all over the set, where there are any that differ."""
    changed = [pair for pair in pairs if pair[0] != pair[1]] or list(pairs)
    step = max(len(changed) // count, 1)
    return changed[::step][:count]
