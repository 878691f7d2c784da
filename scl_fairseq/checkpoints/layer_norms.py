"""The eps of layer norms, where a checkpoint's arguments say another than fairseq's 1e-5.

A BERT classifier has 1e-12. Its logits are then its own only where fairseq's model has that too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

FAIRSEQ_LAYER_NORM_EPS = 1e-5
LAYER_NORM_EPS = "layer_norm_eps"  # among a model's arguments


def install() -> None:
    """Have fairseq build RoBERTa as its arguments say, and train on as a checkpoint's say, once."""
    from fairseq.models.roberta import RobertaModel
    from fairseq.trainer import Trainer
    from omegaconf import OmegaConf, open_dict

    if getattr(Trainer.load_checkpoint, "_scl_fairseq_eps", False):
        return
    build, load = RobertaModel.build_model.__func__, Trainer.load_checkpoint

    @functools.wraps(build)
    def build_model(cls, args, task):
        model = build(cls, args, task)
        set_eps(model, getattr(args, LAYER_NORM_EPS, None))
        return model

    @functools.wraps(load)
    def load_checkpoint(self, filename, *args, **kwargs):
        extra_state = load(self, filename, *args, **kwargs)
        eps = getattr(self, "_scl_layer_norm_eps", None)
        if eps is not None:
            set_eps(self.get_model(), eps)
            with open_dict(self.cfg) if OmegaConf.is_config(self.cfg) else nullcontext():
                setattr(self.cfg.model, LAYER_NORM_EPS, eps)  # what is saved says so again
        return extra_state

    load_checkpoint._scl_fairseq_eps = True
    RobertaModel.build_model = classmethod(build_model)
    Trainer.load_checkpoint = load_checkpoint


def eps_of(arguments: Mapping[str, Any]) -> float:
    """What a model's arguments make its layer norms use."""
    return arguments.get(LAYER_NORM_EPS) or FAIRSEQ_LAYER_NORM_EPS


def set_eps(model, eps: float | None) -> None:
    """Give every layer norm of a model this eps; None leaves them."""
    if eps is None:
        return
    for module in model.modules():
        if type(module).__name__.endswith("LayerNorm"):
            module.eps = eps
