"""Few-shot samples as ``scl-sample`` draws them, with at most so many test rows."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from scl_fairseq.data.manifest import Manifest
from scl_fairseq.data.sampling import Size, write_samples
from scl_fairseq.data.sources import MANIFEST
from scl_fairseq.data.splits import allocate, draw
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.tasks import Task
from scl_fairseq.files import read_json, write_text

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Entrant:
    """A task of the contest.

    Attributes:
        name: in tables and paths.
        task: how its files are read.
        folder: where they are.
        dev_share: part of train that stands for dev, where there is none.
    """

    name: str
    task: Task
    folder: Path
    dev_share: float | None = None


@dataclass(frozen=True)
class Draw:
    """Which samples are drawn.

    Attributes:
        num_examples: training examples of each.
        num_samples: how many.
        seed: of the draw.
        most_test: test rows at most; they are drawn at random, class by class, by the same seed.
    """

    num_examples: int
    num_samples: int
    seed: int
    most_test: int


def sample_folders(entrant: Entrant, wanted: Draw, out: Path) -> list[Path]:
    """Folders of the samples, drawn where they are not there yet.

    Sample k is the same however many are drawn, so that a larger number continues a smaller one.

    Raises:
        ValueError, OSError: bad input, or too few rows.
    """
    place = out / f"test{wanted.most_test}-seed{wanted.seed}" / entrant.name
    folder = place / str(wanted.num_examples)
    stamp = place / f"{wanted.num_examples}.json"
    source = {"folder": str(entrant.folder.resolve()), "dev_share": entrant.dev_share}
    source["task"] = repr(entrant.task)
    there = read_json(stamp) if stamp.exists() else {}
    if there.get("source") != source or there["samples"] < wanted.num_samples:
        stamp.unlink(missing_ok=True)
        size = Size(wanted.num_examples)
        written = write_samples(
            *(entrant.task, entrant.folder, folder, size, wanted.num_samples, wanted.seed),
            dev_share=entrant.dev_share,
        )
        for sample in written.folders:
            _cap_test(sample, wanted)
        there = {"source": source, "samples": wanted.num_samples}
        write_text(stamp, json.dumps(there, allow_nan=False))
    return [folder / f"sample{index}" for index in range(wanted.num_samples)]


def _cap_test(sample: Path, wanted: Draw) -> None:
    """Leave ``most_test`` rows in test; the sample stays valid, its manifest says which."""
    manifest = Manifest.read(sample / MANIFEST)
    header, *lines = (sample / "test.tsv").read_text("utf-8").split("\n")[:-1]
    if len(lines) <= wanted.most_test:
        return
    fields = [line.split("\t", 2) for line in lines]
    ids = {label: [int(row[0]) for row in fields if row[1] == label] for label in manifest.labels}
    counts = allocate(wanted.most_test, {label: len(of) for label, of in ids.items()})
    kept = set(draw(ids, counts, StableRandom(wanted.seed, manifest.task, "contest")))
    left = [line for line, row in zip(lines, fields, strict=True) if int(row[0]) in kept]
    manifest = replace(
        manifest,
        row_ids={**manifest.row_ids, "test": [i for i in manifest.row_ids["test"] if i in kept]},
        label_counts={**manifest.label_counts, "test": counts},
    )
    write_text(sample / "test.tsv", "\n".join([header, *left, ""]))
    write_text(sample / MANIFEST, manifest.as_json())
