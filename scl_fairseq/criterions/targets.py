"""A batch's labels are classes, or one line says which is not."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scl_fairseq.criterions import waiting
from scl_fairseq.refusals import listed


def check_targets(
    sample: dict, labels: Sequence[str], hint: str = "", is_training: bool = False
) -> None:
    """Look at the labels of a batch, before they are indices of anything.

    fairseq gives a label that the dictionary lacks the index -1. To a loss over logits that is out
    of range, to a contrastive one it would be a class of its own. In an update the host does not
    wait for a GPU to tell it: there the GPU itself ends the training. ``fairseq-train`` has looked
    at all labels before (``tasks.labels``).

    Args:
        sample: a batch of fairseq, ``id`` and ``target``.
        labels: names of the classes.
        hint: what the message says where there are no labels.
        is_training: whether the batch is one of an update.

    Raises:
        ValueError: a label is none of them, or a row does not have one label.
    """
    if sample.get("target") is None:
        raise ValueError(f"the data has no labels, which this criterion needs{hint}")
    targets = sample["target"].view(-1)
    rows = sample.get("id", range(len(targets)))  # a batch that was made by hand has no ids
    if len(targets) != len(rows):
        raise ValueError(f"{len(targets)} labels for {len(rows)} rows: expected one word a label")
    is_wrong = (targets < 0) | (targets >= len(labels))
    if is_training and waiting.is_waited_for(targets):
        torch._assert_async(~is_wrong.any(), "a label is no class of the dictionary")
    elif is_wrong.any():
        place = int(is_wrong.nonzero()[0])
        raise ValueError(
            f"row {int(rows[place])} has the label index {int(targets[place])}, which is no label "
            f"of the dictionary: 0 to {len(labels) - 1} are {listed(labels)}"
        )
