"""Contrastive losses as pure torch functions."""

from scl_fairseq.losses.supervised_contrastive import (
    anchor_losses,
    l2_normalize,
    supervised_contrastive_loss,
)

__all__ = ["anchor_losses", "l2_normalize", "supervised_contrastive_loss"]
