"""Supervised contrastive learning for fine-tuning pre-trained language models with fairseq.

``fairseq-train --user-dir scl_fairseq --criterion sentence_prediction_scl`` is all that a fairseq
user needs; ``import scl_fairseq`` does the same in Python, before or after ``import fairseq``.
"""

from scl_fairseq.plugin import register_with_fairseq

__all__ = ["SCLClassifier", "load"]
__version__ = "0.1.0"


def load(path, data_dir=None, bpe=None, bpe_dir=None, device=None, dtype=None):
    """Load a RoBERTa checkpoint for sentences; :func:`scl_fairseq.inference.hub.load`, which
    describes the arguments and the result.
    """
    from scl_fairseq.inference import hub  # takes seconds: fairseq and torch

    return hub.load(path, data_dir, bpe, bpe_dir, device, dtype)


def __getattr__(name):
    if name == "SCLClassifier":  # takes a second: scikit-learn
        from scl_fairseq.training.classifier import SCLClassifier

        return SCLClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_with_fairseq()
