"""Faster encoder layers compute what fairseq's do."""

import pytest
import torch

import scl_fairseq  # noqa: F401
from scl_fairseq.inference.fast_layers import fast_layers
from tests.inference.test_evaluation import SETTINGS, classifier


@pytest.fixture(params=SETTINGS, ids=["post-norm", "pre-norm", "relu"])
def model(request):
    return classifier(**request.param)[0].eval()


@pytest.fixture
def tokens():
    rows = torch.randint(4, 40, (5, 23), generator=torch.Generator().manual_seed(0))
    for row, length in enumerate((23, 20, 9, 2, 1)):
        rows[row, length:] = 1  # padding
    return rows


@torch.no_grad()
@pytest.mark.parametrize("first_only", [False, True])
def test_features_are_fairseqs(model, tokens, first_only):
    for batch in (tokens, tokens[:1]):
        expected, _ = model(batch, features_only=True)
        with fast_layers(model, first_only):
            found, _ = model(batch, features_only=True)
        if first_only:
            torch.testing.assert_close(found[:, 0], expected[:, 0], rtol=1e-5, atol=1e-5)
            continue
        real = batch.ne(1)
        torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_fairseqs_attention_is_not_run(model, tokens):
    *layers, last = model.encoder.sentence_encoder.layers
    if hasattr(last, "can_use_fastpath"):  # stock 0.12.2 may run torch's own kernel, which is kept
        return
    ran = []
    for layer in (*layers, last):
        layer.self_attn.register_forward_hook(lambda module, args, output: ran.append(module))
    with fast_layers(model, first_only=False):
        model(tokens, features_only=True)
    assert not ran
    with fast_layers(model, first_only=True):
        features, _ = model(tokens, features_only=True)
    assert features.shape[1] == 1
    assert not ran
    model(tokens, features_only=True)
    assert {layer.self_attn for layer in layers} <= set(ran)  # all is as it was


@torch.no_grad()
def test_a_layer_of_ones_own_is_left_alone(model, tokens):
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

    class Own(TransformerEncoderLayerBase):
        def forward(self, x, encoder_padding_mask, attn_mask=None):
            return x + 1

    layers = model.encoder.sentence_encoder.layers
    layers[1].__class__ = Own
    expected, _ = model(tokens, features_only=True)
    with fast_layers(model, first_only=False):
        found, _ = model(tokens, features_only=True)
    real = tokens.ne(1)
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-5)
