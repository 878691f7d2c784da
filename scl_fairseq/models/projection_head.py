"""The head that a contrastive loss looks through, and that is thrown away after training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PROJECTIONS = ("linear", "mlp")


class ProjectionHead(nn.Module):
    """A linear map, or an MLP with one hidden layer, of a sentence embedding.

    Its parameters have the names and shapes of a fairseq classification head (``dense``,
    ``out_proj``), so that a model with it among its ``classification_heads`` is saved and loaded by
    fairseq as any other. A linear map has the identity, fixed, for ``dense``.

    Args:
        input_dim: C, the embedding's width, which is the hidden layer's too.
        output_dim: D.
        kind: ``"linear"`` or ``"mlp"`` (with a ReLU).

    References:
        Khosla et al., *Supervised Contrastive Learning* (arXiv 2004.11362), section 3.1.
    """

    def __init__(self, input_dim: int, output_dim: int, kind: str):
        super().__init__()
        self.dense = nn.Linear(input_dim, input_dim)
        self.out_proj = nn.Linear(input_dim, output_dim)
        self.kind = kind
        if kind == "linear":
            fix_at_identity(self.dense)

    def forward(self, features: Tensor, **kwargs) -> Tensor:
        """(B, C), or of (B, T, C) the first position, to (B, D)."""
        x = features[:, 0] if features.dim() == 3 else features
        if self.kind == "mlp":
            x = F.relu(self.dense(x))
        return self.out_proj(x)


@torch.no_grad()
def fix_at_identity(linear: nn.Linear) -> None:
    """Make a square linear layer return its input, and keep it from being trained."""
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    linear.requires_grad_(False)
