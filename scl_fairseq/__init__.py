"""Supervised contrastive learning for fine-tuning pre-trained language models with fairseq.

``fairseq-train --user-dir scl_fairseq --criterion sentence_prediction_scl`` is all that a fairseq
user needs; ``import scl_fairseq`` does the same in Python, before or after ``import fairseq``.
"""

from scl_fairseq.plugin import register_with_fairseq

__version__ = "0.1.0"

register_with_fairseq()
