"""Whether the host waits where it reads a number out of a tensor."""

from __future__ import annotations

from torch import Tensor


def is_waited_for(tensor: Tensor) -> bool:
    """Whether a device that works by itself holds a tensor, as a GPU does.

    To read a number of it the host waits until all is computed that was asked for so far, and then
    the device waits for the host.
    """
    return tensor.device.type != "cpu"
