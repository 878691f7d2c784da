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
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, options
from fairseq.criterions.sentence_prediction import SentencePredictionCriterion
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics, progress_bar
from fairseq.trainer import Trainer
from fairseq_cli import train as fairseq_train
from torch import Tensor, nn

from scl_fairseq.inference.evaluation import (
    LengthSortedBatches,
    can_read,
    read_dataset,
    tokens_for,
)

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
    log_probabilities: Tensor | None = None
    targets: Tensor | None = None
    valid_targets: Tensor | None = None


class CheckpointMemory:
    """``load_checkpoint_to_cpu`` that keeps the file it has read last."""

    def __init__(self):
        self._original = checkpoint_utils.load_checkpoint_to_cpu
        self._key: tuple | None = None
        self._state: dict[str, Any] = {}

    def __call__(self, path: str, arg_overrides=None, load_on_all_ranks: bool = False):
        """The state of a checkpoint, which the caller may change."""
        if arg_overrides:
            return self._original(path, arg_overrides, load_on_all_ranks)
        status = Path(path).stat()
        key = (str(Path(path).resolve()), status.st_mtime_ns, status.st_size)
        if key != self._key:
            self._key, self._state = None, {}  # not two models in memory
            self._state = self._original(path, arg_overrides, load_on_all_ranks)
            self._key = key
        # fairseq renames and drops entries of "model", and changes none of the tensors.
        rest = {name: value for name, value in self._state.items() if name != "model"}
        return {**deepcopy(rest), "model": dict(self._state["model"])}


class BestWeights:
    """Stands for ``checkpoint_utils.save_checkpoint``: keeps the best weights, in memory.

    fairseq keeps the best value so far as an attribute ``best`` of that function.

    Args:
        writes: fairseq's own function where it shall write its files as well.
    """

    def __init__(self, writes: Callable | None = None):
        self._writes = writes
        self._tensors: dict[str, Tensor] = {}
        self._extra_state: dict[str, Any] = {}
        self._num_updates = 0
        self.epoch = 0

    def __call__(self, cfg, trainer, epoch_itr, val_loss):
        """Keep the weights if there is a validation and it is no worse than the best."""
        if self._writes is not None:
            self._writes(cfg, trainer, epoch_itr, val_loss)  # sets self.best
        elif val_loss is not None:
            self.best = max(val_loss, getattr(self, "best", val_loss))
        if val_loss is None or val_loss < self.best:
            return
        self.epoch = epoch_itr.epoch
        self._num_updates = trainer.get_num_updates()
        self._extra_state = {
            "train_iterator": epoch_itr.state_dict(),
            "val_loss": val_loss,
            "best": self.best,
        }
        for name, tensor in trainer.get_model().state_dict().items():
            if name in self._tensors:
                self._tensors[name].copy_(tensor)
            else:
                self._tensors[name] = tensor.detach().to("cpu", copy=True)

    def restore(self, model: nn.Module) -> None:
        """Put the weights into the model that they are of."""
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(self._tensors[name])

    def write(self, trainer: Trainer, path: Path) -> None:
        """Write them as fairseq would have, once they are restored."""
        now = trainer.get_num_updates()
        trainer._num_updates = self._num_updates
        try:
            trainer.save_checkpoint(str(path), self._extra_state)
        finally:
            trainer._num_updates = now


class Replay:
    """Stands for the model in fairseq's validation, with what the encoder found out before.

    Args:
        model: the model; its head is run.
        inputs: (N, 1, C), what the head reads for each example.
        head_name: which head.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, head_name: str):
        self._model, self._inputs, self._head_name = model, inputs, head_name
        self.indices: Tensor | None = None

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def __call__(self, **net_input):
        """Logits of the examples ``indices``."""
        head = self._model.classification_heads[self._head_name]
        return head(self._inputs[self.indices]), {"inner_states": None}


class WarmTraining:
    """Trains again and again in one process.

    Args:
        on_epoch: is told of each epoch that ends.
    """

    def __init__(self, on_epoch: Callable[[int], None] = lambda epoch: None):
        self._on_epoch = on_epoch
        self._load = CheckpointMemory()

    def run(self, arguments: Sequence[str], folder: Path, keep: str) -> Outcome:
        """Train, and evaluate the best weights on the test set.

        Args:
            arguments: of ``fairseq-train``, for one process.
            folder: receives ``checkpoint_best.pt`` where ``keep`` is ``best``; with ``all``
                fairseq saves as the arguments say.
            keep: ``best``, ``all`` or ``none``.

        Raises:
            RuntimeError: memory has run out (fairseq itself would skip the batch), or no epoch was
                validated.
        """
        cfg = _parse(arguments)
        best = BestWeights(checkpoint_utils.save_checkpoint if keep == KEEP_ALL else None)
        outcome = Outcome()
        followed = _Followed(outcome, self._on_epoch)
        try:
            with _replaced(self._load, best, followed):
                fairseq_train.main(cfg)
            if not best.epoch:
                raise RuntimeError("no validated epoch was saved (--save-interval?)")
            trainer = followed.trainer
            best.restore(trainer.get_model())
            if keep == KEEP_BEST:
                best.write(trainer, folder / CHECKPOINT)
            outcome.best_epoch, outcome.best_valid_accuracy = best.epoch, float(best.best)
            outcome.num_updates = trainer.get_num_updates()
            _evaluate(trainer, cfg, outcome)
            if trainer.cuda:
                outcome.gpu_memory = torch.cuda.memory_reserved()
            del trainer
            return outcome
        finally:
            # fairseq saves there what it crashed with, for a debugger: as large as a checkpoint.
            (Path(cfg.checkpoint.save_dir) / "crash.pt").unlink(missing_ok=True)
            del best, followed
            metrics.reset()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _parse(arguments: Sequence[str]):
    parser = options.get_training_parser()
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, list(arguments)))


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
        with self._replayed(cfg, trainer, task, subsets[0]):
            return original(cfg, trainer, task, epoch_itr, subsets)

    @contextlib.contextmanager
    def _replayed(self, cfg, trainer: Trainer, task, subset: str) -> Iterator[None]:
        head_name = cfg.criterion.classification_head_name
        if self._batches is None:
            self._batches = LengthSortedBatches(task.dataset(subset), tokens_for(trainer.device))
            self._outcome.valid_targets = torch.cat(
                [batch["target"].view(-1) for batch in self._batches.batches]
            )
        model = trainer.model
        if not (_reads_head_input_only(trainer) and can_read(trainer.get_model(), head_name)):
            yield
            return
        reading = read_dataset(trainer.get_model(), self._batches, head_name)
        replay = Replay(model, reading.inputs, head_name)

        def valid_step(sample, model, criterion, **kwargs):
            replay.indices = sample["id"]
            return type(task).valid_step(task, sample, model, criterion, **kwargs)

        trainer._wrapped_model, task.valid_step = replay, valid_step
        try:
            yield
        finally:
            trainer._wrapped_model = model
            del task.valid_step


def _reads_head_input_only(trainer: Trainer) -> bool:
    """Whether the criterion needs nothing of the encoder beyond what the head reads."""
    criterion = trainer.get_criterion()
    is_known = type(criterion) is SentencePredictionCriterion or (
        getattr(criterion, "scl_embedding", None) in ("cls", "pooled")
    )
    return is_known and not trainer.cfg.ema.store_ema


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
def _replaced(load: CheckpointMemory, best: BestWeights, followed: _Followed) -> Iterator[None]:
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
        replace(checkpoint_utils, "save_checkpoint", best)
        for name in ("train", "get_training_stats", "get_valid_stats", "validate"):
            wrap(fairseq_train, name, getattr(followed, name))
        wrap(Trainer, "train_step", followed.train_step)
        yield
