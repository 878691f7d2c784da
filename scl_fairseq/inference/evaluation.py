"""What a classification head reads, for every example of a data set, at the cost of few padding.

The head of a fine-tuned model reads one vector a sentence. Once these are known, the loss and
accuracy of any batch follow from the head alone, whatever batches the encoder ran in: examples of
similar length go through it together, without padding where the model can be packed, and of the
last layer only the first position is computed where the head reads no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scl_fairseq.batching import batches_by_length
from scl_fairseq.models.mean_head import MeanRobertaHead, classify
from scl_fairseq.models.packed_encoder import packed, reads_first_position
from scl_fairseq.refusals import NotFiniteError

# Tokens in a batch, padding included. Small enough for a CPU's cache, large enough for a GPU.
CPU_TOKENS = 1024
GPU_TOKENS = 16384


class LengthSortedBatches:
    """All examples of a fairseq data set, collated once, those of similar length together.

    Args:
        dataset: a map-style fairseq data set whose items are those of ``sentence_prediction``.
        max_tokens: examples times longest length of a batch, at least one example.
    """

    def __init__(self, dataset, max_tokens: int):
        lengths = np.array([dataset.num_tokens(i) for i in range(len(dataset))])
        self.size = len(dataset)
        self.batches = [
            dataset.collater([dataset[i] for i in chosen])
            for chosen in batches_by_length(lengths, max_tokens)
        ]


def can_read(model: nn.Module, head_name: str) -> bool:
    """Whether the head reads nothing but the first position, which is so for stock RoBERTa's."""
    heads = getattr(model, "classification_heads", {})
    return head_name in heads and reads_first_position(heads[head_name])


def reads_one_vector(model: nn.Module, head_name: str) -> bool:
    """Whether a RoBERTa's head reads one vector of a sentence, the first position or the mean."""
    heads = getattr(model, "classification_heads", {})
    is_mean = head_name in heads and isinstance(heads[head_name], MeanRobertaHead)
    return is_mean or can_read(model, head_name)


def logits_of(model: nn.Module, head_name: str, inputs: Tensor) -> Tensor:
    """What a head makes of what it reads, (B, C) to (B, classes)."""
    return classify(model.classification_heads[head_name], inputs)


@dataclass(frozen=True)
class Reading:
    """A model's view of a data set, in its order.

    Attributes:
        logits: (N, classes).
        inputs: (N, C), what the head read; None where the head reads more than one vector, or
            nobody asked.
        targets: (N,), class indices, on the CPU; None where the data set has none.
    """

    logits: Tensor
    inputs: Tensor | None
    targets: Tensor | None


@torch.no_grad()
def read_dataset(
    model: nn.Module,
    batches: LengthSortedBatches,
    head_name: str,
    keep_inputs: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Reading:
    """Run a classifier over a data set in evaluation mode; the model's mode is left as it was.

    Args:
        model: a fairseq model with classification heads, not wrapped.
        batches: the examples.
        head_name: which head.
        keep_inputs: return what the head read, which takes memory.
        on_progress: is told examples done and in all, batch by batch.

    Raises:
        NotFiniteError: training has diverged.
    """
    device = next(model.parameters()).device
    reads_one = can_read(model, head_name)
    keep_inputs = keep_inputs and reads_one_vector(model, head_name)
    seen: list[Tensor] = []
    # The head's first layer: in evaluation mode its dropout does nothing.
    head = model.classification_heads[head_name]
    hook = (head.dense if keep_inputs else head).register_forward_pre_hook(
        lambda layer, args: seen.append(args[0]) if keep_inputs else None
    )
    was_training = model.training
    model.eval()
    logits, targets, indices = [], [], []
    done = 0
    try:
        with packed(model, first_only=reads_one):
            for batch in batches.batches:
                output, _ = model(
                    **_to_device(batch["net_input"], device),
                    features_only=True,
                    classification_head_name=head_name,
                )
                logits.append(output)
                if "target" in batch:
                    targets.append(batch["target"].view(-1))
                indices.append(batch["id"])
                done += len(batch["id"])
                if on_progress is not None:
                    on_progress(done, batches.size)
    finally:
        hook.remove()
        model.train(was_training)
    # position[i] is where example i came out
    position = torch.argsort(torch.cat(indices))
    found = torch.cat(logits)[position.to(device)]
    inputs = torch.cat(seen)[position.to(device)] if keep_inputs else None
    check_outputs(found)
    if inputs is not None:
        check_outputs(inputs)
    return Reading(found, inputs, torch.cat(targets)[position] if targets else None)


def check_outputs(outputs: Tensor) -> None:
    """Refuse outputs, (N, C), that are not finite.

    Raises:
        NotFiniteError: with the first example that has such.
    """
    broken = ~outputs.isfinite().all(dim=1)
    if broken.any():
        raise NotFiniteError(int(broken.nonzero()[0]))


def tokens_for(device: torch.device | str) -> int:
    """A good ``max_tokens`` for the device."""
    return GPU_TOKENS if torch.device(device).type == "cuda" else CPU_TOKENS


def _to_device(net_input: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {k: v.to(device) if torch.is_tensor(v) else v for k, v in net_input.items()}
