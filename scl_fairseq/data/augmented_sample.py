"""A few-shot sample with paraphrases of its training rows: read, written, and read again."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scl_fairseq import versions
from scl_fairseq.data.manifest import PARTS, Manifest
from scl_fairseq.data.paraphrase import Outcome, Paraphraser
from scl_fairseq.data.records import Row, read_rows
from scl_fairseq.data.sampling import is_sample
from scl_fairseq.data.sources import MANIFEST
from scl_fairseq.data.tasks import Task
from scl_fairseq.data.text_change import Change, measure
from scl_fairseq.files import replaced_folder, write_bytes, write_text

SOURCE = "source"
PACKAGES = ("fairseq", "fairseq-fixed", "torch", "sacremoses", "subword-nmt", "fastBPE")
PACKAGES += ("sentencepiece", "sacrebleu")
BREAKS = re.compile(r"[\t\n\r\0]+")


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
class OpenedSample:
    """A few-shot sample: its place, what it is of, and its training rows."""

    folder: Path
    task: Task
    manifest: Manifest
    rows: list[Row]


def open_sample(folder: Path, task: str | None = None) -> OpenedSample:
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
    return OpenedSample(folder, of_task, manifest, rows)


def write_augmented(
    opened: OpenedSample,
    folder: Path,
    paraphraser: Paraphraser,
    settings: Settings,
    temperature: float | None,
    outcomes: Sequence[Outcome],
    made_as: str,
) -> Augmented:
    """Write the sample with its paraphrases, whole.

    Args:
        opened: the sample that they are of.
        folder: receives the new one.
        paraphraser: that made them.
        settings: that they were made by.
        temperature: at which.
        outcomes: for each row, copy and sentence, in this order.
        made_as: names all that decides the texts.

    Raises:
        ValueError: the folder holds something else.
    """
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
                text = BREAKS.sub(" ", outcome.text).strip() if outcome.text else ""
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


def read_finished(folder: Path, made_as: str) -> Augmented | None:
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
