"""A trial of a sweep, and the ``fairseq-train`` it stands for: two, where it has a first stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scl_fairseq.data.binarized import BinarizedData
from scl_fairseq.experiments import training
from scl_fairseq.experiments.settings import FIRST_STAGE, Setting, Value
from scl_fairseq.text.choices import has_separator
from scl_fairseq.text.dictionary import EOS

ENCODER_OPTION = "finetune-from-model"
SEPARATOR = "separator-token"
# A trial on one device that keeps the weights of its best epoch.
FIXED: dict[str, Value] = {
    "distributed-world-size": 1,
    "best-checkpoint-metric": "accuracy",
    "maximize-best-checkpoint-metric": True,
    "log-format": "json",
}
BEST_ONLY = ("no-epoch-checkpoints", "no-last-checkpoints", "no-save-optimizer-state")
# A first stage is as long as its options say and keeps its last weights.
FIRST_FIXED: dict[str, Value] = {
    "distributed-world-size": 1,
    "disable-validation": True,
    "log-format": "json",
    "no-epoch-checkpoints": True,
    "no-save-optimizer-state": True,
}
LAST = "checkpoint_last.pt"


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
        first: those of its first stage, which then is what starts from the encoder; empty
            where there is none.
    """

    id: str
    setting: Setting
    grid_keys: tuple[str, ...]
    data: BinarizedData
    encoder: Encoder
    options: Mapping[str, Value] = field(repr=False)
    first: Mapping[str, Value] = field(repr=False, default_factory=dict)

    def arguments(self, folder: Path, on_cpu: bool, keeps_all: bool = False) -> list[str]:
        """Arguments of the ``fairseq-train`` that this trial stands for; it saves in ``folder``."""
        start = training.short_path(folder / FIRST_STAGE / LAST)
        options = {
            **self.options,
            **FIXED,
            **({} if keeps_all else dict.fromkeys(BEST_ONLY, True)),
        }
        return self._arguments(options, start if self.first else self.encoder.path, folder, on_cpu)

    def first_arguments(self, folder: Path, on_cpu: bool) -> list[str]:
        """Those of its first stage, from whose last weights it starts; empty without one."""
        if not self.first:
            return []
        once = {"save-interval": self.first.get("max-epoch")}  # at its end
        options = {**self.first, **FIRST_FIXED, **once}
        return self._arguments(options, self.encoder.path, folder / FIRST_STAGE, on_cpu)

    def _arguments(
        self, options: Mapping[str, Value], start: str, save_dir: Path, on_cpu: bool
    ) -> list[str]:
        options = {
            "user-dir": training.user_dir(),
            ENCODER_OPTION: start,
            "save-dir": training.short_path(save_dir),
            "task": "sentence_prediction",
            "num-classes": len(self.data.labels),
            SEPARATOR: self._separator(),
            **options,
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
        """Epochs it runs, in both stages, where a number of them is set."""
        found = [one.get("max-epoch") for one in (self.first, self.options) if one]
        return None if None in found else sum(found)
