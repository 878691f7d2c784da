"""A ``fairseq-train`` line in this process, followed, and able to go on where it was killed.

``fairseq_cli.train.main`` runs as it is. What is done beside it changes no weight: its log goes to
a file, somebody is told how far it is, and now and then the whole state is saved, under the name
from which fairseq resumes.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics, progress_bar
from fairseq_cli import train as fairseq_train

from scl_fairseq.refusals import one_line

LAST = "checkpoint_last.pt"
SAVE_SECONDS = 20.0  # at least, between two saves of the state
SHARE_OF_SAVING = 0.05  # of the time, at most, where a checkpoint is large


_ONE_AT_A_TIME = threading.RLock()  # a training puts its functions in fairseq's places


class TrainingError(ValueError):
    """fairseq's training has ended early; the message says why."""


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        updates: done.
        total: of all of them; None where that is open.
        epoch: the current one.
        seconds_left: at the pace so far; None where nothing is known.
        scores: of a validation that has just ended, as fairseq logs them; else None.
    """

    updates: int
    total: int | None
    epoch: int
    seconds_left: float | None
    scores: dict[str, float] | None = None


OnProgress = Callable[[Progress], None]


def run(
    arguments: Sequence[str],
    total: int | None,
    threads: int,
    on_progress: OnProgress = lambda progress: None,
    log: Path | None = None,
) -> None:
    """Train to the end, from where an interrupted call of the same arguments was.

    Args:
        arguments: of ``fairseq-train``, for one process.
        total: updates that it will make, for the time left.
        threads: that it computes with.
        on_progress: is told of updates and validations.
        log: a file to which fairseq's log is added; None: it is not kept.

    Raises:
        TrainingError: it has diverged, memory or disk is full, or an option does not fit.
    """
    with _ONE_AT_A_TIME:
        _run(arguments, _Followed(total, on_progress), threads, log)


def _run(arguments: Sequence[str], followed: _Followed, threads: int, log: Path | None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _logged(log), _wrapped(followed), contextlib.redirect_stderr(io.StringIO()):
            parser = options.get_training_parser()
            parsed = options.parse_args_and_arch(parser, list(arguments))
            cfg = convert_namespace_to_omegaconf(parsed)
            distributed_utils.call_main(cfg, fairseq_train.main)
    except SystemExit as error:
        raise TrainingError(one_line(str(error.__cause__ or "fairseq-train ended"))) from None
    except FloatingPointError as error:
        raise TrainingError(
            f"training has diverged ({one_line(error)}); a smaller --lr may help"
        ) from None
    except (OSError, RuntimeError) as error:
        raise TrainingError(_why(error, followed)) from error
    finally:
        torch.set_num_threads(before)
        _clean_up(followed)


def _why(error: Exception, followed: _Followed) -> str:
    cause: BaseException | None = error
    while cause is not None:  # torch tells of a full disk while it already handles that
        if isinstance(cause, OSError) or "No space left" in str(cause):
            return f"saving failed: {one_line(str(cause))}; the same command goes on from before it"
        cause = cause.__context__
    text = one_line(error)
    if "out of memory" in text or isinstance(error, torch.cuda.OutOfMemoryError):
        return f"memory has run out; a smaller --batch-size may help ({text})"
    if "file write failed" in text or "PytorchStreamWriter" in text:
        return f"saving failed, perhaps of a full disk: {text}"
    raise error


def _clean_up(followed: _Followed) -> None:
    if followed.save_dir is not None:
        # What fairseq crashed with, as large as a checkpoint; and a save that was cut off.
        for name in ("crash.pt", f"{LAST}.new", f"{LAST}.new.tmp"):
            (followed.save_dir / name).unlink(missing_ok=True)
    followed.trainer = None
    metrics.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Followed:
    """What is seen of a training from outside."""

    def __init__(self, total: int | None, on_progress: OnProgress):
        self.trainer: Any = None
        self.save_dir: Path | None = None
        self._total, self._on_progress = total, on_progress
        self._wait = SAVE_SECONDS
        self._epoch = 0
        self._saved = self._started = time.monotonic()
        self._first_updates: int | None = None

    def validate_and_save(self, original, cfg, trainer, task, epoch_itr, subsets, end_of_epoch):
        if self.trainer is None:
            self.trainer, self.save_dir = trainer, Path(cfg.checkpoint.save_dir)
        self._tell(epoch_itr.epoch)
        found = original(cfg, trainer, task, epoch_itr, subsets, end_of_epoch)
        is_due = time.monotonic() - self._saved >= self._wait
        # At the end of an epoch its iterator is not yet the next one's.
        if is_due and not end_of_epoch and not found[1]:
            self._save(cfg, trainer, epoch_itr)
        return found

    def get_valid_stats(self, original, cfg, trainer, stats, tracking_best):
        found = original(cfg, trainer, stats, tracking_best)
        numbers = {k: float(v) for k, v in found.items() if isinstance(v, (int, float))}
        self._tell(None, numbers)
        return found

    def train(self, original, cfg, trainer, task, epoch_itr):
        if self._first_updates is None:
            self._first_updates = trainer.get_num_updates()
            self._started = self._saved = time.monotonic()
        self._epoch = epoch_itr.epoch
        self.trainer, self.save_dir = trainer, Path(cfg.checkpoint.save_dir)
        return original(cfg, trainer, task, epoch_itr)

    def _tell(self, epoch: int | None, scores: dict[str, float] | None = None) -> None:
        updates = self.trainer.get_num_updates()
        done = updates - (self._first_updates or 0)
        left = None
        if self._total and done > 0:
            pace = (time.monotonic() - self._started) / done
            left = max(0.0, pace * (self._total - updates))
        self._on_progress(Progress(updates, self._total, epoch or self._epoch, left, scores))

    def _save(self, cfg, trainer, epoch_itr) -> None:
        """What ``checkpoint_utils.save_checkpoint`` would save, with the optimizer's state."""
        started = time.monotonic()
        extra_state = {"train_iterator": epoch_itr.state_dict(), "val_loss": None}
        best = getattr(checkpoint_utils.save_checkpoint, "best", None)
        if best is not None:
            extra_state["best"] = best
        new = self.save_dir / f"{LAST}.new"
        checkpoint = trainer.cfg.checkpoint
        before = checkpoint.no_save_optimizer_state
        checkpoint.no_save_optimizer_state = False
        try:
            trainer.consolidate_optimizer()
            trainer.save_checkpoint(str(new), extra_state)
        finally:
            checkpoint.no_save_optimizer_state = before
        new.replace(self.save_dir / LAST)
        self._saved = time.monotonic()
        self._wait = max(SAVE_SECONDS, (self._saved - started) / SHARE_OF_SAVING)


@contextlib.contextmanager
def _wrapped(followed: _Followed) -> Iterator[None]:
    """Have fairseq's training tell ``followed``, and begin without what an earlier one has left."""
    # fairseq keeps the best value so far, and the state of early stopping, on its functions.
    for function, names in (
        (fairseq_train.should_stop_early, ("best", "num_runs")),
        (checkpoint_utils.save_checkpoint, ("best",)),
    ):
        for name in names:
            vars(function).pop(name, None)
    progress_bar._tensorboard_writers.clear()
    with contextlib.ExitStack() as stack:
        for name in ("train", "validate_and_save", "get_valid_stats"):
            original = getattr(fairseq_train, name)
            stack.callback(setattr, fairseq_train, name, original)
            setattr(fairseq_train, name, _told(getattr(followed, name), original))
        yield


def _told(wrapper: Callable, original: Callable) -> Callable:
    return lambda *args, **kwargs: wrapper(original, *args, **kwargs)


@contextlib.contextmanager
def _logged(path: Path | None) -> Iterator[None]:
    """What is logged meanwhile goes to a file alone, and warnings nowhere."""
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers, level = root.handlers, root.level
    handler = logging.FileHandler(path, encoding="utf-8") if path else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)s | %(name)s | %(message)s"))
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.disable(logging.NOTSET if path else logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        logging.disable(disabled)
        handler.close()
