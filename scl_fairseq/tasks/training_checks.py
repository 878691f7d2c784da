"""Have ``fairseq-train`` refuse in one line what it would find out late, or in a traceback."""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path

from scl_fairseq.tasks import labels, pairs
from scl_fairseq.text.assets import find_checkpoint

logger = logging.getLogger(__name__)

PACKAGE = "scl_fairseq"
# fairseq asserts that a checkpoint to resume from is of this run's criterion and optimizer.
OF_ANOTHER = "does not match; please reset the optimizer"
LAST = "checkpoint_last.pt"  # from which fairseq resumes where no option names another


def install() -> None:
    """Put the checks where fairseq passes, once."""
    from fairseq import options
    from fairseq.distributed import utils
    from fairseq.tasks import FairseqTask
    from fairseq.trainer import Trainer

    if getattr(utils.call_main, "_scl_fairseq", False):
        return
    _check_names(options)
    _check_classes(FairseqTask)
    _check_labels(Trainer)
    _tell_in_a_line(utils)


def _check_names(options) -> None:
    """As options are parsed: some pairs already fail where fairseq puts its configuration up."""
    original = options.parse_args_and_arch

    @functools.wraps(original)
    def parse_args_and_arch(*args, **kwargs):
        found = original(*args, **kwargs)
        parsed = found[0] if isinstance(found, tuple) else found
        task, criterion = getattr(parsed, "task", None), getattr(parsed, "criterion", None)
        if isinstance(task, str) and isinstance(criterion, str):
            try:
                pairs.check_pair(criterion, task)
                feeds_decoder = getattr(parsed, "add_prev_output_tokens", False)
                pairs.check_model(task, getattr(parsed, "arch", ""), feeds_decoder)
            except ValueError as error:
                _end(error)
        return found

    options.parse_args_and_arch = parse_args_and_arch


def _check_classes(task_class: type) -> None:
    original = task_class.build_criterion

    @functools.wraps(original)
    def build_criterion(self, *args, **kwargs):
        labels.check_num_classes(self)
        return original(self, *args, **kwargs)

    task_class.build_criterion = build_criterion


def _check_labels(trainer_class: type) -> None:
    original = trainer_class.__init__

    @functools.wraps(original)
    def __init__(self, cfg, task, model, criterion, *args, **kwargs):
        labels.check_splits(task, criterion, cfg.dataset)
        original(self, cfg, task, model, criterion, *args, **kwargs)

    trainer_class.__init__ = __init__


def _tell_in_a_line(utils) -> None:
    original = utils.call_main

    @functools.wraps(original)
    def call_main(cfg, main, **kwargs):
        try:
            task = getattr(cfg.task, "_name", None)
            if task is not None and getattr(cfg.task, "data", None):
                is_regression = getattr(cfg.task, "regression_target", False)
                pairs.check_files(task, cfg.task.data, is_regression)
                _find_starts(cfg.checkpoint)
            return original(cfg, main, **kwargs)
        except (ValueError, FileNotFoundError, AssertionError) as error:
            if not _is_ours(error) and OF_ANOTHER not in str(error):
                raise
            _end(error)

    call_main._scl_fairseq = True
    utils.call_main = call_main


def _find_starts(cfg) -> None:
    """Have the options that name a checkpoint take its folder too, and tell of what is not there.

    fairseq begins with random weights then, which some mean by ``--restore-file``.

    Raises:
        FileNotFoundError: ``--finetune-from-model`` is not there, and nothing to resume from is.
    """
    save_dir = Path(cfg.save_dir)
    resumes = cfg.restore_file == LAST and (save_dir / LAST).exists()
    for option in ("finetune_from_model", "restore_file"):
        value = getattr(cfg, option, None)
        if not value or value == LAST or "://" in value:
            continue
        path = Path(value)
        if path.is_dir():
            setattr(cfg, option, str(find_checkpoint(path)))
        elif path.exists() or resumes:
            continue
        elif option == "finetune_from_model":
            raise FileNotFoundError(f"--finetune-from-model {value}: no such checkpoint")
        else:
            logger.warning("--restore-file %s is not there: the weights begin at random", value)


def _is_ours(error: Exception) -> bool:
    """Whether this package raised it, whose messages are for users; another one is a mistake."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_globals.get("__name__", "").split(".")[0] == PACKAGE


def _end(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from error
