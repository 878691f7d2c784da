"""What ``scl-train`` shows while it works."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from scl_fairseq.data.binarized import BinarizedData
from scl_fairseq.training.encoders import TrainingEncoder
from scl_fairseq.training.plan import Plan, told_recipe
from scl_fairseq.training.train import Watch

RECIPES = "scl_fairseq/training/recipes.py, which says what they were measured on"


class Display:
    """The plan on standard output; notes and progress on standard error.

    On a terminal progress is a bar with the time left, elsewhere a line for each validation.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = 0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def watch(self, further: Sequence[str]) -> Watch:
        """What ``train`` is to tell it."""
        return Watch(
            note=lambda text: print(f"note: {text}", file=sys.stderr),
            planned=lambda plan, encoder, data: self._planned(plan, encoder, data, further),
            progress=self._progress,
        )

    def _planned(
        self, plan: Plan, encoder: TrainingEncoder, data: BinarizedData, further: Sequence[str]
    ) -> None:
        counts = ", ".join(f"{split} {count}" for split, count in data.num_examples.items())
        kind = "pairs" if data.num_inputs == 2 else "texts"
        print(f"data: {kind} of {len(data.labels)} classes ({', '.join(data.labels[:10])}"
              f"{', ...' if len(data.labels) > 10 else ''}); {counts}")  # fmt: skip
        print(encoder.about)
        print(f"recipe: {told_recipe(plan.recipe, further)}")
        print(f"  for {data.num_examples['train']} examples, from {RECIPES}")
        print("the same weights, from any folder, by:")
        for line in plan.lines():
            print(f"  {line}")
        print(flush=True)

    def _progress(self, stage: int, progress: Any) -> None:
        if progress.scores is not None:
            self._validated(progress)
        elif sys.stderr.isatty():
            self._draw(stage, progress)

    def _validated(self, progress: Any) -> None:
        accuracy = progress.scores.get("accuracy")
        told = f"dev accuracy {accuracy:.1f} %" if accuracy is not None else "validated"
        left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
        line = f"epoch {progress.epoch}: {told}{left}"
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _draw(self, stage: int, progress: Any) -> None:
        if self._bar is None or stage != self._stage:
            from tqdm import tqdm

            self._close()
            self._stage = stage
            self._bar = tqdm(total=progress.total, unit="update", leave=False, file=sys.stderr,
                             initial=progress.updates)  # fmt: skip
        self._bar.update(progress.updates - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
