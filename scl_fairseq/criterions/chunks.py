"""A batch that goes through the model a few sentences at a time, and is one batch to the loss.

Activations of a chunk are dropped after its forward and computed again in backward, with the same
random numbers, when its turn comes (the idea of Gao et al., arXiv 2101.06983, by torch's own
activation checkpointing). So memory is that of one chunk, whatever the batch. On a CPU a chunk has
no padding either, where the model can be packed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scl_fairseq.criterions import waiting
from scl_fairseq.criterions.capture import HeadCapture
from scl_fairseq.criterions.host_memory import return_freed_memory
from scl_fairseq.models.packed_encoder import is_packed, packed

TOKENS = ("src_tokens", "prev_output_tokens")


class ChunkedCapture:
    """Stands for a ``HeadCapture`` of a model, which runs in chunks while the context lasts.

    The loop over chunks stands inside of the model's own ``forward``, so that wrappers for several
    workers see one forward and one backward.

    Args:
        model: as for ``HeadCapture``.
        head_name: which head.
        chunk_size: sentences at a time.
        kind: the embedding that will be asked for.
        padding_idx: index of ``<pad>``; chunks are cut to their longest sentence.

    Attributes (set by a forward pass inside the context):
        logits: the head's output, (B, num_classes).
    """

    def __init__(
        self, model: nn.Module, head_name: str, chunk_size: int, kind: str, padding_idx: int
    ):
        while hasattr(model, "module"):
            model = model.module
        self._model, self._head_name, self._chunk_size = model, head_name, chunk_size
        self._kind, self._padding_idx = kind, padding_idx
        self._embedding: Tensor | None = None
        self.logits: Tensor | None = None

    def __enter__(self) -> ChunkedCapture:
        self._forward = self._model.forward
        self._model.forward = self._forward_in_chunks  # hides the class's method
        return self

    def __exit__(self, *exc_info) -> None:
        del self._model.forward

    def embedding(self) -> Tensor:
        """The sentence embedding of the whole batch, (B, C)."""
        return self._embedding

    def _forward_in_chunks(self, **net_input: Any) -> tuple[Tensor, dict]:
        """Stands for the model's ``forward``: the whole batch's logits."""
        # On a GPU a packed encoder leaves the columns of padding out itself.
        cuts = not (is_packed(self._model) and waiting.is_waited_for(net_input["src_tokens"]))
        *kept, last = chunks_of(net_input, self._chunk_size, self._padding_idx, cuts)
        found = [checkpoint(self._run, chunk, use_reentrant=False) for chunk in kept]
        # Backward starts with it: its activations need not be dropped and made again.
        found.append(self._run(last))
        logits, embeddings = zip(*found, strict=True)
        self.logits, self._embedding = torch.cat(logits), torch.cat(embeddings)
        return self.logits, {"inner_states": None}

    def _run(self, chunk: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Logits and embeddings of a chunk. In backward it runs again, after the context's end."""
        with contextlib.ExitStack() as stack:
            if chunk["src_tokens"].device.type == "cpu":
                return_freed_memory()
                # What computing twice costs, computing no padding and by faster products gives.
                stack.enter_context(packed(self._model, first_only=False))
            captured = HeadCapture(
                self._model, self._head_name, self._kind, chunk, self._padding_idx
            )
            stack.enter_context(captured)
            logits, _ = self._forward(**chunk)
        # A view would hold the hidden states of all positions, and scatter the memory between them.
        return logits, captured.embedding().clone()


def chunks_of(
    net_input: dict[str, Any], size: int, padding_idx: int, cuts: bool = True
) -> Iterator[dict[str, Any]]:
    """The batch, ``size`` sentences at a time.

    Args:
        net_input: of the whole batch.
        size: sentences of a chunk.
        padding_idx: index of ``<pad>``.
        cuts: leave out columns of a chunk that are padding throughout, for which the host waits
            for a GPU, once.
    """
    if not cuts and len(net_input["src_tokens"]) <= size:
        yield net_input  # itself: what is known of its tokens stays known
        return
    tensors = {name: value for name, value in net_input.items() if torch.is_tensor(value)}
    rest = {name: value for name, value in net_input.items() if name not in tensors}
    names = [name for name in TOKENS if name in tensors] if cuts else []
    widths = _widths([tensors[name] for name in names], size, padding_idx)
    for place, start in enumerate(range(0, len(net_input["src_tokens"]), size)):
        chunk = {name: value[start : start + size] for name, value in tensors.items()}
        for name, of_chunks in zip(names, widths, strict=True):
            chunk[name] = chunk[name][:, : of_chunks[place]]
        yield {**chunk, **rest}


def _widths(batches: list[Tensor], size: int, padding_idx: int) -> list[list[int]]:
    """Of each batch of tokens, of each chunk the last column that is not all padding, and one."""
    found = []
    for tokens in batches:
        columns = torch.arange(1, tokens.shape[-1] + 1, device=tokens.device)
        ends = tokens.ne(padding_idx).mul(columns).amax(dim=-1)
        found.append(torch.stack([part.amax() for part in ends.split(size)]))
    return torch.stack(found).tolist() if found else []
