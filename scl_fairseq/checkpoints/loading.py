"""Make fairseq's checkpoints loadable with ``weights_only`` left on, and survive a broken one.

Since torch 2.6 ``torch.load`` unpickles nothing but tensors, containers and the globals that were
declared safe. fairseq was written before and fails in four places; ``install`` mends each where it
arises. Loading stays safe: any other global is refused by name and nothing of it runs.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from scl_fairseq.checkpoints import fitting

logger = logging.getLogger(__name__)

# Parameters that encoder layers of fairseq 0.12.2 keep beside the ones that the forward uses.
UNUSED_COPIES = tuple(
    f"{name}_{kind}"
    for name in ("in_proj", "out_proj", "fc1", "fc2")
    for kind in ("weight", "bias")
)
# Endings of files that hold only a part of a model.
IS_SHARD = re.compile(r"-shard\d+$|_part\d+$|-model_part-\d+$")


class BrokenCheckpointError(RuntimeError):
    """A checkpoint file is truncated or damaged; the message is one line that names it."""


def install() -> None:
    """Apply every mend to the fairseq of this process, once."""
    from fairseq import checkpoint_utils
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
    from fairseq.trainer import Trainer

    if getattr(Trainer.load_checkpoint, "_scl_fairseq", False):
        return
    allow_globals()
    _name_the_file_in_errors(checkpoint_utils)
    _drop_unused_copies(TransformerEncoderLayerBase)
    _load_whole_checkpoints_on_every_rank(Trainer)


def allow_globals() -> None:
    """Declare safe what fairseq's checkpoints hold beyond tensors and containers.

    That is ``argparse.Namespace``, and NumPy scalars, which stock fairseq leaves in the file when
    the best-checkpoint metric is derived (``acc_and_f1``). Both only carry data.
    """
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        return  # before torch 2.6 nothing is refused, and names cannot be declared
    torch.serialization.add_safe_globals([argparse.Namespace, *_numpy_scalar_globals()])


def _numpy_scalar_globals() -> list[Any]:
    import numpy as np

    try:
        multiarray = importlib.import_module("numpy._core.multiarray")
    except ImportError:  # NumPy 1
        multiarray = importlib.import_module("numpy.core.multiarray")
    # A scalar is stored as scalar(dtype, bytes); torch checks the dtype's own class as well.
    # Files of NumPy 1 say numpy.core, those of NumPy 2 numpy._core: one function, two names.
    scalar = multiarray.scalar
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
    dtypes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [np.dtype, *dtypes, *((scalar, name) for name in names)]


def is_whole(path: str | os.PathLike) -> bool:
    """Whether a checkpoint file is complete, judged without reading its tensors.

    torch writes a zip archive whose directory comes last, so a truncated file has none. Files in
    the older format (fairseq's published archives) cannot be judged and pass.
    """
    with open(path, "rb") as file:
        magic = file.read(2)
    if magic != b"PK":
        return magic == b"\x80\x02"  # a pickle, protocol 2
    try:
        with zipfile.ZipFile(path):
            return True
    except zipfile.BadZipFile:
        return False


def newest_whole(
    folder: str | os.PathLike, suffix: str = "", needs_optimizer: bool = True
) -> Path | None:
    """The checkpoint in ``folder`` from which training can resume furthest on, or None.

    Args:
        folder: a fairseq ``--save-dir``.
        suffix: fairseq's checkpoint suffix (shards); only files that end with it are considered.
        needs_optimizer: pass over checkpoints that hold only weights.

    Returns:
        Of the whole checkpoints the one with most updates, the latest written among equals.
    """
    found = []
    for path in Path(folder).glob(f"checkpoint*{suffix}.pt"):
        if is_whole(path) and (suffix or not IS_SHARD.search(path.stem)):
            updates = _resumable_updates(path, needs_optimizer)
            if updates is not None:
                found.append((updates, path.stat().st_mtime_ns, path))
    return max(found)[2] if found else None


def _resumable_updates(path: Path, needs_optimizer: bool) -> int | None:
    try:
        # mmap: tensors stay on disk, so that looking through a folder of large files is quick.
        state = torch.load(path, map_location="cpu", mmap=True)
        if needs_optimizer and state.get("last_optimizer_state") is None:
            return None
        return state["optimizer_history"][-1]["num_updates"]
    except Exception as error:
        logger.warning("passing over %s: %s", path, str(error).splitlines()[0])
        return None


def _name_the_file_in_errors(checkpoint_utils: ModuleType) -> None:
    original = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(original)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        try:
            return original(path, *args, **kwargs)
        except pickle.UnpicklingError as error:
            refused = re.search(r"GLOBAL ([\w.]+)", str(error))
            if refused is None:
                # torch's own message goes on to recommend reading without weights_only.
                reason = re.search(r"Unpickler error: (.+)", str(error))
                raise BrokenCheckpointError(
                    f"{path} cannot be read, so it is no checkpoint or damaged"
                    + (f": {reason[1]}" if reason else "")
                ) from error
            raise pickle.UnpicklingError(
                f"{path} refers to {refused[1]}, which is not among the globals that a fairseq "
                "checkpoint needs. It was not loaded, and nothing in it was run."
            ) from None
        except (RuntimeError, EOFError, IndexError, KeyError, struct.error) as error:
            # A whole zip archive fails for another reason. Of the older format only a failure to
            # read it shows that it is not whole.
            if not os.path.isfile(path) or zipfile.is_zipfile(path):
                raise
            raise BrokenCheckpointError(
                f"{path} is truncated or damaged, or no checkpoint: {_first_line(error)}"
            ) from error

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [""])[0]
    if not line or isinstance(error, LookupError):  # whose text alone, a key for one, tells nothing
        line = f"{type(error).__name__}: {line}".removesuffix(": ")
    return line


def _drop_unused_copies(layer_class: type) -> None:
    original = layer_class.upgrade_state_dict_named

    @functools.wraps(original)
    def upgrade_state_dict_named(self, state_dict, name):
        original(self, state_dict, name)
        for copy in UNUSED_COPIES:
            if not hasattr(self, copy):
                state_dict.pop(f"{name}.{copy}", None)

    layer_class.upgrade_state_dict_named = upgrade_state_dict_named


def _load_whole_checkpoints_on_every_rank(trainer_class: type) -> None:
    original = trainer_class.load_checkpoint

    @functools.wraps(original)
    def load_checkpoint(self, filename, *args, **kwargs):
        if self.data_parallel_world_size > 1:
            # Otherwise rank 0 broadcasts the state as a pickle that no allow-list can cover.
            self.cfg.checkpoint.load_checkpoint_on_all_dp_ranks = True
        with fitting.loading_into(self):
            return original(self, _whole_or_fallback(self, filename), *args, **kwargs)

    load_checkpoint._scl_fairseq = True
    trainer_class.load_checkpoint = load_checkpoint


def _whole_or_fallback(trainer, filename: str) -> str:
    """``filename``, or where it is the broken last checkpoint of the run, the newest whole one."""
    if not os.path.isfile(filename) or is_whole(filename):
        return filename
    cfg = trainer.cfg.checkpoint
    save_dir = cfg.save_dir
    # Not the file that --finetune-from-model or --restore-file names: nothing may stand in for it.
    last = os.path.join(save_dir, f"checkpoint_last{trainer.checkpoint_suffix}.pt")
    is_last = cfg.restore_file == "checkpoint_last.pt" and filename == last
    fallback = None
    if is_last:
        # A run that was told to save no optimizer states never had more to resume from.
        has_optimizer = not cfg.no_save_optimizer_state
        fallback = newest_whole(save_dir, trainer.checkpoint_suffix, has_optimizer)
    if fallback is None:
        raise ValueError(
            f"{filename} is truncated or damaged"
            + (f", and {save_dir} holds no other checkpoint to resume from" if is_last else "")
        )
    logger.warning(
        "%s is truncated or damaged (a run was killed while it was being written): resuming from "
        "the newest whole checkpoint, %s",
        filename,
        fallback,
    )
    return str(fallback)
