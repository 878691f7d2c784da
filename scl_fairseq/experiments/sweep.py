"""A sweep: its trials are planned, those without a result are run, and each leaves one line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from scl_fairseq.checkpoints import embedded
from scl_fairseq.checkpoints.architecture import architecture_flags
from scl_fairseq.experiments import trials, worker
from scl_fairseq.experiments.earlier_results import check_same_inputs, note_of_others
from scl_fairseq.experiments.fairseq_options import OptionError, check_options
from scl_fairseq.experiments.result_files import (
    CONFIG,
    FAILURES,
    LOCK,
    LOG,
    RESULTS,
    TRIALS,
    LineFile,
    exclusive,
)
from scl_fairseq.experiments.settings import FIRST, FIRST_STAGE
from scl_fairseq.experiments.sweep_config import EMBEDDED, SweepConfig
from scl_fairseq.experiments.trial import Encoder, Trial
from scl_fairseq.experiments.trials import distinct_values
from scl_fairseq.experiments.worker import DONE, EPOCH, FAILED
from scl_fairseq.files import write_text

ENCODER = "encoder"
Task = dict[str, Any]
OnEvent = Callable[[Mapping[str, Any]], None]


class Watcher(Protocol):
    """Is told how a sweep goes on."""

    def note(self, text: str) -> None:
        """Something to know before it starts."""

    def start(self, trials: Sequence[Trial], known: Sequence[Mapping[str, Any]]) -> None:
        """All trials, and the results that are there already."""

    def epoch(self, trial: Trial, epoch: int) -> None:
        """An epoch of a trial has ended."""

    def done(self, trial: Trial, record: Mapping[str, Any]) -> None:
        """A trial has its result."""

    def failed(self, trial: Trial, error: str) -> None:
        """A trial has none."""


@dataclass(frozen=True)
class Plan:
    """What a sweep would do; nothing has been written yet."""

    config: SweepConfig
    trials: list[Trial]


def plan(config: SweepConfig, on_cpu: bool) -> Plan:
    """Plan a sweep and check everything that can be checked before the first trial.

    Raises:
        ValueError, OSError: the configuration, its data or its checkpoint are not right; the
            message names file and key.
    """
    encoder = None
    if config.encoder == EMBEDDED:
        flags = architecture_flags(embedded.find_encoder())
        encoder = Encoder("", embedded.ENCODER_SHA256, tuple(flags))
    planned = trials.plan(config, encoder)
    stages = [stage for trial in planned for stage in (trial.options, trial.first)]
    if on_cpu and any(stage.get("fp16") for stage in stages):
        raise ValueError(f"{config.source}: options.fp16: needs a GPU")
    for trial in distinct_values(planned):
        _check_with_fairseq(config, trial, on_cpu)
    return Plan(config, planned)


def _check_with_fairseq(config: SweepConfig, trial: Trial, on_cpu: bool) -> None:
    folder = Path(TRIALS) / trial.id
    own = (trial.options, lambda some: replace(trial, options=some).arguments(folder, on_cpu))
    first = (trial.first, lambda some: replace(trial, first=some).first_arguments(folder, on_cpu))
    for stage, (options, arguments_of) in {
        "": own,
        **({FIRST: first} if trial.first else {}),
    }.items():
        try:
            check_options(options, arguments_of)
        except OptionError as error:
            where = config.place_of(f"{stage}{error.key}", error.value)
            hint = (
                f"; the criterion of this {FIRST_STAGE} is {options['criterion']}, which "
                f"{FIRST}criterion changes"
            )
            is_unknown = "unrecognized" in str(error) and stage == FIRST
            raise ValueError(
                f"{config.source}: {where}: {error.value}: {error}{hint if is_unknown else ''}"
            ) from None


def commands(planned: Plan, trial: Trial, out: Path, on_cpu: bool, keep: str) -> list[str]:
    """The ``fairseq-train`` lines that a trial of ``planned`` stands for, in their order."""
    trial = _with_encoder(planned.config, {trial.id: trial}, out)[trial.id]
    folder = out / TRIALS / trial.id
    stages = [trial.first_arguments(folder, on_cpu)] if trial.first else []
    stages.append(trial.arguments(folder, on_cpu, keeps_all=keep == "all"))
    return [shlex.join(["fairseq-train", *arguments]) for arguments in stages]


def run_sweep(
    planned: Plan,
    out: Path,
    keep: str,
    on_cpu: bool,
    run_tasks: Callable[[Sequence[Task], OnEvent], None],
    watcher: Watcher,
) -> tuple[int, int]:
    """Run the trials that have no result yet.

    Args:
        planned: from ``plan``.
        out: folder of the results; made if it is not there.
        keep: which checkpoints stay, ``best``, ``all`` or ``none``.
        on_cpu: whether trials run without a GPU.
        run_tasks: runs tasks of ``worker`` and passes its events on.
        watcher: is told of everything.

    Returns:
        How many of the sweep's trials have a result, and how many have failed.

    Raises:
        ValueError: ``out`` holds something else, results of other data or another encoder, or is
            in use.
    """
    _claim(out)
    with exclusive(out):
        results = LineFile(out / RESULTS)
        failures = LineFile(out / FAILURES)
        by_id = {trial.id: trial for trial in planned.trials}
        others = [record for record in results.records if record["trial"] not in by_id]
        check_same_inputs(planned.config, planned.trials, others, out)
        note = note_of_others(planned.config, others, out)
        if note:
            watcher.note(note)
        known = {record["trial"] for record in results.records}
        _collect(out, by_id, known, results)
        if planned.config.encoder == EMBEDDED:
            embedded.convert_encoder(out / ENCODER)
        by_id = _with_encoder(planned.config, by_id, out)
        write_text(out / CONFIG, _as_yaml(planned.config))
        watcher.start(planned.trials, [r for r in results.records if r["trial"] in by_id])
        tasks = [
            _task(planned, trial, out, keep, on_cpu)
            for trial in by_id.values()
            if trial.id not in known
        ]
        failed = set()

        def on_event(event: Mapping[str, Any]) -> None:
            trial = by_id[event["trial"]]
            event = _with_result(event, out)
            if event["event"] == DONE and trial.id not in known:
                results.append(event["record"])
                known.add(trial.id)
                failed.discard(trial.id)
                watcher.done(trial, event["record"])
            elif event["event"] == FAILED:
                failed.add(trial.id)
                failures.append(_failure(trial, event["error"]))
                watcher.failed(trial, event["error"])
            elif event["event"] == EPOCH:
                watcher.epoch(trial, event["epoch"])

        if tasks:
            run_tasks(tasks, on_event)
        return len(known & by_id.keys()), len(failed)


def _claim(out: Path) -> None:
    is_ours = (out / LOCK).exists() or (out / RESULTS).exists()
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file")
    if out.exists() and not is_ours and any(out.iterdir()):
        raise ValueError(f"--out {out} holds something else; name a new or an empty folder")
    out.mkdir(parents=True, exist_ok=True)


def _collect(out: Path, by_id: Mapping[str, Trial], known: set[str], results: LineFile) -> None:
    """Take up results that a sweep which was killed has not written down."""
    for trial in by_id:
        path = out / TRIALS / trial / worker.RESULT
        if trial in known or not path.is_file():
            continue
        results.append(json.loads(path.read_text("utf-8")))
        known.add(trial)


def _with_result(event: Mapping[str, Any], out: Path) -> Mapping[str, Any]:
    """A failure is none if the worker died between writing its result and saying so."""
    path = out / TRIALS / event["trial"] / worker.RESULT
    if event["event"] != FAILED or not path.is_file():
        return event
    return {**event, "event": DONE, "record": json.loads(path.read_text("utf-8"))}


def _with_encoder(config: SweepConfig, by_id: Mapping[str, Trial], out: Path) -> dict[str, Trial]:
    """The trials with the place where the embedded encoder is converted to."""
    if config.encoder != EMBEDDED:
        return dict(by_id)
    from scl_fairseq.checkpoints.huggingface import CHECKPOINT
    from scl_fairseq.experiments.training import short_path

    folder = out / ENCODER
    encoder = Encoder(
        short_path(folder / CHECKPOINT),
        embedded.ENCODER_SHA256,
        (
            *architecture_flags(embedded.find_encoder()),
            *("--bpe", "wordpiece", "--wordpiece-vocab", short_path(folder / "vocab.txt")),
        ),
    )
    return {trial.id: replace(trial, encoder=encoder) for trial in by_id.values()}


def _as_yaml(config: SweepConfig) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dict(config.values)))


def _task(planned: Plan, trial: Trial, out: Path, keep: str, on_cpu: bool) -> Task:
    relative = f"{TRIALS}/{trial.id}"
    folder = out / relative
    return {
        "trial": trial.id,
        "first_stage": trial.first_arguments(folder, on_cpu),
        "arguments": trial.arguments(folder, on_cpu, keeps_all=keep == "all"),
        "folder": str(folder.absolute()),
        "relative": relative,
        "keep": keep,
        "labels": trial.data.labels,
        "record": {
            "trial": trial.id,
            "setting": trial.setting,
            "grid_keys": list(trial.grid_keys),
            "data": {"path": str(trial.data.folder), "sha256": trial.data.sha256},
            "encoder_sha256": trial.encoder.sha256,
            "command": " && ".join(commands(planned, trial, out, on_cpu, keep)),
        },
    }


def _failure(trial: Trial, error: str) -> dict[str, Any]:
    return {
        "trial": trial.id,
        "setting": trial.setting,
        "error": error,
        "log": f"{TRIALS}/{trial.id}/{LOG}",
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
