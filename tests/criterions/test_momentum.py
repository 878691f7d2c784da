"""The momentum copy against the formula, written out once more in float64."""

import copy

import pytest
import torch

from scl_fairseq.criterions import momentum
from scl_fairseq.criterions.momentum import MomentumCopy
from tests.criterions import test_sentence_prediction_scl as scl
from tests.criterions.test_queue import step
from tests.criterions.test_supcon import build as build_supcon

QUEUE = ["--scl-queue-size", 12, "--scl-momentum", 0.7]


def parameters(model, dtype=torch.float64):
    return {name: p.detach().to(dtype, copy=True) for name, p in model.named_parameters()}


def weights_of(built):
    return built.criterion.training_state()["momentum"]["weights"]


def test_it_follows_the_formula_over_20_updates_of_two_micro_batches(tiny):
    """From the second micro-batch on nothing moves until the next update."""
    built = build_supcon(tiny, "roberta", *QUEUE)
    expected = parameters(built.model)
    for update in range(20):
        queries = parameters(built.model)
        if update > 0:
            expected = {n: 0.7 * expected[n] + 0.3 * queries[n] for n in expected}
        for _ in range(2):
            (_, _, _), optimizer = step(built, built.batch, update)
            found = weights_of(built)
            assert found.keys() == expected.keys()
            for name, key in found.items():
                torch.testing.assert_close(key.double(), expected[name], rtol=1e-6, atol=1e-6)
        optimizer.step()
    head = "classification_heads.supcon_projection.out_proj.weight"
    assert not torch.allclose(expected[head], parameters(built.model)[head], atol=1e-5)


@pytest.mark.parametrize("part", [1, 40, 2**24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_step_is_the_same_however_many_parameters_are_taken_at_a_time(monkeypatch, dtype, part):
    """Against one lerp a parameter, to the bit; among them one of another type."""
    monkeypatch.setattr(momentum, "LARGEST_PART", part)
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(5, 5) for _ in range(4))).to(dtype)
    model[2].float()
    copied = MomentumCopy(0.999)
    copied.follow(model, 0)
    expected = {
        n: p.detach().clone().to(copied._wide[n].dtype) for n, p in model.named_parameters()
    }
    for update in range(1, 4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        found = dict(copied.follow(model, update).named_parameters())
        for name, parameter in model.named_parameters():
            wide = expected[name]
            wide.lerp_(parameter.detach().to(wide.dtype), 1 - 0.999)
            assert torch.equal(copied.state()["weights"][name], wide)
            assert torch.equal(found[name], wide.to(parameter.dtype))


def test_it_is_no_part_of_the_model_or_the_criterion_and_gets_no_gradient(tiny):
    built = build_supcon(tiny, "roberta", *QUEUE)
    names = list(built.model.state_dict())
    for update in range(3):
        (_, _, _), optimizer = step(built, built.batch, update)
        optimizer.step()
    assert list(built.model.state_dict()) == names
    assert list(built.criterion.parameters()) == []
    module = built.criterion._contrast._momentum.follow(built.model, 2)
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())
    assert not module.training
    mine = {p.data_ptr() for p in built.model.parameters()}
    assert not any(p.data_ptr() in mine for p in module.parameters())


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("criterion", ["supcon", "sentence_prediction_scl"])
def test_keys_are_the_copys_in_evaluation_mode(tiny, criterion, pooling):
    """Under dropout the rows of the batch differ from the keys; the keys have none."""
    flags = [*QUEUE, "--dropout", 0.3, *["--supcon-projection-dim", 6] * (criterion == "supcon")]
    flags += ["--head-pooling", pooling]
    built = scl.build(tiny, "roberta", *flags, criterion=criterion)
    built.criterion.prepare_model(built.model)
    key_model = copy.deepcopy(built.model).eval()
    for update in range(2):
        (_, _, _), optimizer = step(built, built.batch, update)
        optimizer.step()
        queries = built.model
        if update == 0:
            with torch.no_grad():
                for key, query in zip(key_model.parameters(), queries.parameters(), strict=True):
                    key.mul_(0.7).add_(query, alpha=0.3)
    with torch.no_grad():
        built.model = key_model
        rows = scl.expected_embedding(built, pooling)
        if criterion == "supcon":
            head = key_model.classification_heads["supcon_projection"]
            rows = head.out_proj(head.dense(rows).clamp(min=0))
    state = built.criterion.training_state()["queue"]
    newest = [(state["next"] - 8 + k) % 12 for k in range(8)]
    expected = torch.nn.functional.normalize(rows)
    torch.testing.assert_close(state["rows"][newest], expected, rtol=1e-4, atol=1e-5)
    assert state["labels"][newest].tolist() == built.batch["target"].view(-1).tolist()


def test_keys_leave_the_random_numbers_of_training_alone(tiny):
    gradients = []
    for flags in (["--scl-queue-size", 12], QUEUE):
        built = scl.build(tiny, "roberta", *flags)
        torch.manual_seed(4)
        step(built, built.batch)
        named = built.model.named_parameters()
        gradients.append({n: p.grad for n, p in named if p.grad is not None})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], [16]), (["--scl-momentum", 0.7], [16, 8])],
    ids=["m = 0", "m = 0.7"],
)
def test_one_more_forward_of_each_sentence_with_momentum_alone(tiny, flags, expected):
    built = build_supcon(tiny, "roberta", "--scl-queue-size", 12, *flags)
    rows = count_rows(built.model)
    step(built, built.batch)
    assert rows == expected


def test_keys_are_computed_in_chunks(tiny):
    built = build_supcon(tiny, "roberta", *QUEUE, "--scl-chunk-size", 3)
    rows = count_rows(built.model)
    step(built, built.batch)
    in_training, backward = [3, 3, 3, 3, 3, 1], [3, 3, 3, 3, 3]
    assert rows == [*in_training, 3, 3, 2, *backward]


def count_rows(model):
    """Of each forward of the encoder, and of its copies, the number of sentences."""
    rows = []
    model.encoder.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    return rows


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_steps_do_not_vanish_in_half_precision(dtype):
    model = torch.nn.Linear(1, 1, bias=False).to(dtype)
    follower = MomentumCopy(0.999)
    with torch.no_grad():
        model.weight.fill_(1.0)
        follower.follow(model, 0)
        model.weight.fill_(2.0)
    for update in range(1, 101):
        copied = follower.follow(model, update)
    assert copied.weight.dtype == dtype
    assert follower.state()["weights"]["weight"].dtype == torch.float32
    expected = 2 - 0.999**100
    assert follower.state()["weights"]["weight"].item() == pytest.approx(expected, abs=1e-6)
    assert copied.weight.item() == pytest.approx(expected, rel=0.01)


def test_a_state_is_taken_up_with_the_step_that_is_due():
    model = torch.nn.Linear(2, 2)
    follower = MomentumCopy(0.9)
    for update in range(4):
        follower.follow(model, update)
        with torch.no_grad():
            model.weight.add_(1.0)
    state = {"weights": {n: t.clone() for n, t in follower.state()["weights"].items()}}
    state["update_num"] = follower.state()["update_num"]
    resumed = MomentumCopy(0.9)
    resumed.load(state)
    assert resumed.state() is state  # a checkpoint before the first batch loses nothing
    for each in (follower, resumed):
        each.follow(model, 4)
    for name, tensor in follower.state()["weights"].items():
        assert torch.equal(resumed.state()["weights"][name], tensor)


def test_a_state_of_another_model_is_left_out(caplog):
    follower = MomentumCopy(0.9)
    follower.load({"weights": {"weight": torch.ones(3, 3)}, "update_num": 7})
    model = torch.nn.Linear(2, 2)
    copied = follower.follow(model, 9)
    assert torch.equal(copied.weight, model.weight)
    assert "of another model" in caplog.text


def test_tied_parameters_stay_tied(tiny):
    built = scl.build(tiny, "roberta", *QUEUE)
    follower = MomentumCopy(0.5)
    follower.follow(built.model, 0)
    with torch.no_grad():
        built.model.encoder.lm_head.weight.add_(1.0)
    copied = follower.follow(built.model, 1)
    table = copied.encoder.sentence_encoder.embed_tokens.weight
    assert copied.encoder.lm_head.weight is table
    expected = built.model.encoder.lm_head.weight - 0.5
    torch.testing.assert_close(table, expected.detach())
