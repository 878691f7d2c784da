"""What the search tries: one thing at a time, from a base for each number of examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from scl_fairseq.experiments.settings import Value
from scl_fairseq.training.recipes import CE, SCL, Recipe

BASE = "base"


class Arm(NamedTuple):
    """A way to train.

    Attributes:
        name: in tables.
        recipe: its settings.
        loss: ``CE`` or ``CE+SCL``.
        more: options of ``fairseq-train`` beside the recipe's.
    """

    name: str
    recipe: Recipe
    loss: str = SCL
    more: Mapping[str, Value] = {}

    def options(self, pooling: str) -> dict[str, Value]:
        """All of its options by name."""
        return {**self.recipe.options(self.loss, pooling), **self.more}


_USUAL = {"lr": 1e-4, "scl_temperature": 0.3, "validations": 1}
_BASES = {
    20: Recipe(50, epochs=20, batch_size=32, scl_lambda=0.9, **_USUAL),
    100: Recipe(300, epochs=10, batch_size=16, scl_lambda=0.9, **_USUAL),
    1000: Recipe(float("inf"), epochs=3, batch_size=16, scl_lambda=0.5, **_USUAL),
}
# Fields of the recipe, and options of fairseq-train, which have hyphens.
Change = Mapping[str, Value]
_HEAD: tuple[Change, ...] = ({"head-lr-scale": 10}, {"head-init": "probe"})
_CHANGES: dict[int, tuple[Change, ...]] = {
    20: (
        *({"epochs": 10}, {"epochs": 40}, {"lr": 2e-4}, {"lr": 5e-5}),
        *({"epochs": 10, "lr": 2e-4}, {"batch_size": 16}),
        *({"scl_lambda": 0.5}, {"scl_temperature": 0.1}),
        *(*_HEAD, {"epochs": 10, "head-lr-scale": 10}, {"lr": 5e-5, "head-init": "probe"}),
        {"scl_lambda": 0.3},
        {"scl_lambda": 0.5, "epochs": 10, "head-lr-scale": 10},
        {"scl_lambda": 0.5, "lr": 5e-5, "head-init": "probe"},
    ),
    100: (
        *({"epochs": 5}, {"epochs": 20}, {"lr": 2e-4}, {"lr": 5e-5}),
        *({"batch_size": 32}, {"batch_size": 32, "lr": 2e-4}),
        *({"scl_lambda": 0.5}, {"scl_temperature": 0.1}),
        *(*_HEAD, {"epochs": 5, "head-lr-scale": 10}),
        *({"scl_lambda": 0.3}, {"scl_lambda": 0.3, "epochs": 5, "head-lr-scale": 10}),
    ),
    1000: (
        *({"epochs": 2}, {"lr": 2e-4}, {"batch_size": 32, "lr": 2e-4}),
        *({"scl_lambda": 0.9}, {"scl_lambda": 0.1}),
        *({"head-lr-scale": 10}, {"epochs": 2, "head-lr-scale": 10}),
    ),
}
_SHORT = {"batch_size": "batch", "scl_lambda": "lambda", "scl_temperature": "tau"}


def _named(base: Recipe, change: Change, loss: str = SCL) -> Arm:
    said = [f"{_SHORT.get(name, name)} {value}" for name, value in change.items()]
    name = ", ".join([*([CE] if loss == CE else []), *said]) or BASE
    more = {key: value for key, value in change.items() if "-" in key}
    fields = {key: value for key, value in change.items() if "-" not in key}
    return Arm(name, replace(base, **fields), loss, more)


def arms_of(num_examples: int) -> list[Arm]:
    """The base first, then CE, then each change; CE has another learning rate too.

    Raises:
        ValueError: nothing is planned for this number of examples.
    """
    if num_examples not in _BASES:
        raise ValueError(f"N = {num_examples}: expected one of {', '.join(map(str, _BASES))}")
    base = _BASES[num_examples]
    return [
        _named(base, {}),
        _named(base, {}, CE),
        _named(base, {"lr": 2e-4}, CE),
        *(_named(base, change) for change in _CHANGES[num_examples]),
    ]
