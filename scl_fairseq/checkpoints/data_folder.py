"""A folder of data whose name fairseq would split, refused before training."""

from __future__ import annotations

import functools
import os

from scl_fairseq.files import check_unsplit


def install() -> None:
    """Have ``fairseq-train`` say which folder it cannot read, once.

    It looks there for validation sets that it was not told of. Other tasks take several folders in
    one argument; one that is there as a whole was meant as one.
    """
    from fairseq.data import data_utils

    original = data_utils.raise_if_valid_subsets_unintentionally_ignored
    if getattr(original, "_scl_fairseq", False):
        return

    @functools.wraps(original)
    def raise_if_valid_subsets_unintentionally_ignored(train_cfg):
        data = getattr(train_cfg.task, "data", None)
        if isinstance(data, str) and os.path.isdir(data):
            check_unsplit(data)
        return original(train_cfg)

    raise_if_valid_subsets_unintentionally_ignored._scl_fairseq = True
    data_utils.raise_if_valid_subsets_unintentionally_ignored = (
        raise_if_valid_subsets_unintentionally_ignored
    )
