"""Who takes part: which module is a trial of it, in which environment, with which settings."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pipelines import ROOT
from scl_fairseq.training.recipes import CE, SCL, WARMUP_RATIO, recipe_for

MAX_LENGTH = 256  # tokens: what the encoder was trained with
SETFIT_ENVIRONMENT = Path(os.environ.get("SETFIT_ENV", ROOT / ".venv-setfit"))


@dataclass(frozen=True)
class Contender:
    """One of them.

    Attributes:
        title: in tables.
        module: of ``benchmarks.contest``, run as a process.
        settings: for a number of training examples, of one sentence or of pairs, in so many
            classes.
        python: interpreter.
    """

    title: str
    module: str
    settings: Callable[[int, int, int], Mapping[str, Any]]
    python: Path = Path(sys.executable)


def frozen(num_examples: int, num_inputs: int, num_classes: int) -> Mapping[str, Any]:
    """Settings of logistic regression."""
    return {"C": [0.1, 0.3, 1, 3, 10, 30, 100]}


def set_fit(num_examples: int, num_inputs: int, num_classes: int) -> Mapping[str, Any]:
    """Settings of SetFit: its defaults, and a cap on steps where an epoch of pairs is long.

    From N = 300 on a step more is allowed where texts are short: about 5 CPU minutes a trial.
    """
    most = 100 if num_examples <= 300 else 300
    return {
        **{"lr": 2e-5, "epochs": 1, "batch_size": 16},
        **{"least_steps": 100, "most_steps": most, "most_words": 150_000},
    }


def hugging_face(num_examples: int, num_inputs: int, num_classes: int) -> Mapping[str, Any]:
    """Settings of Hugging Face's fine-tuning: its Trainer's defaults, but for these."""
    epochs = 30 if num_examples <= 50 else 10 if num_examples <= 300 else 3
    return {"lr": 1e-4, "epochs": epochs, "batch_size": 16, "validations": 10}


def ours(loss: str) -> Callable[[int, int, int], Mapping[str, Any]]:
    """Settings of this project's trainings, with one of its losses."""

    def settings(num_examples: int, num_inputs: int, num_classes: int) -> Mapping[str, Any]:
        options = recipe_for(num_examples).options(loss, pooling="mean")
        return {"warmup-ratio": WARMUP_RATIO, **options}

    return settings


CONTENDERS = {
    "frozen": Contender("logistic regression on frozen vectors", "frozen", frozen),
    "setfit": Contender("SetFit", "set_fit", set_fit, SETFIT_ENVIRONMENT / "bin" / "python"),
    "huggingface": Contender("Hugging Face, fine-tuned", "hugging_face", hugging_face),
    "ce": Contender("CE (this project)", "ours", ours(CE)),
    "scl": Contender("CE+SCL (this project)", "ours", ours(SCL)),
}
