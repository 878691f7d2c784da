"""Heads that read the mean, against a loop over sentences and their tokens in float64."""

import copy
import functools
import gc
import pickle
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from fairseq.models.bart import BARTHubInterface
from fairseq.models.roberta import RobertaHubInterface, XLMRModel

from scl_fairseq.models.head_pooling import tell_pooling
from scl_fairseq.models.mean_head import MeanBARTHead, MeanRobertaHead
from scl_fairseq.models.packed_encoder import pack
from tests.criterions.test_sentence_prediction_scl import ARCHITECTURES, build

HEAD = "sentence_classification_head"
BOS, PAD, EOS = 0, 1, 2
NO_DROPOUT = ["--dropout", 0, "--attention-dropout", 0, "--pooler-dropout", 0]
# Token ids, without padding.
BATCHES = {
    "ragged": [[BOS, 5, 6, 7, 8, 9, EOS], [BOS, 6, EOS], [BOS, 9, 9, 5, EOS], [BOS, EOS]],
    "all as long": [[BOS, 5, 6, EOS], [BOS, 7, 8, EOS]],
    "one token": [[EOS], [BOS, 8, 7, 6, EOS], [EOS]],
    "one of one token": [[EOS]],
    "pairs": [[BOS, 5, 6, EOS, 7, EOS], [BOS, 9, EOS, 8, 5, 6, EOS], [BOS, 8, EOS, 8, EOS]],
    "pairs, two separators": [[BOS, 5, EOS, EOS, 7, 6, 6, EOS], [BOS, 9, EOS, EOS, 8, EOS]],
}


_built = functools.cache(lambda data, arch: build(SimpleNamespace(data=data), arch, *NO_DROPOUT))


def mean_model(tiny, arch, dtype=torch.float64):
    """A model whose head reads the mean, in evaluation mode, and its configuration and task."""
    built = copy.copy(_built(tiny.data, arch))
    built.model = copy.deepcopy(built.model).to(dtype).eval()
    tell_pooling(built.model, HEAD, "mean")
    return built


def padded(rows):
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])


def net_input(arch, rows):
    """As fairseq's task collates sentences of token ids."""
    lengths = torch.tensor([len(row) for row in rows])
    found = {"src_tokens": padded(rows), "src_lengths": lengths}
    if arch == "bart_base":
        found["prev_output_tokens"] = padded([[row[-1], *row[:-1]] for row in rows])
    return found


def loop(model, arch, rows):
    """Logits, one sentence and one token at a time."""
    head, found = model.classification_heads[HEAD], []
    for row in rows:
        states = model(**net_input(arch, [row]), features_only=True)[0][0]
        assert len(states) == len(row)
        total = torch.zeros_like(states[0])
        for state in states:
            total = total + state
        hidden = torch.tanh(F.linear(total / len(row), head.dense.weight, head.dense.bias))
        found.append(F.linear(hidden, head.out_proj.weight, head.out_proj.bias))
    return torch.stack(found)


def gradients(model, logits):
    """Of a number that each logit counts for in another way."""
    weights = torch.arange(1, logits.numel() + 1, dtype=logits.dtype).view_as(logits)
    model.zero_grad(set_to_none=True)
    (logits.softmax(dim=1) * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits_and_gradients_are_those_of_a_loop(tiny, arch, name):
    model, rows = mean_model(tiny, arch).model, BATCHES[name]
    expected = loop(model, arch, rows)
    first = model(**net_input(arch, rows), features_only=True)[0][:, 0]
    head = model.classification_heads[HEAD]
    of_first = head.out_proj(torch.tanh(head.dense(first)))
    assert torch.allclose(of_first, expected) == (name == "one of one token")
    expected_gradients = gradients(model, expected)
    packings = [False, True] if arch != "bart_base" else [False]
    for is_packed in packings:
        if is_packed:
            pack(model)
        logits = model(**net_input(arch, rows), classification_head_name=HEAD)[0]
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-10)
        found = gradients(model, logits)
        assert found.keys() == expected_gradients.keys()
        torch.testing.assert_close(found, expected_gradients, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("arch", ["roberta", "roberta_prenorm"])
def test_packed_is_padded_in_float32(tiny, arch):
    model = mean_model(tiny, arch, torch.float32).model
    inputs = net_input(arch, BATCHES["ragged"])
    expected = model(**inputs, classification_head_name=HEAD)[0]
    pack(model)
    found = model(**inputs, classification_head_name=HEAD)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_fairseqs_own_predict_is_the_forward(tiny, arch, name):
    """It hands the head no mask; BART's feeds the decoder one token more of shorter sentences."""
    built = mean_model(tiny, arch, torch.float32)
    interface = BARTHubInterface if arch == "bart_base" else RobertaHubInterface
    hub = interface(built.cfg, built.task, built.model).eval()
    rows = BATCHES[name]
    expected = built.model(**net_input(arch, rows), classification_head_name=HEAD)[0]
    for _ in range(2):
        found = hub.predict(HEAD, padded(rows), return_logits=True)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        hub.predict(HEAD, padded(rows)), expected.log_softmax(dim=1), rtol=0, atol=1e-5
    )
    alone = hub.predict(HEAD, torch.tensor(rows[0]), return_logits=True)
    torch.testing.assert_close(alone[0], expected[0], rtol=0, atol=1e-5)


def test_xlmr_is_a_roberta(tiny):
    built = _built(tiny.data, "roberta")
    xlmr = XLMRModel(built.model.args, copy.deepcopy(built.model.encoder))
    xlmr.register_classification_head(HEAD, num_classes=2)
    tell_pooling(xlmr, HEAD, "mean")
    assert type(xlmr.classification_heads[HEAD]) is MeanRobertaHead
    xlmr.double().eval()
    rows = BATCHES["ragged"]
    found = xlmr(**net_input("roberta", rows), classification_head_name=HEAD)[0]
    torch.testing.assert_close(found, loop(xlmr, "roberta", rows), rtol=1e-9, atol=1e-10)


NOT_THE_OUTPUT = {
    "a copy": lambda states: states.clone(),
    "another dtype": lambda states: states.float(),
    "a part of it": lambda states: states[:2],
    "a random tensor": lambda states: torch.randn_like(states),
}


@pytest.mark.parametrize("case", NOT_THE_OUTPUT)
def test_something_else_than_the_encoders_output_is_an_error_in_words(tiny, case):
    model = mean_model(tiny, "roberta").model
    states, _ = model(padded(BATCHES["ragged"]), features_only=True)
    with pytest.raises(ValueError, match="is not the model's output of features_only=True itself"):
        model.classification_heads[HEAD](NOT_THE_OUTPUT[case](states))


def decoded(model, rows):
    """The decoder's states, and those at the last ``</s>``."""
    inputs = net_input("bart_base", rows)
    states, _ = model(**inputs, features_only=True)
    places = torch.tensor([len(row) - 1 for row in rows])
    return states, states[torch.arange(len(rows)), places]


def test_so_it_is_of_a_decoder(tiny):
    model = mean_model(tiny, "bart_base").model
    head, rows = model.classification_heads[HEAD], BATCHES["ragged"]
    states, last = decoded(model, rows)
    expected = loop(model, "bart_base", rows)
    states, last = decoded(model, rows)
    torch.testing.assert_close(head(last), expected)
    torch.testing.assert_close(head(last), expected)  # as often as one likes
    other, of_other = decoded(model, [row[::-1] for row in rows])
    message = "is not of the model's last output of features_only=True, or that is no longer held"
    for wrong in (last, last[:2], states, torch.randn_like(last)):
        with pytest.raises(ValueError, match=message):
            head(wrong)
    head(of_other)
    del other
    gc.collect()
    with pytest.raises(ValueError, match=message):
        head(of_other)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_copy_of_a_model_reads_its_own_states(tiny, arch):
    """As momentum's copy does; and a whole model may be pickled."""
    model = mean_model(tiny, arch).model
    rows, others = BATCHES["ragged"], [row[::-1] for row in BATCHES["ragged"]]
    inputs = net_input(arch, rows)
    expected = model(**inputs, classification_head_name=HEAD)[0]
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter.mul_(1.1)
        changed = copied(**inputs, classification_head_name=HEAD)[0]
        torch.testing.assert_close(changed, loop(copied, arch, rows), rtol=1e-9, atol=1e-10)
        assert not torch.allclose(changed, expected, atol=1e-3)
        copied(**net_input(arch, others), features_only=True)
        found = model(**inputs, classification_head_name=HEAD)[0]
        assert torch.equal(found, expected)


@torch.no_grad()
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tiny, arch, dtype):
    model = mean_model(tiny, arch, torch.float32).model
    inputs = net_input(arch, BATCHES["ragged"])
    expected = model(**inputs, classification_head_name=HEAD)[0]
    model.to(dtype)
    assert model.state_dict()[f"classification_heads.{HEAD}.reads_mean"].dtype == dtype
    found = model(**inputs, classification_head_name=HEAD)[0]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.15)


@torch.no_grad()
def test_a_sum_that_half_precision_has_not_is_a_mean(tiny):
    model = mean_model(tiny, "roberta", torch.float16).model
    states = torch.full((2, 40, 32), 5000.0, dtype=torch.float16)
    states.is_padding = torch.zeros(2, 40, dtype=torch.bool)
    pooled = model.classification_heads[HEAD].pool(states)
    assert torch.equal(pooled, torch.full((2, 32), 5000.0))


@torch.no_grad()
def test_what_padding_holds_does_not_matter(tiny):
    model = mean_model(tiny, "roberta").model
    tokens = padded(BATCHES["ragged"])
    states, _ = model(tokens, features_only=True)
    head = model.classification_heads[HEAD]
    expected = head(states)
    states[tokens.eq(PAD)] = float("nan")
    assert torch.equal(head(states), expected)


def test_only_fairseqs_own_heads_are_changed(tiny):
    model = mean_model(tiny, "bart_base").model
    tell_pooling(model, HEAD, "mean")
    assert type(model.classification_heads[HEAD]) is MeanBARTHead
    assert len(model.decoder._forward_hooks) == 1
    model.classification_heads["own"] = torch.nn.Linear(32, 2)
    with pytest.raises(ValueError, match="--head-pooling mean: own is a Linear, not fairseq's"):
        tell_pooling(model, "own", "mean")
