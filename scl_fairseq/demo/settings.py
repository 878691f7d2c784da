"""What a demo runs, and where it writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from scl_fairseq.data.tasks import TASKS
from scl_fairseq.training.recipes import Recipe, recipe_for

TASK = TASKS["SST-2"]  # the synthetic corpus has the layout of SST-2 as well


@dataclass(frozen=True)
class DemoSettings:
    """What a demo runs.

    Attributes:
        out: folder for everything it writes.
        glue_dir: folder with ``SST-2/``; None for the synthetic corpus.
        num_examples: N, labelled training sentences in total.
        num_samples: how many training samples.
        epochs, scl_lambda, scl_temperature: in place of the recipe's.
        seed: of the draw; sample i trains with seed + i.
        workers: trainings side by side on a CPU; None for one a core.
    """

    out: Path
    glue_dir: Path | None = None
    num_examples: int = 100
    num_samples: int = 8
    epochs: int | None = None
    scl_lambda: float | None = None
    scl_temperature: float | None = None
    seed: int = 1
    workers: int | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe for so many examples, changed as was asked."""
        names = ("epochs", "scl_lambda", "scl_temperature")
        asked = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(recipe_for(self.num_examples), **asked)

    @property
    def kind(self) -> str:
        """Of the data, for people."""
        return "SST-2" if self.glue_dir else "SYNTHETIC"

    @property
    def encoder(self) -> Path:
        """Folder of fairseq's form of the encoder."""
        return self.out / "encoder"

    @property
    def drawn(self) -> Path:
        """Folder of all that is made of one draw of samples; other draws leave it alone."""
        return self.out / f"{self.kind.lower()}-{self.num_examples}-seed{self.seed}"

    def sample(self, index: int) -> Path:
        """Folder of a sample's tables."""
        return self.drawn / "samples" / f"sample{index}"
