"""The trainings of the demo: a sweep over what is compared and over samples."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.huggingface import Conversion
from scl_fairseq.demo.settings import TASK, DemoSettings
from scl_fairseq.experiments import training
from scl_fairseq.experiments.result_files import TRIALS
from scl_fairseq.experiments.results import Result, predictions_of, read_results
from scl_fairseq.experiments.settings import SYSTEM
from scl_fairseq.experiments.sweep import OnEvent, Plan, Task, commands, plan, run_sweep
from scl_fairseq.experiments.sweep_config import config_of
from scl_fairseq.experiments.sweep_display import SweepDisplay
from scl_fairseq.experiments.trial import Trial
from scl_fairseq.experiments.worker_pool import make_slots, run_tasks, visible_gpus
from scl_fairseq.training.recipes import LINEAR, LOSSES, WARMUP_RATIO

FROZEN = "frozen encoder"
SYSTEMS = (FROZEN, *LOSSES)


class Trainings:
    """All trainings of a demo.

    Args:
        settings: of the demo; encoder and data are there.
        encoder: that they start from.

    Raises:
        ValueError: the data is not what it should be.
    """

    def __init__(self, settings: DemoSettings, encoder: Conversion):
        import torch

        self._settings = settings
        self._out = settings.drawn / "sweep"
        gpus = visible_gpus(torch.cuda.device_count())
        self._on_cpu = not gpus
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        workers = settings.workers or (None if gpus else cores)
        self._slots = make_slots(gpus, cores or 1, workers, threads=1)
        config = config_of(_values(settings, encoder), "the demo")
        self.plan: Plan = plan(config, self._on_cpu)

    @property
    def folder(self) -> Path:
        """Of the trainings' own folders."""
        return self._out / TRIALS

    def run(self) -> int:
        """Run those that have no result yet; returns how many have failed."""
        with SweepDisplay() as display:
            return run_sweep(self.plan, self._out, "best", self._on_cpu, self._run, display)[1]

    def _run(self, tasks: Sequence[Task], on_event: OnEvent) -> None:
        shown = {trial.id for trial in self.plan.trials if trial.setting["sample"] == 0}
        chosen = [
            task if task["trial"] in shown else {**task, "keep": "none"} for task in tasks
        ]  # 90 MB of weights each: the figure shows sample 0
        run_tasks(chosen, self._slots, on_event)

    def commands(self) -> list[str]:
        """The ``fairseq-train`` lines, each with the threads that its result was made with."""
        lines = [
            line
            for trial in self.plan.trials
            for line in commands(self.plan, trial, self._out, self._on_cpu, "best")
        ]
        program = shlex.quote(training.fairseq_train())
        return [f"OMP_NUM_THREADS=1 {program} {line.split(' ', 1)[1]}" for line in lines]

    def correct(self) -> dict[str, list[list[bool]]]:
        """Of each system which test sentences it has right, sample by sample."""
        known: Mapping[str, Result] = {
            result.trial: result for result in read_results(self._out).results
        }
        found: dict[str, list[list[bool]]] = {system: [] for system in SYSTEMS}
        for trial in sorted(self.plan.trials, key=lambda trial: trial.setting["sample"]):
            right = predictions_of(known[trial.id]).correct
            found[trial.setting[SYSTEM]].append([bool(one) for one in right])
        return found

    def models(self) -> dict[str, Path]:
        """Folders of the models of sample 0, of the systems that train the encoder."""
        return {loss: self.folder / self._trial(loss).id for loss in LOSSES}

    def _trial(self, system: str) -> Trial:
        return next(
            trial
            for trial in self.plan.trials
            if trial.setting[SYSTEM] == system and trial.setting["sample"] == 0
        )


def _values(settings: DemoSettings, encoder: Conversion) -> dict[str, Any]:
    """The sweep, as its file would say it."""
    ce, scl = (settings.recipe.options(loss, encoder.pooling) for loss in LOSSES)
    samples = range(settings.num_samples)
    return {
        "name": "demo",
        "data": f"{training.short_path(settings.drawn / 'bin')}/sample{{sample}}",
        "warmup-ratio": WARMUP_RATIO,
        "grid": {
            "task": [TASK.name],
            "N": [settings.num_examples],
            SYSTEM: list(SYSTEMS),
            "sample": list(samples),
        },
        "options": {
            **{key: value for key, value in ce.items() if key not in LINEAR},
            "finetune-from-model": training.short_path(settings.encoder / "model.pt"),
            **_bpe(encoder),
        },
        "overrides": [
            {"when": {SYSTEM: FROZEN}, "options": LINEAR},
            *(
                {"when": {SYSTEM: loss}, "options": _differing(options, ce)}
                for loss, options in zip(LOSSES, (ce, scl), strict=True)
            ),
            *({"when": {"sample": i}, "options": {"seed": settings.seed + i}} for i in samples),
        ],
    }


def _bpe(encoder: Conversion) -> dict[str, str]:
    """Options that only fairseq's own hub interface needs, which asks the checkpoint for them."""
    files = dict(encoder.bpe_options)
    name = files.pop("_name")
    return {
        "bpe": name,
        **{o.replace("_", "-"): training.short_path(Path(path)) for o, path in files.items()},
    }


def _differing(options: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """What is not the same in all of the sweep's trainings."""
    return {
        name: value for name, value in options.items() if name in LINEAR or usual.get(name) != value
    }
