"""The trainings of the demo: planned as commands, run once, judged on the test half."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import scl_fairseq
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.experiments import training
from scl_fairseq.experiments.progress import EpochProgress
from scl_fairseq.files import write_text

TASK = TASKS["SST-2"]  # the synthetic corpus has the layout of SST-2 as well
BATCH_SIZE = 16
RESULT = "result.json"


@dataclass(frozen=True)
class DemoSettings:
    """What a demo runs.

    Attributes:
        out: folder for everything it writes.
        glue_dir: folder with ``SST-2/``; None for the synthetic corpus.
        num_examples: N, labelled training sentences in total.
        num_samples: how many training samples.
        epochs: of each training.
        scl_lambda: weight of SCL in the CE+SCL runs.
        scl_temperature: tau in the CE+SCL runs.
        seed: of the draw; sample i trains with seed + i.
    """

    out: Path
    glue_dir: Path | None = None
    num_examples: int = 100
    num_samples: int = 3
    epochs: int = 30
    scl_lambda: float = 0.9
    scl_temperature: float = 0.3
    seed: int = 1

    @property
    def losses(self) -> dict[str, float]:
        """Name of each loss and its lambda."""
        return {"CE": 0.0, "CE+SCL": self.scl_lambda}


@dataclass(frozen=True)
class Run:
    """One training: which loss, on which sample, by which command, into which folder."""

    loss: str
    sample: int
    folder: Path
    command: list[str]

    @property
    def checkpoint(self) -> Path:
        """The weights of its best epoch."""
        return self.folder / "checkpoint_best.pt"


def plan(settings: DemoSettings, encoder_flags: list[str], loss: str, sample: int) -> Run:
    """The training of one loss on one sample, as a ``fairseq-train`` command."""
    import torch

    path, out = training.short_path, settings.out
    folder = out / "runs" / f"{loss.lower().replace('+', '-')}-sample{sample}"
    updates = settings.epochs * -(-settings.num_examples // BATCH_SIZE)
    # Validation is most of a few-shot run on a CPU: every 5 epochs, and after the last one.
    interval = next(i for i in (5, 4, 3, 2, 1) if settings.epochs % i == 0)
    options = {
        "user-dir": training.user_dir(),
        "finetune-from-model": path(out / "encoder" / "model.pt"),
        "save-dir": path(folder),
        "task": "sentence_prediction",
        "num-classes": len(TASK.labels),
        "init-token": 0,
        "bpe": "wordpiece",
        "wordpiece-vocab": path(out / "encoder" / "vocab.txt"),
        "criterion": "sentence_prediction_scl",
        "scl-lambda": settings.losses[loss],
        "scl-temperature": settings.scl_temperature,
        "batch-size": BATCH_SIZE,
        "required-batch-size-multiple": 1,
        "distributed-world-size": 1,  # else every GPU there is takes a batch of its own
        "num-workers": 0,
        "optimizer": "adam",
        "adam-betas": "(0.9,0.98)",
        "adam-eps": 1e-6,
        "weight-decay": 0.1,
        "lr": 5e-5,
        "lr-scheduler": "polynomial_decay",
        "total-num-update": updates,
        "warmup-updates": round(0.06 * updates),
        "max-epoch": settings.epochs,
        "seed": settings.seed + sample,
        "validate-interval": interval,
        "save-interval": interval,
        "best-checkpoint-metric": "accuracy",
        "log-format": "json",
    }
    flags = [
        "--maximize-best-checkpoint-metric",
        # Only the weights of the best epoch: 90 MB a run instead of 500.
        "--no-epoch-checkpoints",
        "--no-last-checkpoints",
        "--no-save-optimizer-state",
    ]
    if not torch.cuda.is_available():
        flags.append("--cpu")
    command = [training.fairseq_train(), path(out / "bin" / f"sample{sample}")]
    command += [*training.as_arguments(options), *encoder_flags, *flags]
    return Run(loss, sample, folder, command)


def train_all(
    settings: DemoSettings, samples: Sequence[Path], runs: Sequence[Run]
) -> dict[str, list[float]]:
    """Test accuracies in percent of each loss, sample by sample."""
    accuracies: dict[str, list[float]] = {loss: [] for loss in settings.losses}
    progress = EpochProgress(len(runs) * settings.epochs)
    for number, run in enumerate(runs, start=1):
        # What decides the result, so that an interrupted demo is taken up and a changed one redone.
        inputs = {
            "command": run.command,
            "manifest": json.loads((samples[run.sample] / "manifest.json").read_text("utf-8")),
        }
        result = _known_result(run, inputs)
        if result is None:
            # The result first: a later run must not find it beside other weights.
            (run.folder / RESULT).unlink(missing_ok=True)
            run.checkpoint.unlink(missing_ok=True)
            training.run(run.command, run.folder / "train.log", lambda _: progress.advance())
            result = _evaluate(settings, run, samples[run.sample])
            write_text(
                run.folder / RESULT,
                json.dumps({**inputs, "test_accuracy": result}, allow_nan=False) + "\n",
            )
        else:
            progress.advance(settings.epochs, trained=False)
        accuracies[run.loss].append(result)
        progress.report(
            f"      {number}/{len(runs)} {run.loss:6} sample {run.sample}: "
            f"test accuracy {result:.1f} %"
        )
    progress.close()
    return accuracies


def _known_result(run: Run, inputs: dict) -> float | None:
    try:
        result = json.loads((run.folder / RESULT).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    is_same = all(result.get(key) == value for key, value in inputs.items())
    return result["test_accuracy"] if is_same and run.checkpoint.exists() else None


def load(settings: DemoSettings, run: Run):
    """Load the best epoch of a run into fairseq's hub interface."""
    return scl_fairseq.load(run.checkpoint, settings.out / "bin" / f"sample{run.sample}")


def _evaluate(settings: DemoSettings, run: Run, sample: Path) -> float:
    """Accuracy in percent on the test half, from raw sentences through fairseq's hub interface."""
    rows = read_rows(TASK, sample / "test.tsv")
    predicted = load(settings, run).predict([row.sentences for row in rows]).labels
    correct = sum(label == row.label for label, row in zip(predicted, rows, strict=True))
    return 100 * correct / len(rows)
