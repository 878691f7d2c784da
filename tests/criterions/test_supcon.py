"""``supcon`` on small models, against features by another route and explicit loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from scl_fairseq.criterions.supcon import SupConConfig, SupConCriterion
from scl_fairseq.losses import supervised_contrastive_loss
from tests import runs, stock
from tests.criterions import test_sentence_prediction_scl as scl
from tests.criterions.test_sentence_prediction_scl import ARCHITECTURES
from tests.data_parallel import relative_difference
from tests.losses import reference

HEAD = "supcon_projection"
NO_DROPOUT = ["--dropout", 0, "--attention-dropout", 0, "--pooler-dropout", 0]


def build(tiny, arch="roberta", *flags):
    """As for the other criterion, with the model prepared as the trainer has it done."""
    built = scl.build(tiny, arch, *flags, criterion="supcon")
    built.criterion.prepare_model(built.model)
    return built


def repeated(net_input, views):
    """Each sentence, view after view, one index at a time."""
    rows = [i for i in range(len(net_input["src_tokens"])) for _ in range(views)]
    return {name: value[rows] for name, value in net_input.items()}


def expected_rows(built, kind, projection, views, seed=5):
    """What is contrasted, by the model's public functions and the head's weights alone."""
    model, pad = built.model, built.task.source_dictionary.pad()
    net_input = repeated(built.batch["net_input"], views)
    torch.manual_seed(seed)
    features = model(**net_input, features_only=True)[0]
    is_bart = "prev_output_tokens" in net_input
    read = net_input["prev_output_tokens"] if is_bart else net_input["src_tokens"]
    rows = []
    for i, states in enumerate(features):
        eos = net_input["src_tokens"][i].eq(built.task.source_dictionary.eos()).nonzero()[-1, 0]
        if kind == "mean":
            rows.append(states[read[i].ne(pad)].mean(dim=0))
        else:
            rows.append(states[eos if is_bart else 0])
    rows = torch.stack(rows)
    if projection == "none":
        return rows
    head = model.classification_heads[HEAD]
    if projection == "mlp":
        rows = F.linear(rows, head.dense.weight, head.dense.bias).clamp(min=0)
    return F.linear(rows, head.out_proj.weight, head.out_proj.bias)


def loop_loss(rows, labels, temperature, average="out"):
    z = [reference.normalized(row) for row in rows.detach().double().tolist()]
    return sum(reference.anchor_losses(z, labels, temperature, average))


def marks(built, views):
    return [label for label in built.batch["target"].view(-1).tolist() for _ in range(views)]


@pytest.mark.parametrize("projection", ["none", "linear", "mlp"])
@pytest.mark.parametrize("kind", ["cls", "mean"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_loss_is_that_of_dropout_views_through_the_projection(tiny, arch, kind, projection):
    flags = ["--supcon-projection", projection, "--scl-embedding", kind, "--supcon-views", 3]
    built = build(tiny, arch, *flags, "--scl-temperature", 0.2, "--dropout", 0.2)
    built.model.train()
    rows = expected_rows(built, kind, projection, 3)
    assert rows.shape == (24, 32 if projection == "none" else 128)
    assert not torch.allclose(rows[0], rows[1], rtol=1e-2)  # dropout is on
    torch.manual_seed(5)
    loss, sample_size, log = built.criterion(built.model, built.batch)
    expected = loop_loss(rows, marks(built, 3), 0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert (sample_size, log["sample_size"], log["nsentences"]) == (24, 24, 8)
    assert expected > 1


@pytest.mark.parametrize("average", ["out", "in"])
@pytest.mark.parametrize("unsupervised", [False, True])
def test_places_of_the_mean_and_labels(tiny, average, unsupervised):
    flags = ["--supcon-average", average, *["--supcon-unsupervised"] * unsupervised]
    built = build(tiny, "roberta", *flags, "--supcon-projection-dim", 16)
    built.model.train()
    labels = [i for i in range(8) for _ in range(2)] if unsupervised else marks(built, 2)
    expected = loop_loss(expected_rows(built, "cls", "mlp", 2), labels, 0.3, average)
    torch.manual_seed(5)
    assert built.criterion(built.model, built.batch)[0].item() == pytest.approx(expected, rel=1e-4)


def test_one_view_without_projection_is_the_supervised_contrastive_loss(tiny):
    built = build(tiny, "roberta", "--supcon-views", 1, "--supcon-projection", "none")
    assert HEAD not in built.model.classification_heads
    built.model.train()
    rows = expected_rows(built, "cls", "none", 1)
    torch.manual_seed(5)
    loss = built.criterion(built.model, built.batch)[0]
    labels = built.batch["target"].view(-1)
    torch.testing.assert_close(loss, supervised_contrastive_loss(rows, labels, 0.3, "sum"))


def test_pooled_is_contrasted_without_projection(tiny):
    flags = ["--supcon-projection", "none", "--scl-embedding", "pooled", "--supcon-views", 1]
    built = build(tiny, "roberta", *flags)
    built.model.eval()
    rows = scl.expected_embedding(built, "pooled")
    loss = built.criterion(built.model, built.batch)[0].item()
    assert loss == pytest.approx(loop_loss(rows, marks(built, 1), 0.3), rel=1e-5)


@pytest.mark.parametrize("projection", ["none", "linear", "mlp"])
def test_encoder_and_projection_are_trained_and_no_classifier(tiny, projection):
    built = build(tiny, "roberta", "--supcon-projection", projection)
    built.criterion(built.model, built.batch)[0].backward()
    gradients = {n: p.grad for n, p in built.model.named_parameters() if p.grad is not None}
    assert gradients["encoder.sentence_encoder.layers.0.fc1.weight"].abs().sum() > 1e-3
    trained = {n.split(".", 2)[2] for n in gradients if HEAD in n}
    layers = {"none": [], "linear": ["out_proj"], "mlp": ["dense", "out_proj"]}[projection]
    assert trained == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    if projection == "linear":
        dense = built.model.classification_heads[HEAD].dense
        assert torch.equal(dense.weight, torch.eye(32))
        assert not dense.bias.any()
        assert not any(p.requires_grad for p in dense.parameters())
    classifier = [p for n, p in gradients.items() if "sentence_classification_head" in n]
    assert not any(p.abs().sum() for p in classifier)


def test_one_encoder_forward_for_all_views(tiny):
    built = build(tiny, "roberta", "--supcon-views", 4)
    rows = []
    built.model.encoder.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    built.criterion(built.model.train(), built.batch)
    assert rows == [32]
    built.criterion(built.model.eval(), built.batch)
    assert rows == [32, 8]  # without dropout a sentence's views are one


def test_validation_takes_each_row_for_all_views_and_counts_neighbours(tiny):
    built = build(tiny, "roberta", "--supcon-views", 3)
    built.model.eval()
    rows = expected_rows(built, "cls", "mlp", 1)
    loss, sample_size, log = built.criterion(built.model, built.batch)
    thrice = rows.repeat_interleave(3, dim=0)
    assert loss.item() == pytest.approx(loop_loss(thrice, marks(built, 3), 0.3), rel=1e-4)
    assert sample_size == 24
    labels, z = marks(built, 1), [reference.normalized(row) for row in rows.tolist()]
    correct = 0
    for i in range(8):
        nearest = max((j for j in range(8) if j != i), key=lambda j: reference.dot(z[i], z[j]))
        correct += labels[nearest] == labels[i]
    values = scl.reduce(built.criterion, [[log], [log]])
    assert values["knn_accuracy"] == pytest.approx(100 * correct / 8, abs=0.051)
    assert values["loss"] == pytest.approx(loss.item() / 24 / math.log(2), abs=1e-3)
    assert 0 < correct < 8


def test_diagnostics_in_training_are_of_views(tiny):
    built = build(tiny, "roberta", "--scl-diagnostics", "--supcon-unsupervised", *NO_DROPOUT)
    built.model.train()
    values = scl.reduce(built.criterion, [[built.criterion(built.model, built.batch)[2]]])
    assert values["in_class_cosine"] == pytest.approx(1, abs=1e-3)  # of equal views
    assert values["alignment"] == pytest.approx(0, abs=1e-3)
    assert values["anchors_with_positive"] == 100
    assert values["between_class_cosine"] < 0.99


@pytest.mark.parametrize("projection", ["none", "linear", "mlp"])
@pytest.mark.parametrize("kind", ["cls", "mean"])
def test_in_chunks_and_packed_it_is_the_same(tiny, kind, projection):
    flags = ["--scl-embedding", kind, "--supcon-projection", projection, *NO_DROPOUT]
    found = []
    for more in (
        [],
        ["--scl-chunk-size", 3],
        ["--scl-packed"],
        ["--scl-packed", *["--scl-chunk-size", "5"]],
    ):
        built = build(tiny, "roberta", *flags, *more)
        built.model.double().train()
        loss = built.criterion(built.model, built.batch)[0]
        loss.backward()
        named = built.model.named_parameters()
        found.append((loss.item(), {n: p.grad for n, p in named if p.grad is not None}))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-9)
        assert relative_difference(gradients, found[0][1]) < 1e-9


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--supcon-views", 0], "--supcon-views must be 1 or more, got 0"),
        (["--supcon-projection-dim", 0], "--supcon-projection-dim must be 1 or more, got 0"),
        (["--scl-embedding", "pooled"], "--scl-embedding pooled is inside of the classification"),
        (["--supcon-head-name", "sentence_classification_head"], "is the classification head's"),
        (["--supcon-unsupervised", "--supcon-views", 1], "--supcon-views 1 has no positives"),
        (["--scl-temperature", 0], "--scl-temperature: temperature must be"),
        (["--scl-chunk-size", -1], "--scl-chunk-size must be 0 or more, got -1"),
        (["--scl-queue-size", -1], "--scl-queue-size must be 0 or more, got -1"),
        (["--scl-momentum", 1, "--scl-queue-size", 4], "less than 1, got 1.0"),
        (["--scl-momentum", "nan", "--scl-queue-size", 4], "less than 1, got nan"),
        (["--scl-momentum", 0.9], "--scl-momentum makes the keys of a queue: it needs"),
        (["--scl-queue-size", 4, "--scl-gather", "none"], "it needs --scl-gather all"),
    ],
)
def test_bad_options_are_named(tiny, flags, message):
    with pytest.raises(ValueError, match=message):
        scl.build(tiny, "roberta", *flags, criterion="supcon")


def test_regression_targets_need_unsupervised():
    with pytest.raises(ValueError, match=r"--regression-target has no classes.*--supcon-unsup"):
        SupConCriterion(SupConConfig(regression_target=True), None)


def test_a_head_of_that_name_is_not_replaced(tiny):
    built = scl.build(tiny, "roberta", criterion="supcon")
    built.model.register_classification_head(HEAD, num_classes=2)
    with pytest.raises(ValueError, match="the model has such a head already"):
        built.criterion.prepare_model(built.model)


# In real processes.


def supcon(tiny, folder, *options, **kwargs):
    return runs.train(runs.command(tiny, folder, *options, criterion="supcon"), **kwargs).stdout


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("supcon")
    options = ["--max-epoch", 8, "--no-epoch-checkpoints", "--supcon-projection-dim", 16]
    options += NO_DROPOUT  # with it so small an encoder would come to see all sentences as one
    options += ["--best-checkpoint-metric", "knn_accuracy", "--maximize-best-checkpoint-metric"]
    return supcon(tiny, folder, *options), folder


def test_training_lowers_the_loss_and_logs_neighbours(finished):
    output, folder = finished
    epochs = "\n".join(line for line in output.splitlines() if "| train |" in line)
    losses = runs.logged(epochs, "loss")
    assert len(losses) == 8
    assert losses[-1] < 0.9 * losses[0]
    assert len(runs.logged(output, "knn_accuracy")) >= 8
    assert (folder / "checkpoint_best.pt").exists()
    weights = runs.weights(folder / "checkpoint_last.pt")
    assert weights[f"classification_heads.{HEAD}.out_proj.weight"].shape == (16, 32)


STOCK_HUB = """
import argparse, sys, torch
from fairseq.models.roberta import RobertaModel
torch.serialization.add_safe_globals([argparse.Namespace])
hub = RobertaModel.from_pretrained(sys.argv[1], "checkpoint_last.pt", sys.argv[2], bpe=None).eval()
with torch.no_grad():
    tokens = torch.tensor([[0, 5, 6, 2]])
    print("classes", hub.predict("sentence_classification_head", tokens).shape)
    print("projection", hub.model.classification_heads["supcon_projection"].out_proj.weight.shape)
    torch.save(hub.extract_features(tokens), sys.argv[3])
assert not any(name.startswith("scl_fairseq") for name in sys.modules)
"""


def test_stock_fairseqs_hub_loads_it(tiny, finished, tmp_path):
    output = stock.run(STOCK_HUB, finished[1], tiny.data, tmp_path / "features.pt")
    assert "classes torch.Size([1, 2])" in output
    assert "projection torch.Size([16, 32])" in output


def test_stock_fairseq_fine_tunes_from_it(tiny, finished, tmp_path):
    start = finished[1] / "checkpoint_last.pt"
    stock.fine_tune(tiny, start, tmp_path, "--max-update", 1, "--lr", 0)
    begun, end = runs.weights(start), runs.weights(tmp_path / "checkpoint_last.pt")
    assert not any(HEAD in name for name in end)
    assert all(torch.equal(end[name], begun[name]) for name in end)


@pytest.mark.parametrize(
    "options",
    [
        ["--memory-efficient-fp16", "--scl-queue-size", 20, "--scl-momentum", 0.9],
        ["--update-freq", 2, "--scl-queue-size", 5, "--supcon-unsupervised"],
        ["--batch-size", 1, "--supcon-views", 1],
        ["--supcon-views", 4, "--scl-packed", "--scl-chunk-size", 3, "--scl-diagnostics"],
        ["--supcon-average", "in", "--supcon-projection", "none", "--scl-embedding", "mean"],
    ],
    ids=lambda options: "".join(map(str, options)),
)
def test_trains(tiny, tmp_path, options):
    output = supcon(tiny, tmp_path, *options, "--max-epoch", 1, "--no-save")
    assert "done training" in output
    losses = runs.logged(output, "loss")
    assert losses
    assert all(math.isfinite(value) for value in losses)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["--fp16", "--bf16", "--amp"])
def test_trains_on_a_gpu(tiny, tmp_path, precision):
    queue = ["--scl-queue-size", 20, "--scl-momentum", 0.9]
    output = supcon(tiny, tmp_path, precision, "--on-gpu", *queue, "--max-epoch", 2, "--no-save")
    assert "done training" in output
