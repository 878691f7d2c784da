"""The workers of a data-parallel training, as a criterion meets them through fairseq."""

from __future__ import annotations

import torch.distributed as dist
from fairseq.distributed import utils as distributed_utils
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scl_fairseq.distributed import Gathered, RowGatherer


class Workers:
    """Gathers what a batch is contrasted with from all workers of fairseq's data-parallel group.

    A worker that has run out of batches is given a dummy one, whose rows are nobody's: the trainer
    tells of it in ``task.train_step(..., ignore_grad=True)``, which is listened to.

    Args:
        task: the fairseq task that trains.

    Attributes:
        update_num: how many updates came before the one that is under way; 0 before the first.
    """

    def __init__(self, task):
        self.update_num = 0
        self._is_idle = False
        self._gatherer: RowGatherer | None = None
        original = task.train_step

        def train_step(
            sample, model, criterion, optimizer, update_num, ignore_grad=False, **kwargs
        ):
            self._is_idle, self.update_num = ignore_grad, update_num
            try:
                return original(
                    sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs
                )
            finally:
                self._is_idle = False

        task.train_step = train_step

    def gather(self, rows: Tensor, labels: Tensor) -> Gathered:
        """Rows of all workers; of one alone, its own.

        Args:
            rows: (B, C), this worker's.
            labels: (B,).
        """
        group = distributed_utils.get_data_parallel_group() if _is_distributed() else None
        if group is None or dist.get_world_size(group) == 1:
            return Gathered(rows, labels, slice(0, len(rows)))
        if self._gatherer is None:
            self._gatherer = RowGatherer(group)
        if self._is_idle:
            # Still a part of the graph: its gradient of zero joins the others' backward.
            rows, labels = rows[:0], labels[:0]
        return self._gatherer(rows, labels)


def check_wrappers(model: nn.Module) -> None:
    """Refuse wrappers that would end in a page of torch's, or in silence.

    Args:
        model: what is trained, with its wrappers.

    Raises:
        ValueError: a wrapper cannot train such a model, or was not tried.
    """
    while hasattr(model, "module"):
        if type(model).__name__ == "FullyShardedDataParallel":
            raise ValueError(
                "--ddp-backend fully_sharded is not supported by this criterion: use "
                "legacy_ddp, or pytorch_ddp with --find-unused-parameters"
            )
        needs_all = isinstance(model, DistributedDataParallel) and not (
            model.find_unused_parameters or model.static_graph
        )
        model = model.module
        lm_head = getattr(getattr(model, "encoder", None), "lm_head", None)
        is_trained = lm_head is not None and any(p.requires_grad for p in lm_head.parameters())
        if needs_all and is_trained:
            raise ValueError(
                "--ddp-backend pytorch_ddp needs --find-unused-parameters here: fine-tuning leaves "
                "the model's language-model head without gradients, with this criterion or stock"
            )


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and not distributed_utils.use_xla()
