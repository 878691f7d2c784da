"""The queue of earlier keys against a plain list of them, on one worker and on two, and resumed."""

import shutil

import pytest
import torch
import torch.nn.functional as F

from scl_fairseq.checkpoints import loading, training_state
from scl_fairseq.criterions.queue import KeyQueue
from tests import runs
from tests.criterions import test_sentence_prediction_scl as scl
from tests.criterions.test_supcon import NO_DROPOUT
from tests.criterions.test_supcon import build as build_supcon
from tests.losses import reference


def drawn(count, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(count, 4, generator=generator, dtype=dtype)


@pytest.mark.parametrize("size", [1, 7, 8, 30])
def test_50_pushes_are_those_of_a_list(size):
    """Batches of other sizes than K: some larger, none at all among them."""
    queue, everything = KeyQueue(size), []
    counts = [k % (size + 4) for k in range(50)] if size < 30 else [(7 * k) % 12 for k in range(50)]
    for step, count in enumerate(counts):
        rows, labels = drawn(count, step), torch.arange(count) + 100 * step
        queue.push(rows, labels)
        everything += zip(F.normalize(rows).tolist(), labels.tolist(), strict=True)
        keys, key_labels = queue.contents(drawn(2, 0))
        expected = {label: row for row, label in everything[-size:]}
        assert len(queue) == len(keys) == len(expected)
        assert sorted(key_labels.tolist()) == sorted(expected)
        for row, label in zip(keys.tolist(), key_labels.tolist(), strict=True):
            assert row == pytest.approx(expected[label], abs=1e-12)


def test_keys_are_copied_without_gradients_in_float32():
    queue, rows = KeyQueue(4), drawn(3, 0, torch.float32).half().requires_grad_()
    queue.push(rows * 1, torch.arange(3))
    with torch.no_grad():
        before = F.normalize(rows.float())
        rows.zero_()
    keys, labels = queue.contents(rows)
    assert keys.dtype == torch.float32
    assert not keys.requires_grad
    torch.testing.assert_close(keys, before)
    assert labels.dtype == torch.int64


def test_a_state_is_taken_up_to_the_bit():
    queue = KeyQueue(5)
    assert queue.state() is None
    for step in range(3):
        queue.push(drawn(4, step), torch.arange(4) + 10 * step)
    other = KeyQueue(5)
    other.load(queue.state())
    for step in range(3, 6):
        for each in (queue, other):
            each.push(drawn(3, step), torch.arange(3) + 10 * step)
        for one, another in zip(*(q.contents(drawn(1, 0)) for q in (queue, other)), strict=True):
            assert torch.equal(one, another)


@pytest.mark.parametrize(("pushed", "size", "expected"), [
    (9, 3, [6, 7, 8]), (9, 8, [4, 5, 6, 7, 8]), (2, 8, [0, 1]), (2, 1, [1])
])  # fmt: skip
def test_a_queue_of_another_size_takes_up_the_newest(pushed, size, expected):
    queue, other = KeyQueue(5), KeyQueue(size)
    for k in range(pushed):
        queue.push(drawn(1, k), torch.tensor([k]))
    other.load(queue.state())
    labels = other.contents(drawn(1, 0))[1]
    assert sorted(labels.tolist()) == expected
    other.push(drawn(1, 99), torch.tensor([99]))
    kept = sorted(other.contents(drawn(1, 0))[1].tolist())
    assert kept == ([*expected, 99] if len(expected) < size else [*expected[1:], 99])


# What the criterions make of it.

K = 11  # no multiple of the batches below


def batches(built, number):
    """Batches of 1 to 8 sentences, by their rows in the data."""
    data = built.task.dataset("train")
    place = 0
    for step in range(number):
        rows = [(place + k) % 64 for k in range(1 + (3 * step) % 8)]
        place += len(rows)
        yield data.collater([data[i] for i in rows])


def loop_loss(rows, labels, anchors, temperature):
    z = [reference.normalized(row) for row in rows]
    losses = reference.anchor_losses(z, labels, temperature)
    return sum(losses[:anchors])


def step(built, batch, update_num=0):
    built.model.zero_grad()
    optimizer = torch.optim.SGD(built.model.parameters(), lr=0.02)
    optimizer.zero_grad()
    holder = type("Holder", (), {"backward": staticmethod(lambda loss: loss.backward())})()
    found = built.task.train_step(
        batch, built.model, built.criterion, holder, update_num, ignore_grad=False
    )
    return found, optimizer


def test_50_steps_are_those_of_a_list(tiny):
    """Labelled: the batch's own keys are contrasted with from the next batch on."""
    flags = ["--scl-queue-size", K, "--scl-temperature", 0.2, *NO_DROPOUT]
    built = scl.build(tiny, "roberta", *flags)
    queue = []
    for number, batch in enumerate(batches(built, 50)):
        with torch.no_grad():
            net_input = batch["net_input"]
            rows = built.model(**net_input, features_only=True)[0][:, 0].double().tolist()
        labels = batch["target"].view(-1).tolist()
        kept_rows, kept_labels = zip(*queue, strict=True) if queue else ((), ())
        expected = loop_loss([*rows, *kept_rows], [*labels, *kept_labels], len(rows), 0.2)
        (_, _, log), optimizer = step(built, batch, number)
        assert log["scl_loss"].item() == pytest.approx(expected, rel=2e-4, abs=1e-5)
        optimizer.step()
        queue = [*queue, *zip(rows, labels, strict=True)][-K:]
    assert expected > 0.1


def test_keys_get_no_gradient_and_rows_of_the_batch_do(tiny):
    flags = ["--scl-queue-size", K, "--scl-lambda", 1, *NO_DROPOUT]
    built = scl.build(tiny, "roberta", *flags)
    built.model.double()
    first, second = list(batches(built, 3))[1:]
    rows = [built.model(**b["net_input"], features_only=True)[0][:, 0] for b in (first, second)]
    labels = [b["target"].view(-1).tolist() for b in (first, second)]
    step(built, first)
    step(built, second)
    found = built.model.encoder.sentence_encoder.layers[0].fc1.weight.grad.clone()
    joined = [*rows[1].tolist(), *rows[0].tolist()]
    count = len(labels[1])
    _, gradient = reference.loss_and_gradient(joined, [*labels[1], *labels[0]], 0.3, range(count))
    built.model.zero_grad()
    rows[1].backward(torch.tensor(gradient[:count], dtype=torch.float64))
    expected = built.model.encoder.sentence_encoder.layers[0].fc1.weight.grad
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)


def projected(built, model, net_input, views=1):
    head = built.model.classification_heads["supcon_projection"]
    with torch.no_grad():
        rows = model(**net_input, features_only=True)[0][:, 0]
        rows = head.out_proj(head.dense(rows).clamp(min=0)).double()
    return [row for row in rows.tolist() for _ in range(views)]


@pytest.mark.parametrize("is_labelled", [True, False], ids=["labels", "none"])
@pytest.mark.parametrize("momentum", [0, 0.5])
@pytest.mark.parametrize("views", [1, 2])
def test_which_rows_stand_in_the_denominator(tiny, momentum, views, is_labelled):
    """Other rows of the batch and the queue. With labels no more than that; without, the keys too
    that a momentum copy makes of the batch, one a sentence, its own sentence's positive.
    """
    if views == 1 and not momentum and not is_labelled:
        return  # refused: there would be no positives
    flags = ["--supcon-views", views, "--scl-momentum", momentum, "--scl-queue-size", K]
    flags += [*NO_DROPOUT, "--supcon-projection-dim", 6]
    flags += ["--supcon-unsupervised"] * (not is_labelled)
    built = build_supcon(tiny, "roberta", *flags)
    built.model.double()
    queue = []
    for batch in batches(built, 9):
        # The model does not change, so a copy's keys are the model's own.
        rows = projected(built, built.model, batch["net_input"], views)
        classes = batch["target"].view(-1).tolist()
        numbers = classes if is_labelled else list(range(len(classes)))
        labels = [number for number in numbers for _ in range(views)]
        keys, key_labels = rows, labels
        if momentum:
            keys, key_labels = rows[::views], numbers
        beside = (keys, key_labels) if momentum and not is_labelled else ([], [])
        kept_rows, kept_labels = zip(*queue, strict=True) if queue else ((), ())
        expected = loop_loss(
            [*rows, *beside[0], *kept_rows], [*labels, *beside[1], *kept_labels], len(rows), 0.3
        )
        (_, _, log), _ = step(built, batch)
        assert log["loss"].item() == pytest.approx(expected, rel=1e-7, abs=1e-9)
        queued = key_labels if is_labelled else [-1] * len(keys)
        queue = [*queue, *zip(keys, queued, strict=True)][-K:]


def test_an_empty_queue_changes_nothing_to_the_bit(tiny):
    found = []
    for flags in ([], ["--scl-queue-size", 0], ["--scl-queue-size", K]):
        built = scl.build(tiny, "roberta", *flags)
        torch.manual_seed(3)
        (loss, _, _), _ = step(built, built.batch)
        gradients = {n: p.grad for n, p in built.model.named_parameters() if p.grad is not None}
        found.append((loss, gradients))
        assert (built.criterion.training_state() is None) == (len(found) < 3)
    for loss, gradients in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert all(torch.equal(gradients[name], found[0][1][name]) for name in gradients)


def test_validation_neither_reads_nor_writes(tiny):
    built = scl.build(tiny, "roberta", "--scl-queue-size", K)
    built.model.eval()
    with torch.no_grad():
        before = built.criterion(built.model, built.batch)[0]
        assert built.criterion.training_state() is None
        step_batch = next(batches(built, 1))
    with torch.enable_grad():
        step(built, step_batch)
    state = built.criterion.training_state()["queue"]
    rows = state["rows"].clone()
    built.model.eval()
    with torch.no_grad():
        assert torch.equal(built.criterion(built.model, built.batch)[0], before)
    assert torch.equal(built.criterion.training_state()["queue"]["rows"], rows)


def test_a_queue_without_a_contrastive_term_is_refused(tiny):
    with pytest.raises(ValueError, match="--scl-lambda 0 has none"):
        scl.build(tiny, "roberta", "--scl-queue-size", K, "--scl-lambda", 0)


def test_anchors_with_a_positive_in_the_queue_are_counted(tiny):
    flags = ["--scl-queue-size", K, "--scl-diagnostics"]
    built = scl.build(tiny, "roberta", *flags)
    data, shares = built.task.dataset("train"), []
    rows = {data[i]["target"].item(): data[i] for i in range(64)}
    for label in (0, 0, 1):
        (_, _, log), _ = step(built, data.collater([rows[label]]))
        shares.append(log["_anchors_with_positive_sum"])
    assert shares == [0, 1, 0]


# Real trainings.


def state_of(path):
    loading.allow_globals()
    extra_state = torch.load(path, weights_only=True)["extra_state"]
    return training_state.criterion_state_of(extra_state)


@pytest.mark.parametrize(
    ("criterion", "flags"),
    [
        ("sentence_prediction_scl", []),
        ("supcon", ["--scl-momentum", 0.9, "--supcon-projection-dim", 8, "--update-freq", 2]),
    ],
)
def test_resumed_in_mid_epoch_it_ends_as_if_nothing_had_happened(tiny, tmp_path, criterion, flags):
    options = ["--max-epoch", 3, "--save-interval-updates", 3, "--scl-queue-size", K, *flags]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    runs.train(runs.command(tiny, whole, *options, criterion=criterion))
    halfway = "checkpoint_2_12.pt" if criterion != "supcon" else "checkpoint_2_6.pt"
    resumed.mkdir()
    shutil.copy(whole / halfway, resumed / "checkpoint_last.pt")
    output = runs.train(runs.command(tiny, resumed, *options, criterion=criterion)).stdout
    assert "loading pretrained model" not in output
    last = "checkpoint_last.pt"
    runs.assert_same_weights(whole / last, resumed / last)
    one, other = (state_of(folder / last) for folder in (whole, resumed))
    assert one["queue"]["filled"] == K
    assert one["queue"]["next"] == other["queue"]["next"]
    for name in ("rows", "labels"):
        assert torch.equal(one["queue"][name], other["queue"][name])
    if "--scl-momentum" in flags:
        assert one["momentum"]["update_num"] == other["momentum"]["update_num"]
        weights, resumed = (runs.used(state["momentum"]["weights"]) for state in (one, other))
        assert weights.keys() == resumed.keys()
        assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_training_begins_from_a_checkpoint_without_state_and_others_from_one_with(tiny, tmp_path):
    plain, queued, after = (tmp_path / name for name in ("plain", "queued", "after"))
    update, queue = ["--max-update", 2], ["--scl-queue-size", K]
    last = "checkpoint_last.pt"
    runs.train(runs.command(tiny, plain, *update))
    assert state_of(plain / last) is None
    # As if it had been interrupted: the queue begins afresh.
    more = ["--max-update", 4, *queue, "--restore-file", plain / last]
    runs.train(runs.command(tiny, queued, *more))
    assert state_of(queued / last)["queue"]["filled"] == K
    runs.train(runs.command(tiny, after, "--max-update", 5, "--restore-file", queued / last))
    assert state_of(after / last) is None
