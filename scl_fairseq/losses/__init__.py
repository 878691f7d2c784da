"""Contrastive losses, and what to watch beside them, as pure torch functions."""

from scl_fairseq.losses.diagnostics import (
    DIAGNOSTICS,
    diagnostic_pairs,
    diagnostic_sums,
    diagnostic_value,
)
from scl_fairseq.losses.info_nce import info_nce_loss
from scl_fairseq.losses.multi_view import multi_view_contrastive_loss
from scl_fairseq.losses.precision import Arithmetic
from scl_fairseq.losses.supervised_contrastive import (
    anchor_losses,
    l2_normalize,
    supervised_contrastive_loss,
)

__all__ = [
    "DIAGNOSTICS",
    "Arithmetic",
    "anchor_losses",
    "diagnostic_pairs",
    "diagnostic_sums",
    "diagnostic_value",
    "info_nce_loss",
    "l2_normalize",
    "multi_view_contrastive_loss",
    "supervised_contrastive_loss",
]
