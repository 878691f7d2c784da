"""The trials of a sweep, from its configuration and the data that it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.checkpoints.architecture import architecture_flags
from scl_fairseq.data.binarized import BinarizedData, open_binarized
from scl_fairseq.experiments.settings import (
    DATA_KEYS,
    FIRST,
    FIRST_STAGE,
    SYSTEM,
    Setting,
    Value,
    first_stage,
    identity,
    settings,
)
from scl_fairseq.experiments.sweep_config import SweepConfig
from scl_fairseq.experiments.trial import ENCODER_OPTION, SEPARATOR, Encoder, Trial
from scl_fairseq.experiments.trial_schedule import check_complete, schedule
from scl_fairseq.files import file_sha256

SPLITS = ("train", "valid", "test")
CHOICES = ("arch", "criterion", "optimizer", "lr-scheduler")  # each has options of its own
# What a fine-tuning of the paper's kind needs and a configuration may leave out.
DEFAULTS: dict[str, Value] = {
    "criterion": "sentence_prediction_scl",
    "init-token": 0,
    "required-batch-size-multiple": 1,  # fairseq's 8 would drop the rest of a last batch
    "num-workers": 0,
    "optimizer": "adam",
}


def plan(config: SweepConfig, embedded: Encoder | None = None) -> list[Trial]:
    """All trials of a sweep, with their data looked at.

    Args:
        config: of the sweep.
        embedded: what ``encoder: embedded`` stands for.

    Raises:
        ValueError, OSError: data or checkpoint are missing or malformed, or two trials are the
            same; the message names file and key.
    """
    opened: dict[str, BinarizedData] = {}
    encoders: dict[str, Encoder] = {}
    trials: list[Trial] = []
    first: dict[tuple, Trial] = {}
    for setting in settings(config):
        data = _data(config, setting, opened)
        encoder = _encoder(config, setting, encoders, embedded)
        trial = _trial(config, setting, data, encoder)
        stages = (identity(trial.first), identity(trial.options))
        inputs = (data.sha256, encoder.sha256, *stages)
        if inputs in first:
            raise ValueError(
                f"{config.source}: data: {data.folder} is the data of several trials, which makes "
                f"them duplicates: {first[inputs].name} and {trial.name}"
            )
        first[inputs] = trial
        trials.append(trial)
    return trials


def _data(config: SweepConfig, setting: Setting, opened: dict[str, BinarizedData]) -> BinarizedData:
    path = _filled(config.data, setting, f"{config.source}: data")
    if path not in opened:
        try:
            opened[path] = open_binarized(Path(path), SPLITS)
        except (ValueError, OSError) as error:
            raise ValueError(f"{config.source}: data: {error}") from None
    return opened[path]


def _filled(template: str, setting: Setting, where: str) -> str:
    try:
        return template.format_map(setting)
    except KeyError as error:
        raise ValueError(f"{where}: {{{error.args[0]}}} is no key of the grid") from None
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(f"{where}: {template}: {error}") from None


def _encoder(
    config: SweepConfig,
    setting: Setting,
    known: dict[str, Encoder],
    embedded: Encoder | None,
) -> Encoder:
    path = setting.pop(ENCODER_OPTION, None)
    if config.encoder is not None:
        if path is not None:
            raise ValueError(f"{config.source}: options.{ENCODER_OPTION}: encoder is given as well")
        return embedded
    where = f"{config.source}: options.{ENCODER_OPTION}"
    if path is None:
        raise ValueError(
            f"{where}: is missing; it names the pre-trained checkpoint; "
            "encoder: embedded, beside options, takes the package's encoder instead"
        )
    path = _filled(str(path), setting, where)
    if path not in known:
        if not Path(path).is_file():
            raise ValueError(f"{where}: {path} is no file")
        try:
            flags = () if "arch" in setting else tuple(architecture_flags(Path(path)))
        except Exception as error:  # torch has many for a file that is no checkpoint
            reason = str(error).splitlines()[:1] or [type(error).__name__]
            raise ValueError(f"{where}: {path}: no checkpoint to read: {reason[0]}") from None
        known[path] = Encoder(path, file_sha256(Path(path)), flags)
    return known[path]


def _trial(config: SweepConfig, setting: Setting, data: BinarizedData, encoder: Encoder) -> Trial:
    _check_separator(config, data)
    own = {key: value for key, value in setting.items() if not key.startswith(FIRST)}
    own.update(_length(config, own, data, "options"))
    first = first_stage(setting)
    if first:
        first.update(_length(config, first, data, FIRST_STAGE))
    setting = {**own, **{f"{FIRST}{key}": value for key, value in first.items()}}
    names = (*DATA_KEYS, SYSTEM)
    options = {key: value for key, value in own.items() if key not in names}
    return Trial(
        id=_identify(setting, data, encoder),
        setting=setting,
        grid_keys=tuple(key for key in config.grid_keys if key in setting),
        data=data,
        encoder=encoder,
        options={**DEFAULTS, **options},
        first={**DEFAULTS, **first} if first else {},
    )


def _length(config: SweepConfig, options: Setting, data: BinarizedData, where: str) -> Setting:
    """Length of training and warm-up in updates, where the configuration gives a ratio."""
    check_complete(options, f"{config.source}: {where}")
    if config.warmup_ratio is None:
        return {}
    size = data.num_examples["train"]
    return schedule(options, config.warmup_ratio, size, config.source, where)


def _check_separator(config: SweepConfig, data: BinarizedData) -> None:
    is_open = data.num_inputs == 2 and data.bpe is None
    said = [config.options, *config.grids, *(override.options for override in config.overrides)]
    if is_open and not any(SEPARATOR in keys for keys in said):
        raise ValueError(
            f"{config.source}: options.{SEPARATOR}: {data.folder} holds pairs and does not say how "
            "they are encoded; give 2 for RoBERTa, null for a converted BERT"
        )


def _identify(setting: Setting, data: BinarizedData, encoder: Encoder) -> str:
    text = json.dumps([identity(setting), data.sha256, encoder.sha256], allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def distinct_values(trials: Sequence[Trial]) -> list[Trial]:
    """Few trials that show every value of every option, and every set of options, once."""
    seen: set[tuple[str, str]] = set()
    chosen = []
    for trial in trials:
        pairs = set()
        for stage, options in (("", trial.options), (FIRST, trial.first)):
            pairs |= {(f"{stage}{key}", repr(value)) for key, value in options.items()}
            choices = [str(options.get(key)) for key in CHOICES]
            pairs.add((" ".join([stage, *choices]), " ".join(sorted(options))))
        if not pairs <= seen:
            seen |= pairs
            chosen.append(trial)
    return chosen
