"""The ``fairseq-train`` lines that a training stands for: one, or two where it has two stages."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import scl_fairseq
from scl_fairseq.data.binarized import BinarizedData
from scl_fairseq.embeddings import CLS
from scl_fairseq.experiments.fairseq_options import CHOICES, known_options, refusal
from scl_fairseq.experiments.settings import FIRST_STAGE, Value
from scl_fairseq.experiments.training import as_arguments
from scl_fairseq.experiments.trial import BEST_ONLY, ENCODER_OPTION, FIRST_FIXED, FIXED, LAST
from scl_fairseq.experiments.trial_schedule import of_ratio
from scl_fairseq.experiments.trials import DEFAULTS
from scl_fairseq.text.choices import has_separator
from scl_fairseq.text.dictionary import EOS
from scl_fairseq.training.choices import CE, CE_SCL, INFOCSE, SIMCSE, SUPCON
from scl_fairseq.training.encoders import TrainingEncoder
from scl_fairseq.training.further_options import FurtherOptions
from scl_fairseq.training.recipes import CE as RECIPE_CE
from scl_fairseq.training.recipes import LINEAR, WARMUP_RATIO, recipe_for
from scl_fairseq.training.recipes import SCL as RECIPE_SCL

OF_TERM = "scl-"
SECOND_STAGE: dict[str, Value] = {"scl-lambda": 0, **LINEAR}
# Temperatures of the criterions' own papers.
FIRST_STAGES: dict[str, dict[str, Value]] = {
    SUPCON: {"criterion": SUPCON, "scl-temperature": 0.1},
    SIMCSE: {"criterion": SIMCSE, "scl-temperature": 0.05},
    INFOCSE: {"criterion": INFOCSE, "scl-temperature": 0.05},
}
WITHOUT_LABELS = (SIMCSE, INFOCSE)
LONGEST_SENTENCE = 128  # positions of what they contrast


@dataclass(frozen=True)
class Stage:
    """One ``fairseq-train``.

    Attributes:
        arguments: its own.
        updates: how many it makes; None where options leave that open.
        save_dir: where it saves.
    """

    arguments: tuple[str, ...]
    updates: int | None
    save_dir: Path


@dataclass(frozen=True)
class Plan:
    """A training that fairseq's parser accepts.

    Attributes:
        stages: one or two.
        recipe: the settings of it, by option.
        threads: that it computes with.
    """

    stages: tuple[Stage, ...]
    recipe: Mapping[str, Value]
    threads: int

    def lines(self) -> list[str]:
        """What to type for the same weights, from any folder."""
        program = Path(sys.executable).parent / "fairseq-train"
        start = f"OMP_NUM_THREADS={self.threads} {shlex.quote(str(program))}"
        return [f"{start} {shlex.join(stage.arguments)}" for stage in self.stages]


@dataclass(frozen=True)
class Wanted:
    """What a user decides.

    Attributes:
        loss: one of ``LOSSES``.
        seed: of the training.
        threads: that it computes with.
        on_cpu: although there may be a GPU.
        further: options of ``fairseq-train``, as typed.
    """

    loss: str
    seed: int
    threads: int
    on_cpu: bool
    further: tuple[str, ...] = ()


def make_plan(
    data: BinarizedData, encoder: TrainingEncoder, wanted: Wanted, out: Path, bpe_dir: Path
) -> Plan:
    """Plan a training.

    Args:
        data: binarised.
        encoder: what it starts from.
        wanted: by the user.
        out: where it saves; absolute.
        bpe_dir: copies of the files of the encoding.

    Raises:
        ValueError: an option contradicts data or weights, or fairseq refuses it.
    """
    if wanted.loss in WITHOUT_LABELS and data.num_inputs > 1:
        raise ValueError(
            f"--loss {wanted.loss} contrasts single texts, and these are pairs; "
            f"--loss {CE_SCL}, {CE} or {SUPCON} take pairs"
        )
    further = FurtherOptions(wanted.further)
    further.check_device(wanted.on_cpu)
    further.check_ranges()
    recipe = _recipe(data, encoder, wanted.loss)
    common = {
        **_from_data(data, encoder),
        **encoder.bpe_options(bpe_dir),
        "seed": wanted.seed,
        "cpu": wanted.on_cpu,
    }
    if wanted.loss in (CE, CE_SCL):
        options = {**common, **recipe, ENCODER_OPTION: str(encoder.path), "save-dir": str(out)}
        stages = (_stage(data, encoder, {**options, **FIXED, **_best_only()}, further, wanted),)
    else:
        stages = _two_stages(data, encoder, wanted, out, common, recipe, further)
    return Plan(stages, recipe, wanted.threads)


def _best_only() -> dict[str, Value]:
    return dict.fromkeys(BEST_ONLY, True)


def _recipe(data: BinarizedData, encoder: TrainingEncoder, loss: str) -> dict[str, Value]:
    found = recipe_for(data.num_examples["train"], len(data.labels), data.num_inputs)
    return found.options(
        RECIPE_SCL if loss == CE_SCL else RECIPE_CE, pooling=encoder.pooling or CLS
    )


def _from_data(data: BinarizedData, encoder: TrainingEncoder) -> dict[str, Value]:
    is_separated = data.num_inputs == 2 and has_separator(encoder.bpe)
    return {
        "user-dir": str(Path(scl_fairseq.__file__).absolute().parent),
        "task": "sentence_prediction",
        "num-classes": len(data.labels),
        "separator-token": EOS if is_separated else None,
        **DEFAULTS,
    }


def _two_stages(
    data: BinarizedData,
    encoder: TrainingEncoder,
    wanted: Wanted,
    out: Path,
    common: Mapping[str, Value],
    recipe: Mapping[str, Value],
    further: FurtherOptions,
) -> tuple[Stage, ...]:
    """A contrastive training of the encoder, to which further options go; then a classifier."""
    before = out / FIRST_STAGE
    own = {k: v for k, v in recipe.items() if k not in ("scl-lambda", "head-init", "head-lr")}
    epochs = further.get("max-epoch", recipe["max-epoch"])
    first = {
        **common,
        **own,
        **FIRST_STAGES[wanted.loss],
        **FIRST_FIXED,
        "validate-interval": None,
        "save-interval": epochs,
        ENCODER_OPTION: str(encoder.path),
        "save-dir": str(before),
    }
    if wanted.loss in WITHOUT_LABELS:
        left_out = ("num-classes", "separator-token", "init-token")
        first = {k: v for k, v in first.items() if k not in left_out}
        first |= {
            "task": "sentence_embedding",
            "max-length": min(LONGEST_SENTENCE, encoder.max_positions),
        }
    second = {
        **common,
        **recipe,
        **SECOND_STAGE,
        **FIXED,
        **_best_only(),
        ENCODER_OPTION: str(before / LAST),
        "save-dir": str(out),
    }
    return (
        _stage(data, encoder, first, further, wanted),
        _stage(data, encoder, second, FurtherOptions(()), wanted),
    )


def _stage(
    data: BinarizedData,
    encoder: TrainingEncoder,
    options: dict[str, Value],
    further: FurtherOptions,
    wanted: Wanted,
) -> Stage:
    further.check_against(_decided(options, encoder, wanted))
    options, updates = further.merge(options, data.num_examples["train"], _of_ratio)
    flags = [*encoder.flags]
    if "pooler-activation-fn" in options and "--pooler-activation-fn" in flags:
        at = flags.index("--pooler-activation-fn")
        del flags[at : at + 2]
    start = [str(data.folder), *flags]

    own = [*start, *as_arguments(options)]
    arguments = [*own, *further.words]
    _check(arguments, own, further)
    return Stage(tuple(arguments), updates, Path(str(options["save-dir"])))


def _of_ratio(scheduler: Value, updates: int) -> dict[str, Value]:
    return of_ratio(scheduler, WARMUP_RATIO, updates)


def _decided(
    options: Mapping[str, Value], encoder: TrainingEncoder, wanted: Wanted
) -> dict[str, tuple[Value, str]]:
    """What options may not change, and where it comes from."""
    weights = f"the weights of {encoder.path}"
    found: dict[str, tuple[Value, str]] = {}
    for name, value in zip(encoder.flags[::2], encoder.flags[1::2], strict=True):
        found[name.removeprefix("--")] = value, weights
    for name in ("num-classes", "separator-token", "init-token", "required-batch-size-multiple"):
        found[name] = options.get(name), "the data"
    for name in ("task", "criterion"):
        found[name] = options.get(name), f"--loss {wanted.loss}"
    for name, value in (("train-subset", "train"), ("valid-subset", "valid")):
        found[name] = value, "the data"
    if encoder.pooling:
        found["head-pooling"] = encoder.pooling, weights
    if wanted.loss == CE:
        found["scl-lambda"] = 0, f"--loss {CE}; --loss {CE_SCL} has the term"
    for name in ("bpe", *(key for key in options if key.endswith(("-vocab", "-json", "-model")))):
        found[name] = options.get(name), "--encoder"
    for name, by in (
        (ENCODER_OPTION, "--encoder"), ("restore-file", "--encoder"), ("save-dir", "--out"),
        ("user-dir", "this package"), ("distributed-world-size", "scl-train"),
        ("no-epoch-checkpoints", "scl-train"), ("regression-target", "labels, which are classes"),
        ("no-save", "scl-train"), ("disable-validation", "scl-train"),
        ("no-last-checkpoints", "scl-train"), ("no-save-optimizer-state", "scl-train"),
        ("reset-optimizer", "scl-train"), ("reset-dataloader", "scl-train"),
        ("reset-meters", "scl-train"), ("reset-lr-scheduler", "scl-train"),
        ("seed", "--seed"),
    ):  # fmt: skip
        found[name] = options.get(name), by
    return found


def _check(arguments: Sequence[str], own: Sequence[str], further: FurtherOptions) -> None:
    """Ask fairseq's parser; ``own`` are the arguments without further options.

    Raises:
        ValueError: it refuses one.
    """
    choices = [f"--{name}={further.values[name]}" for name in CHOICES if name in further.values]
    known = known_options([*own, *choices]) if further.words else set()
    for name in further.typed if known else ():
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"{name}: neither scl-train nor fairseq-train has this option{hint}")
    refused = refusal(arguments)
    if refused is not None:
        raise ValueError(f"fairseq-train refuses it: {refused}")


def told_recipe(recipe: Mapping[str, Value], further: Sequence[str]) -> str:
    """The settings of a recipe, for people."""
    names = ("max-epoch", "batch-size", "lr", "head-lr", "head-init", "scl-lambda",
             "scl-temperature", "head-pooling")  # fmt: skip
    told = ", ".join(f"{name} {recipe[name]}" for name in names if name in recipe)
    more = f"; then as told: {shlex.join(further)}" if further else ""
    return told + more
