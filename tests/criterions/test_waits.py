"""No criterion has the host wait for a GPU, but where stock fairseq has it, and packing once.

Where there is no GPU, operations that would have to be waited for are counted, and what the code
does on a CPU alone is left out. fairseq's encoder waits to know whether there is padding.
"""

import copy
import functools

import pytest
import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from scl_fairseq.criterions import waiting
from scl_fairseq.losses import diagnostic_pairs, info_nce_loss, multi_view_contrastive_loss
from scl_fairseq.losses import supervised_contrastive as losses
from scl_fairseq.models import packed_attention, packed_encoder
from tests.criterions import test_sentence_prediction_scl as scl
from tests.criterions import unlabelled
from tests.waits import ours, waits

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
PACKING = "scl_fairseq/models/packing.py"
QUEUE = ["--scl-queue-size", 20]
MOMENTUM = [*QUEUE, "--scl-momentum", 0.9]
CHUNKS = ["--scl-chunk-size", 3]
INFOCSE = ["--infocse-lambda", 0.3, "--infocse-rtd", 0.5, "--infocse-mlm", 0.2]
LABELLED = [
    ("sentence_prediction_scl", []),
    ("sentence_prediction_scl", QUEUE),
    ("sentence_prediction_scl", MOMENTUM),
    ("sentence_prediction_scl", ["--scl-diagnostics", *QUEUE]),
    ("sentence_prediction_scl", ["--scl-embedding", "mean", "--head-pooling", "mean"]),
    ("supcon", []),
    ("supcon", ["--supcon-average", "in", *QUEUE]),
    ("supcon", ["--supcon-unsupervised", "--scl-diagnostics", *MOMENTUM]),
]
UNLABELLED = [
    ("simcse", []),
    ("simcse", [*QUEUE, "--scl-diagnostics"]),
    ("simcse", MOMENTUM),
    ("infocse", INFOCSE),
]
NAMES = {str: str, list: lambda flags: " ".join(map(str, flags)) or "plain"}


def name_of(value):
    return NAMES[type(value)](value)


def without_waits(query, key, value, packing, heads, scaling, dropout):
    """Attention of the packed tokens by one matrix, as a kernel that asks for nothing."""
    sentences = packing.index // packing.shape[1]
    asked = sentences if len(query) == len(key) else sentences.index_select(0, packing.first)
    split = [part.unflatten(1, (heads, -1)).transpose(0, 1) for part in (query, key, value)]
    found = F.scaled_dot_product_attention(
        *split, attn_mask=asked[:, None] == sentences, scale=scaling
    )
    return found.transpose(0, 1).flatten(1)


@pytest.fixture
def on(monkeypatch):
    """``on(device)``: on a CPU, go the ways that are a GPU's."""

    def go(device):
        if device != "cpu":
            return
        monkeypatch.setattr(packed_encoder, "has_ragged_kernel", lambda device: True)
        monkeypatch.setattr(packed_attention, "attend_ragged", without_waits)
        monkeypatch.setattr(waiting, "is_waited_for", lambda tensor: True)

    return go


def of_an_update(criterion, model, batch, device):
    """Places that the third update waits at: the first ones make queues and copies."""
    model = model.to(device).train()
    batch = tree_map(lambda one: one.to(device) if torch.is_tensor(one) else one, batch)
    for update in range(3):
        # Every batch is a new one, to fairseq and to what is known of its tokens.
        batch = copy.deepcopy(batch)
        with waits(device) as places:
            loss, _, _ = criterion(model, batch)
            loss.backward()
        model.zero_grad()
        if hasattr(criterion, "_contrast") and hasattr(criterion._contrast, "_workers"):
            criterion._contrast._workers.update_num = update + 1
    return places


def built_of(criterion, flags, tiny, lines):
    if any(name == criterion for name, _ in UNLABELLED):
        built = unlabelled.build(lines.data, *flags, criterion=criterion)
        return built.criterion, built.model.float(), built.batch(range(8))
    built = scl.build(tiny, "roberta", *flags, criterion=criterion)
    if hasattr(built.criterion, "prepare_model"):
        built.criterion.prepare_model(built.model)
    return built.criterion, built.model, built.batch


@pytest.fixture(scope="module")
def stock(tiny, lines):
    """Files in which stock fairseq waits, and how often in one pass."""

    @functools.cache
    def of(device):
        places = of_an_update(*built_of("sentence_prediction", [], tiny, lines), device)
        return {place.split(":")[0] for place in places}, len(places)

    return of


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("criterion", "flags"), [*LABELLED, *UNLABELLED], ids=name_of)
def test_only_fairseqs_own_code_waits_or_packing(tiny, lines, stock, on, criterion, flags, device):
    """Once for each batch that goes through an encoder; InfoCSE has several of its own."""
    on(device)
    is_infocse, has_copy = criterion == "infocse", MOMENTUM[-1] in flags
    found = of_an_update(*built_of(criterion, flags, tiny, lines), device)
    files, per_pass = stock(device)
    layers = {"scl_fairseq/models/packed_encoder.py"} if is_infocse else set()
    assert {place.split(":")[0] for place in found} <= files | layers
    passes = 4 if is_infocse else 1 + has_copy
    assert len(found) <= passes * per_pass + 2 * len(layers)

    found = of_an_update(*built_of(criterion, [*flags, "--scl-packed"], tiny, lines), device)
    assert ours(found) == [PACKING] * len(found)
    # Where views are further rows, the copy reads others than the model.
    reads_others = has_copy and criterion != "sentence_prediction_scl"
    assert 1 <= len(found) <= (5 if is_infocse else 1 + reads_others)


@pytest.mark.parametrize("device", DEVICES)
def test_chunks_wait_once_for_their_widths(tiny, lines, on, device):
    on(device)
    for flags in ([], ["--scl-packed"]):
        built = built_of("sentence_prediction_scl", [*CHUNKS, *flags], tiny, lines)
        found = ours(of_an_update(*built, device))
        others = [place for place in found if place != PACKING]
        assert others == ["scl_fairseq/criterions/chunks.py"] * (not flags)


# The losses by themselves.

LOSSES = {
    "small": (lambda rows, labels: losses.supervised_contrastive_loss(
        rows, labels, 0.1, num_classes=3), 40),
    "tiles": (lambda rows, labels: losses.supervised_contrastive_loss(
        rows, labels, 0.1, num_classes=3), 600),
    "tiles of a small temperature": (lambda rows, labels: losses.supervised_contrastive_loss(
        rows, labels, 0.01, anchors=slice(3, 590), num_classes=3), 600),
    "in": (lambda rows, labels: multi_view_contrastive_loss(
        rows[:, None], labels, average="in", num_classes=3), 700),
    "no labels": (lambda rows, labels: multi_view_contrastive_loss(
        rows.unflatten(0, (-1, 2)), memory=rows.detach()), 40),
    "InfoNCE": (lambda rows, labels: info_nce_loss(rows[:10], rows, range(20, 30)), 40),
    "InfoNCE by default": (lambda rows, labels: info_nce_loss(rows[:30], rows), 900),
    "diagnostics": (lambda rows, labels: diagnostic_pairs(rows, labels)[1].sum()
        + 0 * rows.sum(), 40),
}  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_ask_for_no_number(name, device):
    loss, size = LOSSES[name]
    torch.manual_seed(0)
    rows = torch.randn(size, 8, device=device, requires_grad=True)
    labels = torch.randint(3, (size,), device=device)
    with waits(device) as places:
        loss(rows, labels).backward()
    assert not places
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("size", [50, 700])
def test_a_known_number_of_classes_changes_nothing(size):
    """To the bit, with classes that have no row and rows that are nobody's."""
    torch.manual_seed(0)
    rows = torch.randn(size, 12)
    labels = torch.randint(-1, 5, (size,)) * 2
    labels[labels < 0] = -1
    found = []
    for num_classes in (None, 9, 40):
        leaf = rows.clone().requires_grad_()
        loss = losses.supervised_contrastive_loss(leaf, labels, 0.2, num_classes=num_classes)
        loss.backward()
        found.append((loss, leaf.grad))
    for loss, gradient in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert torch.equal(gradient, found[0][1])


def test_places_of_masked_words_come_with_the_batch(lines, monkeypatch):
    """Which a CPU looks for itself, with the same result to the bit."""
    built = unlabelled.build(lines.data, *unlabelled.NO_DROPOUT, *INFOCSE, criterion="infocse")
    batch = built.batch(range(8))
    masked, pad = batch["masked"], built.task.source_dictionary.pad()
    special, width = set(built.task.special_tokens.tolist()), masked["target"].size(1)
    chosen, words = [], []
    for row, (tokens, targets) in enumerate(zip(*map(
        torch.Tensor.tolist, (masked["src_tokens"], masked["target"])
    ), strict=True)):  # fmt: skip
        for column, (token, target) in enumerate(zip(tokens, targets, strict=True)):
            chosen += [row * width + column] * (target != pad)
            words += [row * width + column] * ((token if target == pad else target) not in special)
    assert masked["chosen"].tolist() == chosen
    assert masked["words"].tolist() == words

    found = []
    for is_waited_for in (False, True):
        monkeypatch.setattr(waiting, "is_waited_for", lambda one, answer=is_waited_for: answer)
        loss, _, _ = built.criterion(built.model, batch)
        loss.backward()
        found.append((loss, unlabelled.gradients(built.model)))
        built.model.zero_grad()
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])
