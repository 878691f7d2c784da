"""Options of ``fairseq-train`` that a user gives besides: what they change, and may not change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from scl_fairseq.experiments.settings import Value

_ADAM = ("fused_adamw", "adam")
_OF_ADAM = ("adam-betas", "adam-eps")
_OF_GPU = ("fp16", "bf16", "amp", "memory-efficient-fp16", "memory-efficient-bf16", "tpu")
# Other names that fairseq gives its options.
_SAME = {
    "max-sentences": "batch-size",
    "max-sentences-valid": "batch-size-valid",
    "wd": "weight-decay",
    "learning-rate": "lr",
    "a": "arch",
}
# With these the number of updates is not known before.
_UNCOUNTABLE = ("max-tokens", "skip-remainder-batch", "required-seq-len-multiple")
_COUNT = (lambda value: isinstance(value, int) and value >= 1, "1 or more")
_ABOVE_ZERO = (lambda value: value > 0, "more than 0")
_RANGES = {
    "max-epoch": _COUNT,
    "batch-size": _COUNT,
    "update-freq": _COUNT,
    "max-tokens": _COUNT,
    "lr": _ABOVE_ZERO,
    "scl-temperature": _ABOVE_ZERO,
    "scl-lambda": (
        lambda value: 0 <= value < 1,
        "0 to below 1: at 1 nothing would train the classifier",
    ),
}
_OF_SCHEDULE = ("total-num-update", "warmup-updates")


class FurtherOptions:
    """Words behind the command's own options.

    Args:
        words: as typed.

    Raises:
        ValueError: one is no option, or stands alone where an option was expected.
    """

    def __init__(self, words: Sequence[str]):
        self.words = tuple(words)
        self.values: dict[str, Value] = {}
        name = None
        for word in words:
            if _is_option(word):
                name, _, value = word.lstrip("-").partition("=")
                name = _SAME.get(name, name)
                if name in self.values:
                    raise ValueError(f"--{name} is given twice")
                self.values[name] = value or True
            elif name is None or self.values[name] is not True:
                raise ValueError(f"{word!r}: expected an option, such as --lr 1e-5")
            else:
                self.values[name] = word

    @property
    def typed(self) -> list[str]:
        """The options as typed, without values."""
        return [word.partition("=")[0] for word in self.words if _is_option(word)]

    def get(self, name: str, default: Value) -> Value:
        """A value as a number, where it is one."""
        return _number(self.values.get(name, default))

    def check_device(self, on_cpu: bool) -> None:
        """Refuse what needs a GPU where there is none.

        Raises:
            ValueError: it is asked for.
        """
        wanted = [name for name in _OF_GPU if name in self.values]
        if on_cpu and wanted:
            raise ValueError(f"--{wanted[0]} needs a GPU, and there is none here; leave it out")

    def check_ranges(self) -> None:
        """Refuse numbers that fairseq takes, and that no training can be made with.

        Raises:
            ValueError: one is out of its range.
        """
        for name, (is_right, expected) in _RANGES.items():
            value = _number(self.values.get(name))
            if isinstance(value, (int, float)) and (value is True or not is_right(value)):
                raise ValueError(f"--{name} {self.values[name]}: expected {expected}")

    def check_against(self, decided: Mapping[str, tuple[Value, str]]) -> None:
        """Refuse what contradicts data or weights.

        Args:
            decided: of each option its value, None where it is left out, and where it comes from.

        Raises:
            ValueError: another value is given.
        """
        for name, value in self.values.items():
            if name not in decided:
                continue
            right, by = decided[name]
            if str(_number(value)) != str(_number(right)):
                is_flag = right is None or right is True
                told = "cannot be given" if is_flag else f"contradicts {right}"
                given = "" if value is True else f" {value}"
                raise ValueError(f"--{name}{given} {told}, which comes from {by}; leave it out")

    def merge(
        self,
        options: Mapping[str, Value],
        num_examples: int,
        of_ratio: Callable[[Value, int], dict[str, Value]],
    ) -> tuple[dict[str, Value], int | None]:
        """The command's own options where these are put behind them, and the number of updates.

        Args:
            options: without a schedule.
            num_examples: of the training set.
            of_ratio: scheduler and warm-up for a number of updates.

        Raises:
            ValueError: the number of updates is not known, or no epoch would be validated.
        """
        found = {name: value for name, value in options.items() if name not in self.values}
        if "max-epoch" in self.values:
            found |= self._intervals(options)
        self._check_validated({**found, **self.values})
        if str(self.values.get("optimizer", _ADAM[0])) not in _ADAM:
            found = {name: value for name, value in found.items() if name not in _OF_ADAM}
        if "best-checkpoint-metric" in self.values:
            found.pop("maximize-best-checkpoint-metric", None)
        if "max-tokens" in self.values and "batch-size" not in self.values:
            found.pop("batch-size", None)
        updates = self._updates({**found, **self.values}, num_examples)
        scheduler = self.values.get("lr-scheduler", options.get("lr-scheduler"))
        if scheduler == "polynomial_decay":
            found |= self._schedule(of_ratio, scheduler, updates)
        return {n: v for n, v in found.items() if n not in self.values}, updates

    def _schedule(self, of_ratio, scheduler: Value, updates: int | None) -> dict[str, Value]:
        if updates is not None:
            return of_ratio(scheduler, updates)
        missing = [name for name in _OF_SCHEDULE if name not in self.values]
        if missing:
            why = next((one for one in _UNCOUNTABLE if one in self.values), "update-freq")
            raise ValueError(
                f"--{why}: how many updates there will be is not known; give --{missing[0]} too"
            )
        return {}

    def _intervals(self, options: Mapping[str, Value]) -> dict[str, Value]:
        """Of another number of epochs: as many validations as before, the last epoch's included."""
        epochs, before = self.get("max-epoch", 1), options["max-epoch"]
        interval = options.get("validate-interval")
        if not isinstance(epochs, int) or epochs < 1:
            raise ValueError(f"--max-epoch {self.values['max-epoch']}: expected 1 or more")
        if interval is None:
            return {}
        wanted = max(1, before // interval)
        every = epochs if epochs % wanted else epochs // wanted
        return {"validate-interval": every, "save-interval": every}

    def _check_validated(self, options: Mapping[str, Value]) -> None:
        epochs = _number(options.get("max-epoch"))
        for name in ("validate-interval", "save-interval"):
            every = _number(options.get(name) or 1)
            are_whole = isinstance(epochs, int) and isinstance(every, int)
            if name in self.values and are_whole and (every < 1 or epochs % every):
                raise ValueError(
                    f"--{name} {every}: the last of {epochs} epochs would not be validated and "
                    "saved; give a divisor of it"
                )

    def _updates(self, options: Mapping[str, Value], num_examples: int) -> int | None:
        if any(name in options for name in _UNCOUNTABLE):
            return None
        numbers = [_number(options.get(name, 1)) for name in ("batch-size", "update-freq")]
        epochs = _number(options["max-epoch"])
        if not all(isinstance(number, int) and number > 0 for number in (*numbers, epochs)):
            return None
        batches = math.ceil(num_examples / numbers[0])
        found = epochs * math.ceil(batches / numbers[1])
        most = _number(options.get("max-update", 0))
        return min(found, most) if isinstance(most, int) and most > 0 else found


def _is_option(word: str) -> bool:
    return word.startswith("--") or (word.startswith("-") and not _is_number(word))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _number(value: Value) -> Value:
    """A whole number or another as such, anything else as it is."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
