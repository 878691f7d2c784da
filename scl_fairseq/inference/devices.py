"""Where a model runs."""

from __future__ import annotations

import torch


def find_device(name: str | None = None) -> torch.device:
    """The device of that name, by default a GPU where there is one.

    Raises:
        ValueError: there is no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {name}: there is no such device here ({reason})") from error
    return device
