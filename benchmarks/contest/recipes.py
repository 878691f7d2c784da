"""Settings of this project's trainings: options of ``fairseq-train`` by size and kind of data.

The one place to change when better ones are found. They may rest on validation sets, never on
test.
"""

from typing import Any

WARMUP_RATIO = 0.06
LOSSES = {
    "ce": {"scl-lambda": 0},
    "scl": {"scl-lambda": 0.9, "scl-temperature": 0.3},
}


def recipe(loss: str, num_examples: int, num_inputs: int, num_classes: int) -> dict[str, Any]:
    """Options of a training.

    Args:
        loss: ``ce`` or ``scl``.
        num_examples: training examples.
        num_inputs: 1, or 2 for pairs.
        num_classes: how many there are.
    """
    epochs, between = (30, 3) if num_examples <= 50 else (10, 1) if num_examples <= 300 else (3, 1)
    return {
        **LOSSES[loss],
        "head-pooling": "mean",
        "scl-packed": True,
        "optimizer": "fused_adamw",
        "lr": 1e-4,
        "max-epoch": epochs,
        "validate-interval": between,
        "batch-size": 16,
    }
