"""CE against CE+SCL on few-shot samples, from text to a table, with an encoder that installs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.checkpoints.embedded import (
    ABOUT_ENCODER,
    ENCODER_PACKAGE,
    convert_encoder,
)
from scl_fairseq.data import sampling, synthetic
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.records import read_rows
from scl_fairseq.experiments import tables, training
from scl_fairseq.experiments.demo_runs import TASK, DemoSettings, Run, load, plan, train_all
from scl_fairseq.files import check_unsplit, write_text

CLASS_NAMES = ("negative", "positive")
ABOUT_SYNTHETIC = (
    "Data: a SYNTHETIC sentiment corpus that this project generates, not natural text; "
    "for SST-2: make demo GLUE_DIR=<folder that holds SST-2/train.tsv and dev.tsv>."
)
MARK = "demo.txt"


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
        plan(settings, encoder_flags, loss, index)
        for index in range(settings.num_samples)
        for loss in settings.losses
    ]
    logs = training.short_path(settings.out / "runs")
    print(
        f"[3/4] training: {len(runs)} runs of {settings.epochs} epochs, logs: {logs}/*/train.log",
        flush=True,
    )
    accuracies = train_all(settings, samples, runs)
    print("[4/4] figure: t-SNE of the test sentences' CLS embeddings, sample 0", flush=True)
    figure = _draw(settings, samples[0], [run for run in runs if run.sample == 0])
    _print_report(settings, samples[0], runs, accuracies)
    print(f"\nFigure: {training.short_path(figure)}")
    return figure


def _claim(out: Path) -> None:
    """Mark the folder as a demo's; another folder that is not empty is left alone."""
    check_unsplit(training.short_path(out))
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise ValueError(f"--out {out} holds something else; name a new or an empty folder")
    write_text(out / MARK, "Written by the demo of scl-fairseq, which replaces what is here.\n")


def _source_name(settings: DemoSettings) -> str:
    return f"{settings.glue_dir}/SST-2" if settings.glue_dir else "a synthetic corpus"


def _prepare_encoder(folder: Path) -> list[str]:
    return list(convert_encoder(folder).flags)


def _prepare_data(settings: DemoSettings) -> list[Path]:
    out = settings.out
    if settings.glue_dir:
        source = settings.glue_dir / "SST-2"
    else:
        source = out / "synthetic"
        synthetic.write_corpus(source, seed=settings.seed)
    written = sampling.write_samples(
        TASK,
        source,
        out / "samples",
        sampling.Size(settings.num_examples),
        settings.num_samples,
        settings.seed,
    )
    wordpiece = Settings("wordpiece", out / "encoder")
    for sample in written.folders:
        preprocess(TASK, sample, out / "bin" / sample.name, wordpiece)
    return written.folders


def _draw(settings: DemoSettings, sample: Path, runs: Sequence[Run]) -> Path:
    from scl_fairseq.experiments import figures

    rows = read_rows(TASK, sample / "test.tsv")
    sentences = [row.sentences for row in rows]
    panels = {}
    for run in runs:
        scl_lambda, tau = settings.losses[run.loss], settings.scl_temperature
        name = f"{run.loss} (λ = {scl_lambda:g}, τ = {tau:g})" if scl_lambda else run.loss
        panels[name] = load(settings, run).embed(sentences).numpy()
    figure = settings.out / "tsne.png"
    kind = "SST-2" if settings.glue_dir else "synthetic"
    size = f"N = {settings.num_examples}"
    figures.tsne_panels(
        panels,
        [TASK.labels.index(row.label) for row in rows],
        CLASS_NAMES,
        figure,
        f"CLS embeddings of {len(rows)} {kind} test sentences, {size}, sample 0",
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
