"""What a classifier says, whatever it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of some examples, in their order.

    Attributes:
        labels: the most probable label of each.
        probabilities: (N, classes), float32, on the CPU; of an ONNX model numpy's.
        class_names: labels in the order of the columns.
    """

    labels: list[str]
    probabilities: Tensor | np.ndarray
    class_names: list[str]
