"""Sentence embeddings out of a model's forward pass, computed as the options say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from scl_fairseq.criterions import waiting
from scl_fairseq.criterions.capture import HeadCapture
from scl_fairseq.criterions.chunks import ChunkedCapture, chunks_of
from scl_fairseq.criterions.host_memory import keep_freed_memory
from scl_fairseq.criterions.options import ContrastConfig, embedding_of
from scl_fairseq.criterions.workers import check_wrappers
from scl_fairseq.models.head_pooling import tell_pooling
from scl_fairseq.models.packed_encoder import pack
from scl_fairseq.models.packing import forget_packings


class Reader:
    """Reads the embeddings that are contrasted: a head's input, or a projection head's output.

    Args:
        cfg: the criterion's options.
        head_name: which of the model's ``classification_heads`` its forward runs.
        padding_idx: index of ``<pad>``.
        projects: whether the head is a projection, whose output is read.
    """

    def __init__(
        self, cfg: ContrastConfig, head_name: str, padding_idx: int, projects: bool = False
    ):
        self._head_name, self._padding_idx, self._projects = head_name, padding_idx, projects
        self._kind, self._chunk_size = embedding_of(cfg), cfg.scl_chunk_size
        self._pooling = str(cfg.head_pooling)
        self._is_packed = cfg.scl_packed
        self._is_checked = False

    def prepare_model(self, model: nn.Module) -> None:
        """See ``checkpoints.training_state``: let the head read what it is to read.

        Raises:
            ValueError: it cannot.
        """
        if not self._projects:
            tell_pooling(model, self._head_name, self._pooling)

    def finish_loading(self, model: nn.Module) -> None:
        """See ``checkpoints.training_state``."""

    def prepare(self, model: nn.Module) -> None:
        """Make a model ready for its forward pass of a new batch, with its wrappers.

        Raises:
            ValueError: the model or a wrapper cannot do what the options ask for.
        """
        if model.training and not self._is_checked:
            check_wrappers(model)
            self._is_checked = True
        forget_packings()
        if self._is_packed:
            try:
                pack(model)
            except ValueError as error:
                raise ValueError(f"--scl-packed: {error}") from None
            if next(model.parameters()).device.type == "cpu":
                keep_freed_memory()

    @contextmanager
    def capture(self, model: nn.Module, net_input: dict) -> Iterator[HeadCapture | ChunkedCapture]:
        """Context in which the model's forward on ``net_input`` is run, and then was captured."""
        kind, padding_idx = self._kind, self._padding_idx
        if self._chunk_size and model.training:
            how = ChunkedCapture(model, self._head_name, self._chunk_size, kind, padding_idx)
        else:
            how = HeadCapture(model, self._head_name, kind, net_input, padding_idx)
        with how as captured:
            yield captured

    def rows(self, captured: HeadCapture | ChunkedCapture) -> Tensor:
        """What is contrasted, (B, D), of a forward pass."""
        return captured.logits if self._projects else captured.embedding()

    def read(self, model: nn.Module, net_input: dict) -> Tensor:
        """Run the model's forward once: (B, D)."""
        with self.capture(model, net_input) as captured:
            model(**net_input, features_only=True, classification_head_name=self._head_name)
        return self.rows(captured)

    @torch.no_grad()
    def read_keys(self, model: nn.Module, net_input: dict) -> Tensor:
        """The same of a model in evaluation mode, in chunks and without gradients: (B, D)."""
        tokens = net_input["src_tokens"]
        size = self._chunk_size or len(tokens)
        # Of one chunk only padding that no sentence needs would be cut, of packed ones none.
        is_spare = size >= len(tokens) or self._is_packed
        cuts = not (is_spare and waiting.is_waited_for(tokens))
        chunks = chunks_of(net_input, size, self._padding_idx, cuts)
        return torch.cat([self.read(model, chunk) for chunk in chunks])
