"""Samples for the search: their dev sets are cut in two, and their test sets are left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.contest.samples import Draw, Entrant, sample_folders
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.manifest import Manifest
from scl_fairseq.data.preprocess import REPORT, preprocess
from scl_fairseq.data.sources import MANIFEST
from scl_fairseq.data.splits import allocate, draw
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.files import write_text

VALIDATION_ROWS = 50


def binarised(
    entrant: Entrant, wanted: Draw, out: Path, most_judged: int, settings: Settings
) -> list[Path]:
    """Binarised data of each sample, in which ``test`` is a part of dev.

    Args:
        entrant: the task.
        wanted: which samples.
        out: receives ``samples`` and ``bin``.
        most_judged: rows of that part at most; dev keeps 50 others.
        settings: how texts are encoded.

    Raises:
        ValueError, OSError: bad input, or too few rows.
    """
    found = []
    for index, sample in enumerate(sample_folders(entrant, wanted, out / "samples")):
        name = f"{entrant.name}/{wanted.num_examples}/sample{index}"
        folder = out / "judged" / name
        if not (folder / MANIFEST).exists():
            _without_test(sample, folder, wanted.seed, most_judged)
        destination = out / "bin" / name
        if not (destination / REPORT).exists():
            preprocess(entrant.task, folder, destination, settings)
        found.append(destination)
    return found


def _without_test(sample: Path, folder: Path, seed: int, most_judged: int) -> None:
    manifest = Manifest.read(sample / MANIFEST)
    header, *lines = (sample / "dev.tsv").read_text("utf-8").split("\n")[:-1]
    fields = [line.split("\t", 2) for line in lines]
    ids = {label: [int(row[0]) for row in fields if row[1] == label] for label in manifest.labels}
    sizes = {label: len(of) for label, of in ids.items()}
    judged = allocate(min(most_judged, len(lines) - VALIDATION_ROWS), sizes)
    random = StableRandom(seed, manifest.task, "judged")
    of_test = set(draw(ids, judged, random))
    left = {label: [one for one in of if one not in of_test] for label, of in ids.items()}
    rest = allocate(VALIDATION_ROWS, {label: len(of) for label, of in left.items()})
    of_dev = set(draw(left, rest, random))
    for split, chosen in (("dev", of_dev), ("test", of_test)):
        rows = [line for line, row in zip(lines, fields, strict=True) if int(row[0]) in chosen]
        write_text(folder / f"{split}.tsv", "\n".join([header, *rows, ""]))
    write_text(folder / "train.tsv", (sample / "train.tsv").read_text("utf-8"))
    manifest = replace(
        manifest,
        row_ids={**manifest.row_ids, "dev": sorted(of_dev), "test": sorted(of_test)},
        label_counts={**manifest.label_counts, "dev": rest, "test": judged},
    )
    write_text(folder / MANIFEST, manifest.as_json())
