"""The layer between a sentence embedding and SimCSE's loss."""

from __future__ import annotations

import torch
from torch import Tensor

from scl_fairseq.models.projection_head import ProjectionHead


class TanhHead(ProjectionHead):
    """tanh(W h + b), as the pooler of BERT, in training alone (Gao et al., 2104.08821, section 6).

    ``out_proj``, without which fairseq takes nothing for a head, is of one number and unused.

    Args:
        width: C, of the embedding.
    """

    def __init__(self, width: int):
        super().__init__(width, 1, "tanh")
        self.out_proj.requires_grad_(False)

    def forward(self, features: Tensor, **kwargs) -> Tensor:
        """(B, C), or of (B, T, C) the first position, to (B, C)."""
        x = features[:, 0] if features.dim() == 3 else features
        return torch.tanh(self.dense(x))
