"""A fairseq training, then its test set, in a process that has done others before.

``fairseq_cli.train.main`` runs as it is: same batches, same random numbers, same rounding, same
rule for ties. Only what costs a few-shot trial most of its time is replaced: the pre-trained
checkpoint is read once, the encoder goes through the validation set in batches of similar length,
and the best weights stay in memory, where the test set is evaluated on them.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics, progress_bar
from fairseq.trainer import Trainer
from fairseq_cli import train as fairseq_train
from torch import Tensor

from scl_fairseq.experiments.shared_weights import SharedWeights
from scl_fairseq.experiments.warm_checkpoints import BestWeights, CheckpointMemory
from scl_fairseq.experiments.warm_validation import replayed
from scl_fairseq.inference.evaluation import LengthSortedBatches, read_dataset, tokens_for

CHECKPOINT = "checkpoint_best.pt"
KEEP_BEST, KEEP_ALL, KEEP_NONE = "best", "all", "none"


@dataclass
class Outcome:
    """What a training came to.

    Attributes:
        valid_epochs, valid_accuracy: of each validation; percent, rounded to 0.1 by fairseq.
        epoch_metrics: ``train`` and ``valid``: all that fairseq logs, epoch by epoch.
        best_epoch: the epoch of the weights that are kept: those of the highest validation accuracy
            where fairseq saves, the latest among equals.
        best_valid_accuracy: theirs.
        num_updates: optimizer steps.
        update_seconds: time that they took.
        gpu_memory: bytes that torch held at the end, None on a CPU.
        gpu_free: bytes of the GPU that nobody held then, likewise.
        log_probabilities: (N, classes), float32, test set, with the best epoch's weights.
        targets: (N,), class indices of the test set.
        valid_targets: (M,), those of the validation set.
    """

    valid_epochs: list[int] = field(default_factory=list)
    valid_accuracy: list[float] = field(default_factory=list)
    epoch_metrics: dict[str, list[dict[str, float]]] = field(
        default_factory=lambda: {"train": [], "valid": []}
    )
    best_epoch: int = 0
    best_valid_accuracy: float = 0.0
    num_updates: int = 0
    update_seconds: float = 0.0
    gpu_memory: int | None = None
    gpu_free: int | None = None
    log_probabilities: Tensor | None = None
    targets: Tensor | None = None
    valid_targets: Tensor | None = None


class WarmTraining:
    """Trains again and again in one process.

    Args:
        on_epoch: is told of each epoch that ends.
        shared: pre-trained weights that other processes have as well, or None.
    """

    def __init__(
        self,
        on_epoch: Callable[[int], None] = lambda epoch: None,
        shared: SharedWeights | None = None,
    ):
        self._on_epoch = on_epoch
        self._load = CheckpointMemory(shared)

    def run_first(self, arguments: Sequence[str]) -> Outcome:
        """Train the first of two stages, which fairseq saves as the arguments say.

        Args:
            arguments: of ``fairseq-train``, for one process, without validation.

        Returns:
            What there is without validation.

        Raises:
            RuntimeError: memory has run out.
        """
        cfg, outcome = _parse(arguments), Outcome()
        self._load.left_out = Path(cfg.checkpoint.save_dir)
        with _training(cfg, outcome, self._load, self._on_epoch):
            pass
        return outcome

    def run(
        self, arguments: Sequence[str], folder: Path, keep: str, epochs_before: int = 0
    ) -> Outcome:
        """Train, and evaluate the best weights on the test set.

        Args:
            arguments: of ``fairseq-train``, for one process.
            folder: receives ``checkpoint_best.pt`` where ``keep`` is ``best``; with ``all``
                fairseq saves as the arguments say.
            keep: ``best``, ``all`` or ``none``.
            epochs_before: those of a first stage, counted where epochs are told.

        Raises:
            RuntimeError: memory has run out (fairseq itself would skip the batch), or no epoch was
                validated.
        """
        cfg, outcome = _parse(arguments), Outcome()
        best = BestWeights(checkpoint_utils.save_checkpoint if keep == KEEP_ALL else None)

        def on_epoch(epoch: int) -> None:
            self._on_epoch(epochs_before + epoch)

        with _training(cfg, outcome, self._load, on_epoch, best) as trainer:
            if not best.epoch:
                raise RuntimeError("no validated epoch was saved (--save-interval?)")
            best.restore(trainer.get_model())
            if keep == KEEP_BEST:
                best.write(trainer, folder / CHECKPOINT)
            outcome.best_epoch, outcome.best_valid_accuracy = best.epoch, float(best.best)
            _evaluate(trainer, cfg, outcome)
            del trainer, best
        return outcome


def _parse(arguments: Sequence[str]):
    parser = options.get_training_parser()
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, list(arguments)))


@contextlib.contextmanager
def _training(
    cfg,
    outcome: Outcome,
    load: CheckpointMemory,
    on_epoch: Callable[[int], None],
    best: BestWeights | None = None,
) -> Iterator[Trainer]:
    """Train to the end; the trainer, of which nothing is left afterwards."""
    followed = _Followed(outcome, on_epoch)
    try:
        with _replaced(load, best, followed):
            fairseq_train.main(cfg)
        outcome.num_updates = followed.trainer.get_num_updates()
        yield followed.trainer
        if followed.trainer.cuda:
            outcome.gpu_memory = torch.cuda.memory_reserved()
            outcome.gpu_free = torch.cuda.mem_get_info()[0]
    finally:
        # fairseq saves there what it crashed with, for a debugger: as large as a checkpoint.
        (Path(cfg.checkpoint.save_dir) / "crash.pt").unlink(missing_ok=True)
        del best, followed
        metrics.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _evaluate(trainer: Trainer, cfg, outcome: Outcome) -> None:
    task = trainer.task
    task.load_dataset("test")
    batches = LengthSortedBatches(task.dataset("test"), tokens_for(trainer.device))
    reading = read_dataset(trainer.get_model(), batches, cfg.criterion.classification_head_name)
    outcome.log_probabilities = torch.log_softmax(reading.logits.float(), dim=1).cpu()
    outcome.targets = reading.targets


class _Followed:
    """What is seen of a training from outside, and its validation."""

    def __init__(self, outcome: Outcome, on_epoch: Callable[[int], None]):
        self.trainer: Trainer | None = None
        self._outcome, self._on_epoch = outcome, on_epoch
        self._batches: LengthSortedBatches | None = None
        self._train_stats: dict[str, Any] = {}

    def train(self, original, cfg, trainer, task, epoch_itr):
        result = original(cfg, trainer, task, epoch_itr)
        self._outcome.epoch_metrics["train"].append(_numbers(self._train_stats))
        self._on_epoch(epoch_itr.epoch)
        return result

    def get_training_stats(self, original, stats):
        self._train_stats = original(stats)  # an epoch's own are the last before it ends
        return self._train_stats

    def get_valid_stats(self, original, cfg, trainer, stats, tracking_best):
        found = original(cfg, trainer, stats, tracking_best)
        numbers = _numbers(found)
        self._outcome.epoch_metrics["valid"].append(numbers)
        self._outcome.valid_accuracy.append(numbers["accuracy"])
        return found

    def train_step(self, original, trainer, samples, raise_oom=False):
        self.trainer = trainer
        started = time.perf_counter()
        result = original(trainer, samples, raise_oom=True)
        self._outcome.update_seconds += time.perf_counter() - started
        return result

    def validate(self, original, cfg, trainer, task, epoch_itr, subsets):
        self._outcome.valid_epochs.append(epoch_itr.epoch)
        if self._batches is None:
            data = task.dataset(subsets[0])
            self._batches = LengthSortedBatches(data, tokens_for(trainer.device))
            targets = [batch["target"].view(-1) for batch in self._batches.batches]
            self._outcome.valid_targets = torch.cat(targets)
        with replayed(cfg, trainer, self._batches):
            return original(cfg, trainer, task, epoch_itr, subsets)


def _numbers(stats: dict[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in stats.items():
        if name.startswith("_"):
            continue
        with contextlib.suppress(TypeError, ValueError):
            if math.isfinite(value):  # JSON has no NaN
                found[name] = float(value)
    return found


@contextlib.contextmanager
def _replaced(
    load: CheckpointMemory, best: BestWeights | None, followed: _Followed
) -> Iterator[None]:
    """Put what this module has in fairseq's places, for one training."""
    # fairseq keeps the state of early stopping as attributes of a function.
    for name in ("best", "num_runs"):
        vars(fairseq_train.should_stop_early).pop(name, None)
    # It also keeps TensorBoard's writers by the name of a split, whatever their folder.
    for writer in progress_bar._tensorboard_writers.values():
        writer.close()
    progress_bar._tensorboard_writers.clear()
    with contextlib.ExitStack() as stack:

        def replace(owner: Any, name: str, value: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        def wrap(owner: Any, name: str, wrapper: Callable) -> None:
            original = getattr(owner, name)
            replace(owner, name, lambda *args, **kwargs: wrapper(original, *args, **kwargs))

        replace(checkpoint_utils, "load_checkpoint_to_cpu", load)
        if best is not None:
            replace(checkpoint_utils, "save_checkpoint", best)
        for name in ("train", "get_training_stats", "get_valid_stats", "validate"):
            wrap(fairseq_train, name, getattr(followed, name))
        wrap(Trainer, "train_step", followed.train_step)
        yield
