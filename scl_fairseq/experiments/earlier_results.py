"""Results of earlier sweeps in the folder that a sweep writes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scl_fairseq.experiments.outside_grid import differences
from scl_fairseq.experiments.result_files import RESULTS
from scl_fairseq.experiments.results import data_keys
from scl_fairseq.experiments.settings import canonical
from scl_fairseq.experiments.sweep_config import SweepConfig
from scl_fairseq.experiments.trial import Trial


def check_same_inputs(
    config: SweepConfig, trials: Sequence[Trial], others: Sequence[Mapping[str, Any]], out: Path
) -> None:
    """Refuse what a report would: two versions of the data, or two encoders, in one place.

    Args:
        config: of the sweep.
        trials: its own.
        others: lines of ``results.jsonl`` of no trial of its.
        out: the folder, for messages.

    Raises:
        ValueError: data or encoder have changed.
    """
    keys = data_keys([config])
    data: dict[tuple, Trial] = {}
    encoders: dict[tuple, set[str]] = {}

    def place(setting: Mapping[str, Any], left_out: str = "") -> tuple:
        return tuple(canonical(setting.get(key)) for key in keys if key != left_out)

    for trial in trials:
        data[place(trial.setting)] = trial
        encoders.setdefault(place(trial.setting, "sample"), set()).add(trial.encoder.sha256)
    for record in others:
        setting, changed = record["setting"], None
        trial = data.get(place(setting))
        known = encoders.get(place(setting, "sample"))
        if trial and trial.data.sha256 != record["data"]["sha256"]:
            changed = str(trial.data.folder)
        elif known and record["encoder_sha256"] not in known:
            changed = "the pre-trained checkpoint"
        if changed:
            raise ValueError(
                f"{changed} has changed since {out / RESULTS} was written; name another --out"
            )


def note_of_others(
    config: SweepConfig, others: Sequence[Mapping[str, Any]], out: Path
) -> str | None:
    """What a folder holds that this sweep's trials will not be compared with, if anything."""
    found = [differences(record["setting"], config) for record in others]
    keys = sorted({key for one in found for key in one})
    if not keys:
        return None
    return (
        f"{out / RESULTS} has {sum(map(bool, found))} results of other settings outside the grid "
        f"({', '.join(keys)}): they stay, and scl-report keeps them apart"
    )
