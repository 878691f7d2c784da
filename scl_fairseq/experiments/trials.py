"""The trials of a sweep: each a setting with its data, and the ``fairseq-train`` it stands for."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scl_fairseq.checkpoints.architecture import architecture_flags
from scl_fairseq.data.binarized import BinarizedData, open_binarized
from scl_fairseq.data.choices import has_separator
from scl_fairseq.data.dictionary import EOS
from scl_fairseq.experiments import training
from scl_fairseq.experiments.sweep_config import (
    DATA_KEYS,
    Setting,
    SweepConfig,
    Value,
    identity,
    settings,
)
from scl_fairseq.files import file_sha256

SPLITS = ("train", "valid", "test")
ENCODER_OPTION = "finetune-from-model"
SEPARATOR = "separator-token"
ENDS = ("max-epoch", "max-update", "stop-time-hours", "patience")
SIZES = ("batch-size", "max-sentences", "max-tokens")
CHOICES = ("arch", "criterion", "optimizer", "lr-scheduler")  # each has options of its own
# What a fine-tuning of the paper's kind needs and a configuration may leave out.
DEFAULTS: dict[str, Value] = {
    "criterion": "sentence_prediction_scl",
    "init-token": 0,
    "required-batch-size-multiple": 1,  # fairseq's 8 would drop the rest of a last batch
    "num-workers": 0,
    "optimizer": "adam",
}
# A trial on one device that keeps the weights of its best epoch.
FIXED: dict[str, Value] = {
    "distributed-world-size": 1,
    "best-checkpoint-metric": "accuracy",
    "maximize-best-checkpoint-metric": True,
    "log-format": "json",
}
BEST_ONLY = ("no-epoch-checkpoints", "no-last-checkpoints", "no-save-optimizer-state")


@dataclass(frozen=True)
class Encoder:
    """The pre-trained checkpoint that trials start from.

    Attributes:
        path: of the file.
        sha256: of the file, or of what it is converted from.
        flags: ``fairseq-train`` options that it needs and the configuration leaves out.
    """

    path: str
    sha256: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One training, with its evaluation on the test set.

    Attributes:
        id: 12 hexadecimal digits of a hash of setting, data and encoder.
        setting: what decides its result, by name.
        grid_keys: those of its keys that stand in the grid.
        data: its binarised data.
        encoder: what it starts from.
        options: of ``fairseq-train``, without what depends on place and device.
    """

    id: str
    setting: Setting
    grid_keys: tuple[str, ...]
    data: BinarizedData
    encoder: Encoder
    options: Mapping[str, Value] = field(repr=False)

    def arguments(self, folder: Path, on_cpu: bool, keeps_all: bool = False) -> list[str]:
        """Arguments of the ``fairseq-train`` that this trial stands for; it saves in ``folder``."""
        options = {
            "user-dir": training.user_dir(),
            ENCODER_OPTION: self.encoder.path,
            "save-dir": training.short_path(folder),
            "task": "sentence_prediction",
            "num-classes": len(self.data.labels),
            SEPARATOR: self._separator(),
            **self.options,
            **FIXED,
            **({} if keeps_all else dict.fromkeys(BEST_ONLY, True)),
            "cpu": on_cpu,
        }
        found = [training.short_path(self.data.folder), *self.encoder.flags]
        return [*found, *(a.replace("{trial}", self.id) for a in training.as_arguments(options))]

    def _separator(self) -> int | None:
        """What the data's encoding puts before a second sentence: ``</s>`` or nothing."""
        data = self.data
        is_separated = data.num_inputs == 2 and data.bpe is not None and has_separator(data.bpe)
        return EOS if is_separated else None

    @property
    def name(self) -> str:
        """What tells it apart from the others of its sweep."""
        return " ".join(f"{key}={self.setting[key]}" for key in self.grid_keys)

    @property
    def max_epoch(self) -> int | None:
        """Epochs it runs, where a number of them is set."""
        return self.options.get("max-epoch")


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
        inputs = (data.sha256, encoder.sha256, identity(trial.options))
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
        raise ValueError(f"{where}: is missing; it names the pre-trained checkpoint")
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
    _check_complete(config, setting, data)
    setting = {**setting, **_schedule(config, setting, data)}
    options = {key: value for key, value in setting.items() if key not in DATA_KEYS}
    return Trial(
        id=_identify(setting, data, encoder),
        setting=setting,
        grid_keys=tuple(key for key in config.grid_keys if key in setting),
        data=data,
        encoder=encoder,
        options={**DEFAULTS, **options},
    )


def _check_complete(config: SweepConfig, setting: Setting, data: BinarizedData) -> None:
    """What fairseq would find out late, or never."""
    for keys, why in ((ENDS, "training would not end"), (SIZES, "fairseq needs one")):
        if not any(key in setting for key in keys):
            raise ValueError(f"{config.source}: options: none of {', '.join(keys)}: {why}")
    is_open = data.num_inputs == 2 and data.bpe is None
    said = [config.options, *config.grids, *(override.options for override in config.overrides)]
    if is_open and not any(SEPARATOR in keys for keys in said):
        raise ValueError(
            f"{config.source}: options.{SEPARATOR}: {data.folder} holds pairs and does not say how "
            "they are encoded; give 2 for RoBERTa, null for a converted BERT"
        )


def _schedule(config: SweepConfig, setting: Setting, data: BinarizedData) -> Setting:
    """Length of training and warm-up in updates, where the configuration gives a ratio."""
    if config.warmup_ratio is None:
        return {}
    for key in ("max-epoch", "batch-size"):
        if key not in setting:
            raise ValueError(f"{config.source}: warmup-ratio: needs options.{key}")
    for key in ("total-num-update", "warmup-updates"):
        if key in setting:
            raise ValueError(f"{config.source}: options.{key}: warmup-ratio sets it")
    for key in ("max-tokens", "max-sentences", "max-update", "skip-remainder-batch"):
        if key in setting:
            raise ValueError(f"{config.source}: options.{key}: warmup-ratio cannot count with it")
    if setting.get("required-batch-size-multiple", 1) != 1:
        raise ValueError(
            f"{config.source}: options.required-batch-size-multiple: warmup-ratio needs 1"
        )
    update_freq = setting.get("update-freq", 1)
    if not isinstance(update_freq, int):
        raise ValueError(f"{config.source}: options.update-freq: warmup-ratio needs one number")
    batches = math.ceil(data.num_examples["train"] / setting["batch-size"])
    updates = setting["max-epoch"] * math.ceil(batches / update_freq)
    return {
        "lr-scheduler": setting.get("lr-scheduler", "polynomial_decay"),
        "total-num-update": updates,
        "warmup-updates": round(config.warmup_ratio * updates),
    }


def _identify(setting: Setting, data: BinarizedData, encoder: Encoder) -> str:
    text = json.dumps([identity(setting), data.sha256, encoder.sha256])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def distinct_values(trials: Sequence[Trial]) -> list[Trial]:
    """Few trials that show every value of every option, and every set of options, once."""
    seen: set[tuple[str, str]] = set()
    chosen = []
    for trial in trials:
        pairs = {(key, repr(value)) for key, value in trial.options.items()}
        choices = [str(trial.options.get(key)) for key in CHOICES]
        pairs.add((" ".join(choices), " ".join(sorted(trial.options))))
        if not pairs <= seen:
            seen |= pairs
            chosen.append(trial)
    return chosen
