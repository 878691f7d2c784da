"""Frozen encoder, CE and CE+SCL on few-shot samples, from text to a table."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from scl_fairseq.checkpoints.embedded import ENCODER_PACKAGE
from scl_fairseq.demo import report
from scl_fairseq.demo.data import prepare_data, prepare_encoder, words_alone
from scl_fairseq.demo.settings import DemoSettings
from scl_fairseq.demo.systems import Trainings
from scl_fairseq.experiments.training import short_path
from scl_fairseq.files import check_unsplit, write_text
from scl_fairseq.training.recipes import SCL

MARK = "demo.txt"
WORDS = "words alone"


class TrainingError(RuntimeError):
    """A training failed; the message says where it is said why."""


def run_demo(settings: DemoSettings) -> Path:
    """Run the demo and print what it finds; returns the figure's path.

    A training whose result is there already, from the same settings and data, is not run again.

    Raises:
        ValueError, OSError: data or encoder are missing or malformed.
        TrainingError: a training failed.
    """
    started = time.monotonic()
    _claim(settings.out)
    _say(f"[1/4] encoder: checking and converting {ENCODER_PACKAGE}")
    encoder = prepare_encoder(settings)
    source = f"{settings.glue_dir}/SST-2" if settings.glue_dir else "a synthetic corpus"
    _say(
        f"[2/4] data: {settings.num_samples} samples of {settings.num_examples} sentences from "
        f"{source}"
    )
    prepare_data(settings)
    trainings = Trainings(settings, encoder)
    lines = trainings.commands()
    script = settings.out / "commands.sh"
    write_text(script, "".join(f"{line}\n" for line in lines))
    _say(f"[3/4] training: {len(lines)} runs, logs: {short_path(trainings.folder)}/*/train.log")
    failed = trainings.run()
    if failed:
        failures = short_path(settings.drawn / "sweep" / "failures.jsonl")
        raise TrainingError(f"{failed} trainings have failed; {failures} says why")
    _say("[4/4] figure: t-SNE of the test sentences' embeddings, sample 0")
    figure = report.draw(settings, trainings.models())
    report.print_table(settings, {WORDS: words_alone(settings), **trainings.correct()})
    print(f"\nFigure: {short_path(figure)}")
    print(f"The CE+SCL model of sample 0: {short_path(_link(settings, trainings.models()[SCL]))}")
    print(f"The trainings, to repeat any of them: {short_path(script)}")
    print(f"Took {time.monotonic() - started:.0f} s.", file=sys.stderr)
    return figure


def _link(settings: DemoSettings, folder: Path) -> Path:
    """A name that people can type for a training's folder."""
    link, new = settings.out / "model", settings.out / "model.new"
    new.unlink(missing_ok=True)
    new.symlink_to(folder.relative_to(settings.out))
    new.replace(link)
    return link


def _say(text: str) -> None:
    print(text, flush=True)


def _claim(out: Path) -> None:
    """Mark the folder as a demo's; another folder that is not empty is left alone."""
    check_unsplit(short_path(out))
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise ValueError(f"--out {out} holds something else; name a new or an empty folder")
    write_text(out / MARK, "Written by the demo of scl-fairseq, which replaces what is here.\n")
