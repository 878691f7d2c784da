"""Which rate and weight decay each parameter of a model gets, and what set_lr does with them."""

import pytest
import torch
from fairseq import optim
from omegaconf import OmegaConf
from torch import nn

from scl_fairseq.optim import places
from scl_fairseq.optim.options import FusedAdamWConfig
from tests.criterions.test_sentence_prediction_scl import build

ROBERTA = {
    "encoder.sentence_encoder.embed_tokens": 2,
    "encoder.sentence_encoder.embed_positions": 2,
    "encoder.sentence_encoder.layernorm_embedding": 2,
    "encoder.sentence_encoder.layers.0": 1,
    "encoder.sentence_encoder.layers.1": 0,
    "encoder.sentence_encoder.layer_norm": 0,
    "encoder.lm_head": 0,
}
BART = {
    "encoder.embed_tokens": 4,
    "encoder.embed_positions": 4,
    "encoder.layernorm_embedding": 4,
    "decoder.embed_positions": 4,
    "decoder.layernorm_embedding": 4,
    "encoder.layers.0": 3,
    "encoder.layers.1": 2,
    "decoder.layers.0": 1,
    "decoder.layers.1": 0,
}
LR = 1e-3


def optimizer_of(params, **options):
    cfg = OmegaConf.structured(FusedAdamWConfig)
    cfg.update({"_name": "fused_adamw", "lr": [LR], "weight_decay": 0.1, **options})
    return optim.build_optimizer(cfg, list(params))


def rates(optimizer):
    """By parameter: learning rate and weight decay."""
    return {
        parameter: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize(
    ("arch", "steps"),
    [("roberta", ROBERTA), ("roberta_prenorm", ROBERTA), ("bart_base", BART)],
    ids=["roberta", "pre-norm", "bart"],
)
def test_every_parameter_of_a_model(tiny, arch, steps):
    built = build(tiny, arch)
    places.mark(built.model, built.criterion)
    options = {"head_lr_scale": 3.0, "layer_lr_decay": 0.5, "no_decay_biases_norms": True}
    optimizer = optimizer_of(built.model.parameters(), **options)
    optimizer.set_lr(2e-4)
    found = rates(optimizer)
    seen = set()
    for name, parameter in built.model.named_parameters():
        lr, decay = found.pop(parameter)
        if name.startswith("classification_heads."):
            assert lr == pytest.approx(3 * 2e-4)
        else:
            (start,) = (start for start in steps if name.startswith(f"{start}."))
            assert lr == pytest.approx(2e-4 / 2 ** steps[start]), name
            seen.add(start)
        is_matrix = name.endswith("weight") and "norm" not in name
        assert decay == (0.1 if is_matrix else 0), name
    assert not found
    other_norm = {"roberta": "layer_norm", "roberta_prenorm": "layernorm_embedding"}.get(arch)
    assert seen == set(steps) - {f"encoder.sentence_encoder.{other_norm}"}
    assert optimizer.get_lr() == 2e-4


def test_without_options_there_is_one_group(tiny):
    built = build(tiny)
    places.mark(built.model, built.criterion)
    (group,) = optimizer_of(built.model.parameters()).param_groups
    assert group["indices"] == list(range(len(list(built.model.parameters()))))
    assert (group["lr"], group["weight_decay"]) == (LR, 0.1)


def test_a_frozen_encoder_leaves_the_head(tiny):
    built = build(tiny)
    for parameter in built.model.encoder.parameters():
        parameter.requires_grad = False
    places.mark(built.model, built.criterion)
    optimizer = optimizer_of(built.model.parameters(), head_lr_scale=7.0)
    (group,) = optimizer.param_groups
    assert group["params"] == list(built.model.classification_heads.parameters())
    assert group["lr"] == pytest.approx(7 * LR)
    optimizer.set_lr(0.3)
    assert optimizer.get_lr() == 0.3
    with pytest.raises(ValueError, match="--layer-lr-decay: no layer below another"):
        optimizer_of(built.model.parameters(), layer_lr_decay=0.5)


def test_a_rate_that_a_scheduler_of_torch_lowers(tiny):
    """As fairseq's reduce_lr_on_plateau, which knows the groups alone."""
    built = build(tiny)
    places.mark(built.model, built.criterion)
    optimizer = optimizer_of(built.model.parameters(), head_lr_scale=3.0, layer_lr_decay=0.9)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer.optimizer, patience=0, factor=0.1
    )
    plateau.step(1.0)
    plateau.step(2.0)
    assert optimizer.get_lr() == pytest.approx(LR / 10)
    for group in optimizer.param_groups:
        assert group["lr"] / group["lr_scale"] == pytest.approx(LR / 10)


def test_overrides_keep_the_groups_apart(tiny):
    """``--optimizer-overrides`` of fairseq, which sets a number in every group."""
    built = build(tiny)
    places.mark(built.model, built.criterion)
    options = {"layer_lr_decay": 0.5, "no_decay_biases_norms": True}
    optimizer = optimizer_of(built.model.parameters(), **options)
    optimizer.load_state_dict(
        optimizer.state_dict(), {"lr": 0.5, "weight_decay": 0.3, "betas": (0.5, 0.6)}
    )
    found = {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert found == {(0.5, 0.3), (0.5, 0), (0.25, 0.3), (0.25, 0), (0.125, 0.3), (0.125, 0)}
    assert all(group["betas"] == (0.5, 0.6) for group in optimizer.param_groups)


def test_what_would_change_nothing_is_refused(tiny):
    built = build(tiny)
    places.mark(built.model, built.criterion)
    with pytest.raises(ValueError, match="--head-lr-scale: no classification head is trained"):
        optimizer_of(built.model.encoder.parameters(), head_lr_scale=2.0)
    unmarked = [nn.Parameter(torch.zeros(2, 2))]
    with pytest.raises(ValueError, match="--layer-lr-decay: only fairseq's trainer knows"):
        optimizer_of(unmarked, layer_lr_decay=0.5)
