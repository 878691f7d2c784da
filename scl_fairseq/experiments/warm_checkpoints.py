"""Checkpoints of trainings in one process: the start is read once, the best weights stay here."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer
from torch import Tensor, nn

from scl_fairseq.experiments.shared_weights import SharedWeights


class CheckpointMemory:
    """``load_checkpoint_to_cpu`` that keeps the file it has read last.

    Args:
        shared: what other processes keep as well, or None.
    """

    def __init__(self, shared: SharedWeights | None = None):
        self._original = checkpoint_utils.load_checkpoint_to_cpu
        self._shared = shared
        self._key: tuple | None = None
        self._state: dict[str, Any] = {}
        self.left_out: Path | None = None  # a folder whose files are read once, and not kept

    def __call__(self, path: str, arg_overrides=None, load_on_all_ranks: bool = False):
        """The state of a checkpoint, which the caller may change."""
        if arg_overrides or Path(path).parent == self.left_out:
            return self._original(path, arg_overrides, load_on_all_ranks)
        status = Path(path).stat()
        key = (str(Path(path).resolve()), status.st_mtime_ns, status.st_size)
        if key != self._key:
            self._key, self._state = None, {}  # not two models in memory

            def read() -> dict[str, Any]:
                return self._original(path, arg_overrides, load_on_all_ranks)

            self._state = self._shared.state_of(key, read) if self._shared else read()
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
