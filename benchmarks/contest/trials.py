"""What there is to run: a contender on a sample."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.contest.contenders import CONTENDERS, MAX_LENGTH
from benchmarks.contest.samples import SPLITS, Draw, Entrant, sample_folders
from scl_fairseq.files import file_sha256


@dataclass(frozen=True)
class Trial:
    """A contender on a sample.

    Attributes:
        entrant: the task.
        sample: its folder.
        setting: all that its result depends on, but the versions of libraries.
    """

    entrant: Entrant
    sample: Path
    setting: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """The same for the same settings and data."""
        text = json.dumps(self.setting, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For progress."""
        one = self.setting
        return f"{one['task']} N={one['N']} sample {one['sample']} {one['contender']}"


def trials_of(
    entrants: Sequence[Entrant], draws: Sequence[Draw], names: Sequence[str], out: Path
) -> list[Trial]:
    """All trials: size by size, in it sample by sample, so that a first result comes early.

    Raises:
        ValueError, OSError: data cannot be read, or have too few rows.
    """
    found = []
    for wanted in draws:
        samples = {
            entrant.name: sample_folders(entrant, wanted, out / "samples") for entrant in entrants
        }
        for index in range(wanted.num_samples):
            for entrant in entrants:
                sample = samples[entrant.name][index]
                found += [_trial(entrant, wanted, index, sample, name) for name in names]
    return found


def _trial(entrant: Entrant, wanted: Draw, index: int, sample: Path, name: str) -> Trial:
    task = entrant.task
    settings = CONTENDERS[name].settings(wanted.num_examples, task.num_inputs, len(task.labels))
    setting = {
        "task": entrant.name,
        "N": wanted.num_examples,
        "sample": index,
        "contender": name,
        "settings": dict(settings),
        "max_length": MAX_LENGTH,
        "most_test": wanted.most_test,
        "data": [file_sha256(sample / f"{split}.tsv")[:16] for split in SPLITS],
    }
    return Trial(entrant, sample, setting)
