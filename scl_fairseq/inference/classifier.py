"""A fine-tuned checkpoint with binarised data that fits it, or one line that says what does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scl_fairseq.checkpoints.head_training import HeadTraining
from scl_fairseq.checkpoints.reading import head_training, read_checkpoint
from scl_fairseq.checkpoints.training_state import text_of
from scl_fairseq.configuration import as_dict
from scl_fairseq.data.binarized import BinarizedData
from scl_fairseq.inference.evaluation import (
    LengthSortedBatches,
    Reading,
    read_dataset,
    tokens_for,
)
from scl_fairseq.refusals import UNFIT, NotFiniteError, listed, one_line
from scl_fairseq.text.assets import find_checkpoint
from scl_fairseq.text.description import DICTIONARY, INPUT, LABELS, check_file, describe_beside
from scl_fairseq.text.dictionary import read_dictionary


@dataclass(frozen=True)
class Classifier:
    """A model, and the data it is to classify.

    Attributes:
        checkpoint: its file.
        data: whose dictionaries are those it was trained with.
        model: on the CPU.
        cfg: its configuration, from the checkpoint.
        task: fairseq's, on ``data``.
        training: whether its head was trained.
    """

    checkpoint: Path
    data: BinarizedData
    model: nn.Module
    cfg: Any
    task: Any
    training: HeadTraining

    @property
    def head_name(self) -> str:
        """Name of the classification head."""
        return self.task.cfg.classification_head_name

    def batches(self, split: str, device: torch.device | str) -> LengthSortedBatches:
        """All examples of a split, in batches of a good size for the device.

        Raises:
            ValueError: a row is longer than the model's positions.
        """
        dataset = self.task.load_dataset(split)
        longest = max(dataset.num_tokens(i) for i in range(len(dataset)))
        most = int(np.min(self.model.max_positions()))  # of encoder and decoder, where it has both
        if longest > most:
            raise ValueError(
                f"{self.data.folder}: a row of {split} has {longest} tokens, more than the {most} "
                f"positions of {self.checkpoint}"
            )
        return LengthSortedBatches(dataset, tokens_for(device))

    def read(
        self,
        split: str,
        device: torch.device | str,
        keep_inputs: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Reading:
        """What the head reads and makes of a split; arguments are those of ``read_dataset``.

        Raises:
            ValueError: as of ``batches``; or outputs are not finite.
        """
        batches, model = self.batches(split, device), self.model.to(device)
        try:
            return read_dataset(model, batches, self.head_name, keep_inputs, on_progress)
        except NotFiniteError as error:
            raise ValueError(
                f"{self.checkpoint}: its outputs for example {error.index + 1} of {split} are not "
                "finite, so training has diverged"
            ) from error


def load_classifier(checkpoint: Path, data: BinarizedData) -> Classifier:
    """Load a checkpoint of a model with a classification head.

    Args:
        checkpoint: that ``fairseq-train`` wrote, or its folder. Whether its head was trained is
            for the caller to ask.
        data: data with the dictionaries that it was trained with.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is damaged, not safe to load, not of a classifier, or does not fit the data.
    """
    # Not the hub interface: it would look for the BPE's files, which stored tokens do not need.
    from fairseq import checkpoint_utils
    from fairseq.dataclass.utils import overwrite_args_by_name

    checkpoint = find_checkpoint(checkpoint)
    state = read_checkpoint(checkpoint)
    weights = _head_weights(checkpoint, state, data)
    _check_dictionaries(checkpoint, state, data)
    try:
        overwrite_args_by_name(state["cfg"], {"data": str(data.folder.resolve())})
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(checkpoint)], state=state
        )
    except (OSError, *UNFIT) as error:  # OSError: another task looks for other files
        raise ValueError(
            f"{checkpoint} does not load with {data.folder}: {one_line(error)}"
        ) from error
    found = Classifier(checkpoint, data, models[0], cfg, task, head_training(checkpoint, state))
    # Of a head of another size than its configuration says fairseq makes one of random weights.
    loaded = found.model.classification_heads[found.head_name].out_proj.weight
    if not torch.equal(loaded, weights.to(loaded)):
        raise ValueError(f"{checkpoint}: its classification head does not fit its configuration")
    return found


def _head_weights(checkpoint: Path, state: Mapping[str, Any], data: BinarizedData) -> Tensor:
    """(classes, C), the head's last; where it is missing fairseq would make a random one."""
    name = getattr(state["cfg"].task, "classification_head_name", None)
    projection = state["model"].get(f"classification_heads.{name}.out_proj.weight")
    if projection is None:
        raise ValueError(f"{checkpoint} is not of a classifier: it has no classification head")
    if getattr(state["cfg"].task, "regression_target", False):
        raise ValueError(f"{checkpoint} is of a regression: it has no classes")
    if len(projection) != len(data.labels):
        raise ValueError(
            f"{checkpoint} tells {len(projection)} classes apart, but "
            f"{data.folder / LABELS} has {len(data.labels)}: {listed(data.labels)}"
        )
    return projection


def _check_dictionaries(checkpoint: Path, state: Mapping[str, Any], data: BinarizedData) -> None:
    """Refuse other tokens or labels than those of the training.

    A checkpoint of an earlier version does not say what they were. Then they are those beside it,
    or else those of the folder that it was trained with; where neither is there, another order of
    as many tokens or labels goes unseen.
    """
    given = data.folder / INPUT
    expected = read_dictionary(given).size_in_models
    for name, rows in state["model"].items():
        if name.endswith("embed_tokens.weight") and len(rows) != expected:
            raise ValueError(
                f"{checkpoint} does not load with {data.folder}: it has embeddings of {len(rows)} "
                f"tokens, but {given} makes {expected}"
            )
    own = text_of(state.get("extra_state")) or describe_beside(checkpoint.parent)
    trained_on = as_dict(state["cfg"].task).get("data")
    if not own["sha256"] and trained_on not in (None, "???"):
        own = describe_beside(Path(trained_on))
    for name, path in ((LABELS, data.folder / LABELS), (DICTIONARY, given)):
        check_file(name, path, own, checkpoint)
