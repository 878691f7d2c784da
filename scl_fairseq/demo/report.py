"""What the demo prints and draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import scl_fairseq
from scl_fairseq.checkpoints.embedded import ABOUT_ENCODER
from scl_fairseq.demo.data import rows_of
from scl_fairseq.demo.settings import TASK, DemoSettings
from scl_fairseq.experiments import tables
from scl_fairseq.experiments.paired_difference import difference
from scl_fairseq.training.recipes import CE, SCL

CLASS_NAMES = ("negative", "positive")
ABOUT_SYNTHETIC = (
    "Data: a SYNTHETIC sentiment corpus that this project generates, not natural text; "
    "for SST-2: make demo GLUE_DIR=<folder that holds SST-2/train.tsv and dev.tsv>."
)


def draw(settings: DemoSettings, models: Mapping[str, Path]) -> Path:
    """t-SNE of what the heads read of the test sentences, a panel a loss; returns the figure."""
    from scl_fairseq.experiments import figures

    rows = rows_of(settings, 0, "test")
    sentences = [row.sentences for row in rows]
    panels = {}
    for loss, folder in models.items():
        name = loss
        if loss == SCL:
            recipe = settings.recipe
            name += f" (λ = {recipe.scl_lambda:g}, τ = {recipe.scl_temperature:g})"
        panels[name] = scl_fairseq.load(folder).embed(sentences).numpy()
    figure = settings.out / "tsne.png"
    figures.tsne_panels(
        panels,
        [TASK.labels.index(row.label) for row in rows],
        CLASS_NAMES,
        figure,
        f"Embeddings of {len(rows)} {settings.kind} test sentences, "
        f"N = {settings.num_examples}, sample 0",
    )
    return figure


def print_table(settings: DemoSettings, correct: Mapping[str, Sequence[Sequence[bool]]]) -> None:
    """Print accuracies and paired differences.

    Args:
        settings: of the demo.
        correct: of each system, sample by sample, whether each test sentence was right.
    """
    right = {name: 100 * np.array(found, dtype=float) for name, found in correct.items()}
    header = ["", *(str(index) for index in range(settings.num_samples)), "mean ± sd"]
    rows = []
    for name, values in right.items():
        accuracies = values.mean(axis=1).tolist()
        rows.append([name, *(f"{a:.1f}" for a in accuracies), tables.mean_and_sd(accuracies)])
    recipe, num_test = settings.recipe, right[CE].shape[1]
    print(
        f"\nTest accuracy in percent on {num_test} {settings.kind} sentences, N = "
        f"{settings.num_examples}, by sample\n(λ = {recipe.scl_lambda:g}, τ = "
        f"{recipe.scl_temperature:g}, lr {recipe.lr:g}, {recipe.epochs} epochs, of which the best "
        "by validation; sd over samples)\n"
    )
    print(tables.markdown(header, rows))
    print()
    for other in [name for name in right if name != SCL]:
        print(f"{SCL} − {other}: {_gain(right[SCL] - right[other])}")
    print(f"\n{ABOUT_ENCODER}")
    if not settings.glue_dir:
        print(ABOUT_SYNTHETIC)


def _gain(table: np.ndarray) -> str:
    found = difference([table])
    if found.interval is None:
        return f"{found.mean:+.1f} points (one sample: no interval)"
    low, high = found.interval
    return (
        f"{found.mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f} "
        f"over {table.shape[0]} samples and {table.shape[1]} test sentences"
    )
