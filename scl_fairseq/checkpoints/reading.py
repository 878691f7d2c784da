"""fairseq's checkpoints as data: read whole, or refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.fitting import check_beside
from scl_fairseq.configuration import as_dict
from scl_fairseq.refusals import UNFIT, one_line


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Contents of a checkpoint in today's terms: ``cfg`` and ``model`` are there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, not safe to load, or none of fairseq's; or the ``config.json``
            beside it is of another network.
    """
    from fairseq import checkpoint_utils

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        if state["cfg"].get("task") is None or not isinstance(state["model"], Mapping):
            raise TypeError("it has no task or no weights")
    except UNFIT as error:
        message = one_line(error)
        if str(path) not in message:
            message = f"{path} is no fairseq checkpoint ({message})"
        raise ValueError(message) from error
    except OSError as error:  # in a short rest of a file torch seeks to where there is nothing
        raise ValueError(f"{path} is truncated or damaged: {one_line(error)}") from error
    check_beside(path, as_dict(state["cfg"].get("model")))
    state["args"] = None  # of older files; fairseq has put them into cfg too
    return state
