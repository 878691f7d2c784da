"""A packed encoder computes what fairseq's computes, without the padding."""

import contextlib
import copy

import pytest
import torch
from torch.nn import functional as F

import scl_fairseq  # noqa: F401
from scl_fairseq.models import packed_attention, packed_encoder
from scl_fairseq.models.packed_encoder import pack, packed, reading_first_position
from tests.data_parallel import relative_difference
from tests.inference.test_evaluation import HEAD, classifier

NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "pooler_dropout": 0.0}
KINDS = {
    "post-norm": {},
    "pre-norm": {"encoder_normalize_before": True},
    "relu": {"activation_fn": "relu"},
    "no embedding norm": {"layernorm_embedding": False, "no_scale_embedding": False},
    "sinusoidal positions": {"encoder_learned_pos": False},
    "no positions": {"no_token_positional_embeddings": True},
    "quant noise": {"quant_noise_pq": 1e-9, "quant_noise_pq_block_size": 4},
}
LONGEST = 64
LENGTHS = {
    "ragged": [23, 2, 9, 9, 1, 40, 17],
    "one token each": [1, 1, 1],
    "the longest allowed": [LONGEST, 3],
    "batch of one": [12],
    "no padding": [8, 8, 8],
}


def sentences(lengths, spare=0):
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = torch.randint(4, 40, (len(lengths), max(lengths) + spare), generator=generator)
    rows[:, 0] = 0
    return rows.masked_fill(torch.arange(rows.size(1)) >= torch.tensor(lengths)[:, None], 1)


def two_of(**settings):
    """The same model as fairseq has it, and packed."""
    model = classifier(**settings)[0].train()
    other = copy.deepcopy(model)
    pack(other)
    return model, other


def outputs_and_gradients(model, tokens, reads_first):
    """Logits, features where they are read, and gradients of both."""
    with reading_first_position(model) if reads_first else contextlib.nullcontext():
        logits, _ = model(tokens, classification_head_name=HEAD)
        features, _ = model(tokens, features_only=True)
    read = features[:, 0] if reads_first else features[tokens.ne(1)]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(read.shape, generator=generator).to(read)
    (logits.square().sum() + (read * weights).sum()).backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return {"logits": logits.detach(), "features": read.detach()}, grads


def assert_alike(ours, stock, tokens, reads_first, tolerance):
    expected, expected_grads = outputs_and_gradients(stock, tokens, reads_first)
    found, grads = outputs_and_gradients(ours, tokens, reads_first)
    assert relative_difference(found, expected) < tolerance
    assert relative_difference(grads, expected_grads) < tolerance


@pytest.mark.parametrize("reads_first", [True, False], ids=["first", "all"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_fairseqs(kind, lengths, reads_first):
    stock, ours = two_of(**NO_DROPOUT, **KINDS[kind])
    tokens = sentences(LENGTHS[lengths])
    assert_alike(ours, stock, tokens, reads_first, 1e-5)
    assert_alike(ours.double(), stock.double(), tokens, reads_first, 1e-12)


@pytest.mark.parametrize("kind", ["post-norm", "pre-norm"])
def test_evaluation_is_fairseqs(kind):
    stock, ours = two_of(**KINDS[kind])
    tokens = sentences(LENGTHS["ragged"])
    assert_alike(ours.eval(), stock.eval(), tokens, True, 1e-5)
    features, extra = ours(tokens, features_only=True, return_all_hiddens=True)
    expected, expected_extra = stock(tokens, features_only=True, return_all_hiddens=True)
    real = tokens.ne(1)
    torch.testing.assert_close(features[real], expected[real], rtol=1e-5, atol=1e-5)
    assert not features[~real].any()
    pairs = zip(extra["inner_states"], expected_extra["inner_states"], strict=True)
    for state, expected_state in pairs:
        one, other = state.transpose(0, 1)[real], expected_state.transpose(0, 1)[real]
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


class Masks:
    """Dropout masks that fairseq draws, and the same ones for packed tokens.

    fairseq draws in this order: for the embeddings (B, T, C); in each layer for attention weights
    (B, heads, T, T) and what it adds to the residual (T, B, C); in the head (B, C).
    """

    def __init__(self, monkeypatch):
        self.monkeypatch, self.drawn, self.packings = monkeypatch, [], []

    def record(self):
        def dropout(x, p=0.5, training=True, inplace=False):
            if not training or not p:
                return x
            mask = torch.empty_like(x).bernoulli_(1 - p) / (1 - p)
            self.drawn.append(mask)
            return x * mask

        def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
            scores = query @ key.transpose(-2, -1) / query.size(-1) ** 0.5
            weights = (scores if attn_mask is None else scores + attn_mask).softmax(dim=-1)
            return dropout(weights, dropout_p) @ value

        self.monkeypatch.setattr(F, "dropout", dropout)
        self.monkeypatch.setattr(F, "scaled_dot_product_attention", attention)

    def replay(self):
        self.monkeypatch.undo()
        masks, find_packing = iter(self.drawn), packed_encoder.find_packing
        pending = []

        def remember(*args, **kwargs):
            self.packings.append(find_packing(*args, **kwargs))
            return self.packings[-1]

        def dropout(x, p=0.5, training=True, inplace=False):
            if not training or not p:
                return x
            mask, packing = next(masks), self.packings[-1]
            if mask.dim() == 3:
                by_sentence = tuple(mask.shape[:2]) == packing.shape
                mask = packing.pack(mask if by_sentence else mask.transpose(0, 1))
                if len(mask) != len(x):
                    mask = mask[packing.first]
            return x * mask

        def keep_mask(weights, p):
            packing = self.packings[-1]
            if not pending:
                mask = next(masks)
                sentences = packing.ranks.argsort()
                for group in packing.groups:
                    part = mask[sentences[group.sentences], :, : group.length, : group.length]
                    pending.append(part.flatten(0, 1) > 0)
            return pending.pop(0)[:, : weights.size(1)]

        self.monkeypatch.setattr(F, "dropout", dropout)
        self.monkeypatch.setattr(packed_encoder, "find_packing", remember)
        self.monkeypatch.setattr(packed_attention, "keep_mask", keep_mask)
        return masks


@pytest.mark.parametrize("reads_first", [True, False], ids=["first", "all"])
@pytest.mark.parametrize("activation_dropout", [0.0, 0.25])
@pytest.mark.parametrize("kind", ["post-norm", "pre-norm"])
def test_with_fairseqs_dropout_masks_it_is_fairseqs_function(
    kind, activation_dropout, reads_first, monkeypatch
):
    settings = {"dropout": 0.2, "attention_dropout": 0.3, "pooler_dropout": 0.1}
    stock, ours = two_of(**settings, activation_dropout=activation_dropout, **KINDS[kind])
    tokens = sentences(LENGTHS["ragged"])
    masks = Masks(monkeypatch)
    masks.record()
    expected, expected_grads = outputs_and_gradients(stock, tokens, reads_first)
    rest = masks.replay()
    found, grads = outputs_and_gradients(ours, tokens, reads_first)
    assert next(rest, None) is None  # all were used
    assert relative_difference(found, expected) < 1e-5
    assert relative_difference(grads, expected_grads) < 1e-5


@pytest.mark.parametrize("training", [True, False])
def test_no_padding_is_computed(training):
    model = two_of()[1].train(training)
    tokens = sentences(LENGTHS["ragged"])
    total, layers = int(tokens.ne(1).sum()), list(model.encoder.sentence_encoder.layers)
    rows = []
    for layer in layers:
        layer.self_attn_layer_norm.register_forward_hook(
            lambda module, args, output: rows.append(len(output))
        )
    with reading_first_position(model):
        features, _ = model(tokens, features_only=True)
    assert rows == [total, total, len(tokens)]
    assert features.shape[:2] == (len(tokens), 1)
    rows.clear()
    features, _ = model(tokens, features_only=True)
    assert rows == [total] * 3
    assert features.shape[:2] == tokens.shape


def test_names_and_tensors_stay_and_copies_are_of_their_own():
    stock, ours = two_of(**NO_DROPOUT)
    assert list(ours.state_dict()) == list(stock.state_dict())
    other = copy.deepcopy(ours)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    tokens = sentences(LENGTHS["ragged"])
    assert_alike(ours, stock, tokens, True, 1e-5)
    assert not other(tokens, classification_head_name=HEAD)[0].any()
    pack(ours)  # again
    assert_alike(ours, stock, tokens, True, 1e-5)


def test_for_a_while():
    model = classifier()[0].eval()
    tokens = sentences(LENGTHS["ragged"])
    expected, _ = model(tokens, features_only=True)
    before = type(model.encoder.sentence_encoder)
    with packed(model, first_only=True):
        features, _ = model(tokens, features_only=True)
    torch.testing.assert_close(features, expected[:, :1], rtol=1e-5, atol=1e-5)
    with pytest.raises(IndexError), packed(model, first_only=True):
        model(tokens + 1000, features_only=True)  # no such tokens
    assert type(model.encoder.sentence_encoder) is before
    again, _ = model(tokens, features_only=True)
    assert torch.equal(again, expected)


@pytest.mark.parametrize("first_only", [False, True])
def test_padding_elsewhere_is_left_to_fairseq(first_only):
    stock, ours = two_of()
    tokens = sentences([5, 9, 3])
    tokens[1, 4] = 1
    tokens[2] = tokens[2].flip(0)
    for model in (stock, ours):
        model.eval()
    expected, _ = stock(tokens, features_only=True)
    with reading_first_position(ours) if first_only else contextlib.nullcontext():
        found, _ = ours(tokens, features_only=True)
    assert torch.equal(found, expected)


def test_activations_are_checkpointed():
    settings = {"dropout": 0.2, "attention_dropout": 0.3}
    plain = two_of(**settings)[1]
    checkpointed = two_of(**settings, checkpoint_activations=True)[1]
    checkpointed.load_state_dict(plain.state_dict())
    tokens, found, kept = sentences(LENGTHS["ragged"]), [], []

    def count(tensor):
        kept[-1] += tensor.numel()
        return tensor

    for model in (plain, checkpointed):
        torch.manual_seed(3)
        found.append(outputs_and_gradients(model, tokens, True))
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(tokens, classification_head_name=HEAD)
    assert relative_difference(found[1][0], found[0][0]) == 0
    assert relative_difference(found[1][1], found[0][1]) < 1e-6
    assert kept[1] < 0.5 * kept[0]


def test_layers_are_dropped_as_fairseq_drops_them():
    stock, ours = two_of(**NO_DROPOUT, encoder_layerdrop=0.5)
    tokens, outputs = sentences(LENGTHS["ragged"]), set()
    for seed in range(12):
        torch.manual_seed(seed)
        expected, _ = stock(tokens, classification_head_name=HEAD)
        torch.manual_seed(seed)
        with reading_first_position(ours):
            found, _ = ours(tokens, classification_head_name=HEAD)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        outputs.add(round(found.sum().item(), 3))
    assert len(outputs) > 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    stock, ours = two_of(**NO_DROPOUT)
    wide = copy.deepcopy(stock).to(dtype).double()  # the same weights
    tokens = sentences(LENGTHS["ragged"])
    expected, expected_grads = outputs_and_gradients(wide, tokens, True)
    results = {}
    for name, model in (("stock", stock), ("ours", ours)):
        found, grads = outputs_and_gradients(model.to(dtype), tokens, True)
        assert found["logits"].dtype == dtype
        results[name] = [
            relative_difference(doubled(one), other)
            for one, other in ((found, expected), (grads, expected_grads))
        ]
    for one, other in zip(results["ours"], results["stock"], strict=True):
        assert one < 1.5 * other


def doubled(tensors):
    return {name: tensor.double() for name, tensor in tensors.items()}


def test_what_cannot_be_packed_is_refused():
    from fairseq.models.transformer import TransformerEncoder
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

    with pytest.raises(ValueError, match="cannot be packed: only RoBERTa"):
        pack(torch.nn.Linear(2, 2))

    class Layer(TransformerEncoderLayerBase):
        def forward(self, x, encoder_padding_mask, attn_mask=None):
            return x

    class Encoder(TransformerEncoder):
        pass

    model = classifier()[0]
    encoder = model.encoder.sentence_encoder
    encoder.layers[1].__class__ = Layer
    with pytest.raises(ValueError, match="its layers are Layers, not fairseq's own"):
        pack(model)
    tokens = sentences([4, 2])
    with packed(model.eval(), first_only=True):  # as it is
        assert model(tokens, features_only=True)[0].shape[1] == 4

    model = classifier()[0]
    model.encoder.sentence_encoder.layers[2].self_attn.add_zero_attn = True
    with pytest.raises(ValueError, match="its attention is not fairseq's own"):
        pack(model)

    model = classifier()[0]
    model.encoder.sentence_encoder.__class__ = Encoder
    with pytest.raises(ValueError, match="its encoder is a Encoder"):
        pack(model)


def deep(width, **settings):
    """A model of RoBERTa-Base's depth, whose heads have a width that GPUs have kernels for."""
    settings |= {"encoder_embed_dim": 4 * width, "encoder_ffn_embed_dim": 8 * width}
    model = classifier(encoder_layers=12, **settings)[0].train()
    for name, parameter in model.named_parameters():  # so that fp16 holds all of it
        torch.nn.init.normal_(parameter, std=0.1)
        if name.endswith("layer_norm.weight"):
            parameter.data += 1
    return model


@pytest.mark.gpu
@pytest.mark.parametrize("reads_first", [True, False], ids=["first", "all"])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_on_a_gpu(dtype, width, reads_first):
    """As far from float64 as stock fairseq is in the same precision."""
    stock = deep(width, **NO_DROPOUT).to(dtype)
    tokens = sentences(LENGTHS["ragged"])
    wide = copy.deepcopy(stock).double()
    expected, expected_grads = outputs_and_gradients(wide, tokens, reads_first)
    ours = copy.deepcopy(stock)
    pack(ours)
    errors = {}
    for name, model in (("stock", stock), ("ours", ours)):
        found, grads = outputs_and_gradients(model.to("cuda"), tokens.cuda(), reads_first)
        errors[name] = [
            relative_difference({key: value.cpu() for key, value in doubled(one).items()}, other)
            for one, other in ((found, expected), (grads, expected_grads))
        ]
    for one, other in zip(errors["ours"], errors["stock"], strict=True):
        assert one < max(2e-5, 1.5 * other)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_trains_with_dropout_on_a_gpu(dtype, width):
    model = deep(width, dropout=0.1, attention_dropout=0.1).to("cuda", dtype)
    pack(model)
    tokens = sentences(LENGTHS["ragged"]).cuda()
    drawn, grads = zip(*(outputs_and_gradients(model, tokens, True) for _ in range(2)), strict=True)
    assert not torch.equal(drawn[0]["logits"], drawn[1]["logits"])
    tensors = [one for of_try in (*drawn, *grads) for one in of_try.values()]
    assert all(one.isfinite().all() for one in tensors)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_on_a_gpu(dtype):
    """As ``--amp`` has it: float32 weights, products and attention in half precision."""
    stock = deep(64, **NO_DROPOUT)
    tokens = sentences(LENGTHS["ragged"])
    expected, expected_grads = outputs_and_gradients(copy.deepcopy(stock).double(), tokens, True)
    ours = copy.deepcopy(stock)
    pack(ours)
    errors = {}
    for name, model in (("stock", stock), ("ours", ours)):
        with torch.autocast("cuda", dtype):
            found, grads = outputs_and_gradients(model.to("cuda"), tokens.cuda(), True)
        errors[name] = [
            relative_difference({key: value.cpu() for key, value in doubled(one).items()}, other)
            for one, other in ((found, expected), (grads, expected_grads))
        ]
    for one, other in zip(errors["ours"], errors["stock"], strict=True):
        assert one < 1.5 * other


@pytest.mark.parametrize("width", [32, 64])
def test_deep_models_are_alike_on_a_cpu_too(width):
    """What the tests above hold on a GPU, so that it is not the model that they fail by."""
    stock = deep(width, **NO_DROPOUT)
    ours = copy.deepcopy(stock)
    pack(ours)
    assert_alike(ours.double(), stock.double(), sentences([9, 2, 5]), True, 1e-12)
