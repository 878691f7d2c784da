"""Reading what a sweep wrote: finished trials, failures, predictions and the config."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from scl_fairseq.experiments.result_files import CONFIG, FAILURES, LOG, RESULTS
from scl_fairseq.experiments.settings import DATA_KEYS, OUTSIDE, SYSTEM, canonical
from scl_fairseq.experiments.settings import settings as settings_of
from scl_fairseq.experiments.sweep_config import SweepConfig, read_config

# The criterion's own, for settings that leave them out.
DEFAULT_LAMBDA = 0.9
DEFAULT_TEMPERATURE = 0.3
_NEVER_DATA = ("seed", "scl-lambda", "scl-temperature", SYSTEM)


@dataclass(frozen=True)
class Result:
    """A finished trial: a line of ``results.jsonl``, and the folder it came from.

    Accuracies and ``majority_share`` are percent. ``best_epoch`` is judged on the validation set
    alone, and ``test_accuracy`` is of that epoch.
    """

    trial: str
    setting: Mapping[str, object]
    grid_keys: tuple[str, ...]
    valid_accuracy: tuple[float, ...]
    valid_epochs: tuple[int, ...]
    train_loss: tuple[float, ...]
    best_epoch: int
    best_valid_accuracy: float
    test_accuracy: float
    num_test: int
    majority_share: float
    collapsed: bool
    num_updates: int
    updates_per_second: float
    wall_seconds: float
    peak_memory_bytes: int | None
    epoch_metrics: Mapping[str, list]
    data: Mapping[str, str]
    encoder_sha256: str
    versions: Mapping[str, str]
    device: str
    predictions: str
    checkpoint: str | None
    command: str
    finished: str
    folder: Path

    @property
    def loss(self) -> str:
        """``CE``, ``CE+SCL`` or the name of another system."""
        return loss_of(self.setting)

    @property
    def predictions_path(self) -> Path:
        """The trial's ``predictions.tsv``."""
        return self.folder / self.predictions

    @property
    def log_path(self) -> Path:
        """The trial's ``train.log``."""
        return self.predictions_path.parent / LOG


@dataclass(frozen=True)
class Failure:
    """A trial without a result: the last of its failed attempts."""

    trial: str
    setting: Mapping[str, object]
    error: str
    log: str
    folder: Path

    @property
    def loss(self) -> str:
        """``CE``, ``CE+SCL`` or the name of another system."""
        return loss_of(self.setting)

    @property
    def log_path(self) -> Path:
        """The log of the attempt."""
        return self.folder / self.log


@dataclass(frozen=True)
class Results:
    """What a folder of ``scl-sweep`` holds.

    Attributes:
        results: finished trials, in the order of the file.
        failures: trials that failed and have no result, one each.
        folder: where it stands.
        config: of the sweep, None where there is no ``config.yaml``.
    """

    results: tuple[Result, ...]
    failures: tuple[Failure, ...]
    folder: Path
    config: SweepConfig | None


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on the test set, in the set's order.

    Attributes:
        labels: name of each example's class.
        correct: 1 where the model names it, else 0.
    """

    labels: tuple[str, ...]
    correct: tuple[int, ...]


def loss_of(setting: Mapping[str, object]) -> str:
    """The name of its system, without one ``CE`` or ``CE+SCL``."""
    return str(setting.get(SYSTEM) or ("CE+SCL" if is_contrastive(setting) else "CE"))


def is_contrastive(setting: Mapping[str, object]) -> bool:
    """Whether the contrastive term takes part: not at lambda 0, nor with fairseq's criterion."""
    if setting.get("criterion") == "sentence_prediction":
        return False
    return float(setting.get("scl-lambda", DEFAULT_LAMBDA)) != 0


def read_results(path: Path) -> Results:
    """Read a sweep's folder, or its ``results.jsonl`` with what stands beside it.

    A last line without its end is left out: a killed run has torn it.

    Raises:
        ValueError: a malformed line, or trials that do not belong together (see ``join``).
        OSError: the file is missing or cannot be read.
    """
    file = path / RESULTS if path.is_dir() else path
    folder = file.parent
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; expected the --out folder of a scl-sweep")
    results = [_result(line, place, folder) for place, line in _lines(file)]
    attempts = [
        _failure(line, place, folder)
        for place, line in (_lines(folder / FAILURES) if (folder / FAILURES).exists() else ())
    ]
    config = read_config(folder / CONFIG) if (folder / CONFIG).exists() else None
    part = Results(tuple(results), tuple(attempts), folder, config)
    finished, failures = join([part])
    return Results(finished, failures, folder, config)


def join(parts: Sequence[Results]) -> tuple[tuple[Result, ...], tuple[Failure, ...]]:
    """Put the trials of several folders together, and check that they belong together.

    Returns:
        The results, and the last failure of each trial that has no result.

    Raises:
        ValueError: a trial or a setting twice, two different data sets for the same task, N and
            sample, or two encoders for the same task and N.
    """
    results = tuple(result for part in parts for result in part.results)
    trials: dict[str, Result] = {}
    for result in results:
        same = trials.setdefault(result.trial, result)
        if same is not result:
            where = {str(same.folder): None, str(result.folder): None}
            raise ValueError(f"trial {result.trial} is there twice, in {' and in '.join(where)}")
    _check_together(results, [part.config for part in parts])
    settings: dict[tuple, Result] = {}
    for result in results:
        same = settings.setdefault(_part(result, sorted(result.setting)), result)
        if same is not result:
            raise ValueError(f"trials {same.trial} and {result.trial} have the same setting")
    failures = {
        failure.trial: failure
        for part in parts
        for failure in part.failures
        if failure.trial not in trials
    }
    return results, tuple(failures.values())


def data_keys(configs: Iterable[SweepConfig | None]) -> tuple[str, ...]:
    """The keys of a setting that name its data: task, N, sample, and others in ``data: ...{key}``.

    The last one is what tells trials apart that may not be compared.

    Raises:
        ValueError: a data template is malformed.
    """
    keys = dict.fromkeys(DATA_KEYS)
    for config in configs:
        if config is None:
            continue
        try:
            parsed = list(string.Formatter().parse(config.data))
        except ValueError as error:
            raise ValueError(f"{config.source}: data: {error}") from error
        keys |= dict.fromkeys(name for _, name, _, _ in parsed if name)
    return (*keys, OUTSIDE)


def _check_together(results: Sequence[Result], configs: Sequence[SweepConfig | None]) -> None:
    """One data set for each task, N, sample, ...; one encoder for each task, N, ...

    Where a config says that CE and CE+SCL start from checkpoints of their own, one for each.
    """
    keys = tuple(key for key in data_keys(configs) if key != OUTSIDE)
    if None in configs:  # which keys name the data is unknown
        in_grids = sorted({key for result in results for key in result.grid_keys})
        keys = tuple(dict.fromkeys([*keys, *in_grids]))
        keys = tuple(key for key in keys if key not in _NEVER_DATA)
    data: dict[tuple, Result] = {}
    encoders: dict[tuple, Result] = {}
    by_loss = any(config is not None and _starts_by_loss(config) for config in configs)
    for result in results:
        same = data.setdefault(_part(result, keys), result)
        if same.data["sha256"] != result.data["sha256"]:
            raise ValueError(
                f"two different data sets for {_name(result, keys)}: "
                f"{same.data['path']} with checksum {same.data['sha256'][:12]} (trial "
                f"{same.trial}) and {result.data['path']} with {result.data['sha256'][:12]} "
                f"(trial {result.trial})"
            )
        places = [key for key in keys if key not in ("sample", "seed")]
        of_loss = (result.loss,) if by_loss else ()
        same = encoders.setdefault((*_part(result, places), *of_loss), result)
        if same.encoder_sha256 != result.encoder_sha256:
            raise ValueError(
                f"two different encoders for {_name(result, places)} (trials {same.trial} and "
                f"{result.trial}); report them apart"
            )


def _starts_by_loss(config: SweepConfig) -> bool:
    starts: dict[str, set] = {}
    for setting in settings_of(config):
        starts.setdefault(loss_of(setting), set()).add(setting.get("finetune-from-model"))
    return len(starts) > 1 and len(set(map(frozenset, starts.values()))) > 1


def _part(result: Result, keys: Iterable[str]) -> tuple:
    return tuple(canonical(result.setting.get(key)) for key in keys)


def _name(result: Result, keys: Iterable[str]) -> str:
    named = [f"{key} {result.setting[key]}" for key in keys if key in result.setting]
    return ", ".join(named) or "all trials"


def read_predictions(path: Path) -> Predictions:
    """Read a ``predictions.tsv``.

    Raises:
        ValueError: a malformed line.
        OSError: the file is missing or cannot be read.
    """
    header, *lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if header.split("\t")[:4] != ["index", "label", "prediction", "correct"]:
        raise ValueError(f"{path}:1: expected the columns index, label, prediction, correct")
    width = len(header.split("\t"))
    labels, correct = [], []
    for index, line in enumerate(lines):
        row = line.split("\t")
        if len(row) != width or row[0] != str(index) or row[3] != str(int(row[1] == row[2])):
            raise ValueError(
                f"{path}:{index + 2}: expected {width} fields: index {index}, label, prediction, "
                "correct 1 where they agree and else 0, log-probabilities"
            )
        labels.append(row[1])
        correct.append(int(row[3]))
    return Predictions(tuple(labels), tuple(correct))


def predictions_of(result: Result) -> Predictions:
    """The predictions of a trial, which must be those of its result.

    Raises:
        ValueError: a malformed line, or another number or accuracy than the result's.
        OSError: the file is missing or cannot be read.
    """
    predictions = read_predictions(result.predictions_path)
    count = len(predictions.correct)
    accuracy = 100 * sum(predictions.correct) / max(count, 1)
    if count != result.num_test or abs(accuracy - result.test_accuracy) > 1e-3:
        raise ValueError(
            f"{result.predictions_path}: {count} predictions, {accuracy:.2f} % of them correct; "
            f"the trial's result has {result.num_test} and {result.test_accuracy:.2f} %"
        )
    return predictions


def _lines(file: Path) -> Iterator[tuple[str, dict]]:
    """Each JSON object of a file with its place; what follows the last line end is left out."""
    *lines, _ = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        place = f"{file}:{number}"
        try:
            value = json.loads(line.decode("utf-8"))
        except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are such
            raise ValueError(f"{place}: no JSON object: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(f"{place}: no JSON object")
        yield place, value


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _percent(value: object) -> bool:
    return _number(value) and 0 <= value <= 100


def _setting(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    rate = value.get("scl-lambda", DEFAULT_LAMBDA)
    return canonical(rate)[0] == 0


# What the fields that are computed with must be; the others are kept as they are.
_CHECKS = {
    "trial": (lambda value: isinstance(value, str) and value, "text"),
    "setting": (_setting, "an object with a number for scl-lambda"),
    "grid_keys": (lambda value: isinstance(value, list), "a list"),
    "valid_accuracy": (lambda value: isinstance(value, list), "a list"),
    "best_valid_accuracy": (_percent, "a number from 0 to 100"),
    "test_accuracy": (_percent, "a number from 0 to 100"),
    "num_test": (lambda value: _number(value) and value > 0, "a number above 0"),
    "collapsed": (lambda value: isinstance(value, bool), "true or false"),
    "updates_per_second": (_number, "a number"),
    "data": (
        lambda value: (
            isinstance(value, dict)
            and isinstance(value.get("path"), str)
            and isinstance(value.get("sha256"), str)
        ),
        "an object with path and sha256",
    ),
    "versions": (lambda value: isinstance(value, dict), "an object"),
    "predictions": (lambda value: isinstance(value, str), "a path"),
    "error": (lambda value: isinstance(value, str), "text"),
    "log": (lambda value: isinstance(value, str), "a path"),
}


def _checked(line: dict, place: str, names: Iterable[str]) -> dict:
    names = [name for name in names if name != "folder"]
    missing = [name for name in names if name not in line]
    if missing:
        raise ValueError(f"{place}: missing {', '.join(missing)}")
    for name in names:
        is_good, expected = _CHECKS.get(name, (None, None))
        if is_good and not is_good(line[name]):
            raise ValueError(f"{place}: {name} is {line[name]!r}, expected {expected}")
    return {
        name: tuple(line[name]) if isinstance(line[name], list) else line[name] for name in names
    }


def _result(line: dict, place: str, folder: Path) -> Result:
    return Result(**_checked(line, place, [f.name for f in fields(Result)]), folder=folder)


def _failure(line: dict, place: str, folder: Path) -> Failure:
    return Failure(**_checked(line, place, [f.name for f in fields(Failure)]), folder=folder)
