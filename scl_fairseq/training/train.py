"""From a table of texts to a folder with a classifier: what ``scl-train`` does."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scl_fairseq.data.binarized import BinarizedData, default_split
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.file_report import told_repeated
from scl_fairseq.data.preprocess import Report
from scl_fairseq.experiments.settings import FIRST_STAGE
from scl_fairseq.text.bpe_files import BPE_DIR
from scl_fairseq.training import encoders, folds
from scl_fairseq.training.inputs import Inputs, check_dictionary, open_prepared
from scl_fairseq.training.plan import Plan, Wanted, make_plan
from scl_fairseq.training.result import (
    CHECKPOINT,
    DATA,
    LOG,
    RECORD,
    check_room,
    forgotten_where_nothing_came,
    held,
    read_record,
    write_record,
)

BYTES_A_PARAMETER = 4
COPIES = 5  # the best weights twice while they are replaced, and a state: weights and two moments


@dataclass(frozen=True)
class Job:
    """A training that was asked for.

    Attributes:
        inputs: looked at.
        wanted: by the user.
        out: the folder of the result.
        encoder: as ``encoders.find`` takes it.
        max_length: positions to which texts are cut; None: those of the encoder.
        workers: processes that prepare the data.
        folds: of a cross-validation besides.
        evaluates: scores the best weights in the end.
    """

    inputs: Inputs
    wanted: Wanted
    out: Path
    encoder: str
    max_length: int | None = None
    workers: int = 1
    folds: int | None = None
    evaluates: bool = True


@dataclass
class Watch:
    """Who is told of what; by default nobody.

    Attributes:
        note: of a sentence.
        planned: of the plan, once it stands, and of its encoder and data.
        progress: of ``running.Progress``, and of the stage that it is in.
        prepared: of bytes that were prepared, and of how many there are.
    """

    note: Callable[[str], None] = lambda text: None
    planned: Callable[[Plan, encoders.TrainingEncoder, BinarizedData], None] = lambda *told: None
    progress: Callable[[int, Any], None] = lambda stage, progress: None
    prepared: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True)
class Trained:
    """What a training has left.

    Attributes:
        out: its folder.
        data: that it was trained on.
        record: of ``train.json``, with the scores.
        was_there: an earlier call had finished it.
    """

    out: Path
    data: BinarizedData
    record: dict[str, Any] = field(repr=False)
    was_there: bool = False


def train(job: Job, watch: Watch) -> Trained:
    """Train, or go on where an interrupted call of the same job was.

    Raises:
        ValueError, OSError: the job is not possible; what was there is as it was.
    """
    if job.folds:
        folds.check(job.inputs, job.folds)
    encoder = encoders.find(job.encoder, watch.note)
    with held(job.out):
        record = read_record(job.out)
        _check_same_data(job, record)
        if not record:
            check_room(job.out, encoder.path.stat().st_size * COPIES)
        data = _prepared(job, encoder, job.out / DATA, watch, is_again=bool(record))
        plan = _plan(job, data, encoder)
        asked = _asked(job, plan, data)
        if record:
            _check_same(job.out, record, asked)
        watch.planned(plan, encoder, data)
        if job.folds and record.get("folds_wanted") != job.folds:
            for name in ("folds", "folds_summary"):
                record.pop(name, None)
        was_there = bool(record.get("scores")) and (not job.folds or "folds_summary" in record)
        if not record:
            record = {**asked, "stages_done": 0, "scores": None}
            write_record(job.out, record)
        if not record["scores"]:
            with forgotten_where_nothing_came(job.out):
                _run_stages(job, plan, record, watch)
            record["scores"] = _scores_or_none(job, data) if job.evaluates else {}
            write_record(job.out, record)
        if job.folds and not was_there:
            record["folds_summary"] = _cross_validate(job, record, watch)
            write_record(job.out, record)
    return Trained(job.out, data, record, was_there)


def _cross_validate(job: Job, record: dict[str, Any], watch: Watch) -> dict[str, Any]:
    def train_and_score(fold: int, inputs: Inputs, out: Path) -> dict[str, Any]:
        watch.note(f"fold {fold + 1} of {job.folds}")
        own = replace(job, inputs=inputs, out=out, folds=None)
        return train(own, Watch(progress=watch.progress)).record["scores"]

    def on_fold(scores: list[Any]) -> None:
        record["folds"] = scores
        write_record(job.out, record)

    record["folds_wanted"] = job.folds
    return folds.cross_validate(
        job.inputs, job.folds or 0, job.wanted.seed, job.out, record.get("folds", []),
        train_and_score, on_fold,
    )  # fmt: skip


def plan_only(job: Job, watch: Watch, scratch: Path) -> None:
    """What ``train`` would do, told and not done; ``scratch`` is an empty folder.

    Raises:
        ValueError, OSError: as of ``train``.
    """
    if job.folds:
        folds.check(job.inputs, job.folds)
    encoder = encoders.find(job.encoder, watch.note)
    data = _prepared(job, encoder, scratch / DATA, watch, is_again=False)
    if job.inputs.task is not None:
        data = replace(data, folder=job.out / DATA)
    watch.planned(_plan(job, data, encoder), encoder, data)


def _plan(job: Job, data: BinarizedData, encoder: encoders.TrainingEncoder) -> Plan:
    copies = data.folder / BPE_DIR
    is_there = job.inputs.task is not None or copies.is_dir()
    bpe_dir = copies if is_there else encoder.bpe_dir
    return make_plan(data, encoder, job.wanted, job.out, bpe_dir)


def _prepared(
    job: Job, encoder: encoders.TrainingEncoder, destination: Path, watch: Watch, is_again: bool
) -> BinarizedData:
    """The binarised data, made where it is not there yet."""
    inputs = job.inputs
    if inputs.task is None:
        if job.max_length is not None:
            raise ValueError(f"--max-length: {inputs.path} is binarised already, and cut")
        check_dictionary(inputs, encoder.dictionary)
        return open_prepared(inputs.path)
    if not (is_again and destination.is_dir()):
        length = job.max_length or encoder.max_positions
        if length > encoder.max_positions:
            raise ValueError(
                f"--max-length {length}: the encoder has {encoder.max_positions} positions"
            )
        settings = Settings(encoder.bpe, encoder.bpe_dir, length)
        seed = job.wanted.seed
        report = inputs.prepare(destination, settings, seed, job.workers, watch.prepared)
        for note in _notes(report):
            watch.note(note)
    return open_prepared(destination)


def _notes(report: Report) -> list[str]:
    notes = []
    for file in report.files.values():
        notes += file.lines("truncate", report.max_positions)
    for name, count in report.repeated.items():
        notes.append(told_repeated(count, "dev" if name == "valid" else name))
    return notes


def _asked(job: Job, plan: Plan, data: BinarizedData) -> dict[str, Any]:
    """What makes a training the same one, its place apart."""
    return {
        "data": str(job.inputs.path.absolute()),
        "data_sha256": job.inputs.sha256,
        "binarised_sha256": data.sha256,
        "labels": list(data.labels),
        "loss": job.wanted.loss,
        "encoder": job.encoder,
        "seed": job.wanted.seed,
        "threads": plan.threads,
        "num_examples": dict(data.num_examples),
        "recipe": dict(plan.recipe),
        "further_options": list(job.wanted.further),
        "lines": plan.lines(),
    }


def _check_same_data(job: Job, record: dict[str, Any]) -> None:
    if record and record.get("data_sha256") != job.inputs.sha256:
        raise ValueError(
            f"--out {job.out} holds a training on other data ({record.get('data')}); name a new "
            "folder"
        )


def _check_same(out: Path, record: dict[str, Any], asked: dict[str, Any]) -> None:
    for name in ("labels", "loss", "encoder", "seed", "threads", "further_options",
                 "binarised_sha256", "lines"):  # fmt: skip
        if record.get(name) != asked[name]:
            told = f"another --{name}" if name != "lines" else "other options"
            short = all(len(str(one)) < 60 for one in (record.get(name), asked[name]))
            values = f" ({record.get(name)}, not {asked[name]})" if short else ""
            raise ValueError(
                f"--out {out} holds a training with {told.replace('_', ' ')}{values}; name a new "
                "folder, or give what it was begun with"
            )


def _run_stages(job: Job, plan: Plan, record: dict[str, Any], watch: Watch) -> None:
    from scl_fairseq.training.running import LAST, run

    for place, stage in enumerate(plan.stages):
        if place < record["stages_done"]:
            continue

        def tell(progress: Any, place: int = place) -> None:
            watch.progress(place, progress)

        run(stage.arguments, stage.updates, plan.threads, tell, job.out / LOG)
        if place + 1 < len(plan.stages):
            record["stages_done"] = place + 1
            write_record(job.out, record)
    if not (job.out / CHECKPOINT).is_file():
        raise ValueError(f"no epoch was validated and saved; {job.out / LOG} says why")
    (job.out / LAST).unlink(missing_ok=True)
    shutil.rmtree(job.out / FIRST_STAGE, ignore_errors=True)


def _scores_or_none(job: Job, data: BinarizedData) -> dict[str, Any]:
    """The scores; weights that are no numbers are of no use to anybody, and are taken away."""
    try:
        return _scores(job, data)
    except ValueError as error:
        if "finite" not in str(error):
            raise
        for name in (RECORD, CHECKPOINT):
            (job.out / name).unlink(missing_ok=True)
        raise ValueError(f"training has diverged; a smaller --lr may help ({error})") from None


def _scores(job: Job, data: BinarizedData) -> dict[str, Any]:
    """Of the best weights, by ``scl-evaluate``'s code."""
    import torch

    from scl_fairseq.experiments.evaluation_tables import text
    from scl_fairseq.inference.devices import find_device
    from scl_fairseq.inference.split_evaluation import evaluate
    from scl_fairseq.inference.split_predictions import predict_split

    split = default_split(data.folder)
    device = find_device("cpu" if job.wanted.on_cpu else None)
    checkpoint = job.out / CHECKPOINT
    before, disabled = torch.get_num_threads(), logging.root.manager.disable
    torch.set_num_threads(job.wanted.threads)
    logging.disable(logging.INFO)
    try:
        found = predict_split(checkpoint, data, split, device)
    finally:
        torch.set_num_threads(before)
        logging.disable(disabled)
    evaluation = evaluate(data, split, [(job.out.name, checkpoint, found)], str(device))
    scores = evaluation.checkpoints[0].scores
    return {
        "split": split,
        "num_examples": data.num_examples[split],
        "accuracy": scores.accuracy,
        "accuracy_interval": list(scores.accuracy_interval),
        "f1": scores.f1,
        "f1_label": scores.f1_label,
        "mcc": scores.mcc,
        "table": text(evaluation),
    }
