"""``--freeze-encoder``: a linear classifier is trained and nothing else, on each sentence once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tests import runs, stock
from tests.criterions import test_sentence_prediction_scl as scl

FROZEN = ["--freeze-encoder", "--scl-lambda", 0, "--pooler-activation-fn", "linear"]
HEAD = "sentence_classification_head"


def build(tiny, *flags, arch="roberta"):
    built = scl.build(tiny, arch, *FROZEN, *flags)
    built.criterion.prepare_model(built.model)
    built.criterion.finish_loading(built.model)
    return built


def encoder_rows(model):
    """Of each forward of the encoder the number of sentences."""
    rows = []
    encoder = model.encoder
    encoder.register_forward_hook(lambda *_: rows.append(len(_[1][0])))
    return rows


@pytest.mark.parametrize("kind", ["cls", "pooled"])
@pytest.mark.parametrize("arch", scl.ARCHITECTURES)
def test_loss_is_that_of_a_linear_map_of_the_embedding_in_evaluation_mode(tiny, arch, kind):
    built = build(tiny, "--dropout", 0.3, "--scl-embedding", kind, arch=arch)
    built.model.eval()
    rows = scl.expected_embedding(built, "cls").detach()
    out = built.model.classification_heads[HEAD].out_proj
    targets = built.batch["target"].view(-1)
    expected = torch.nn.functional.cross_entropy(out(rows), targets, reduction="sum")
    for is_training in (True, False, True):
        built.model.train(is_training)
        loss, sample_size, log = built.criterion(built.model, built.batch)
        torch.testing.assert_close(loss, expected)
        assert sample_size == 8
        assert log["scl_loss"].item() == pytest.approx(scl.loop_loss(rows, targets, 0.3), rel=1e-4)
        assert built.model.encoder.training == is_training  # as fairseq left it
    assert "forward" not in vars(built.model)


def test_only_the_output_projection_gets_a_gradient(tiny):
    built = build(tiny)
    built.criterion(built.model.train(), built.batch)[0].backward()
    trained = {n for n, p in built.model.named_parameters() if p.grad is not None}
    needed = {n for n, p in built.model.named_parameters() if p.requires_grad}
    expected = {f"classification_heads.{HEAD}.out_proj.{kind}" for kind in ("weight", "bias")}
    assert trained == needed == expected


@pytest.mark.parametrize("packed", [[], ["--scl-packed"]])
def test_each_sentence_is_embedded_once(tiny, packed):
    built = build(tiny, *packed)
    rows, data = encoder_rows(built.model), built.task.dataset("train")
    texts = {tuple(data[i]["net_input.src_tokens"].tolist()) for i in range(12)}
    assert len(texts) == 12
    losses = []
    for places in ([0, 1, 2, 3], [2, 3, 4, 5, 6], [0, 4], [9, 8, 9], [5, 9]):
        batch = data.collater([data[i] for i in places])
        found = built.criterion(built.model.train(), batch)[0]
        losses.append((places, found.item()))
    assert rows == [4, 3, 2]  # the others were known, whatever their batches' padding
    built.model.eval()
    for places, loss in losses:  # nobody's embedding was taken for another's
        batch = data.collater([data[i] for i in places])
        logits = built.model(**batch["net_input"], classification_head_name=HEAD)[0]
        targets = batch["target"].view(-1)
        expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_heads_own_dropout_stays(tiny):
    built = build(tiny, "--pooler-dropout", 0.5)
    built.model.train()
    first, second = (built.criterion(built.model, built.batch)[0].item() for _ in range(2))
    assert first != second
    built.model.eval()
    first, second = (built.criterion(built.model, built.batch)[0].item() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scl-lambda", 0.9], "use it with --scl-lambda 0, got 0.9"),
        (["--scl-embedding", "mean"], "--freeze-encoder keeps what the head reads"),
        (["--scl-chunk-size", 4], "leave out --scl-chunk-size"),
        (["--scl-queue-size", 4], "--scl-lambda 0 has none"),
        (["--pooler-activation-fn", "tanh"], "it needs --pooler-activation-fn linear, got tanh"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, flags, message):
    with pytest.raises(ValueError, match=message):
        build(tiny, *flags)


def test_a_narrower_head_is_refused(tiny):
    built = scl.build(tiny, "roberta", *FROZEN)
    built.model.register_classification_head(HEAD, num_classes=2, inner_dim=5)
    with pytest.raises(ValueError, match=r"a head as wide as its input: .* makes 5 of 32"):
        built.criterion.prepare_model(built.model)


def test_the_classifier_is_scikit_learns_logistic_regression(tiny, tmp_path):
    """Both at the minimum of the loss, which is one: labels that no line parts."""
    from scl_fairseq.data import synthetic
    from scl_fairseq.data.encode import Settings
    from scl_fairseq.data.preprocess import preprocess
    from scl_fairseq.data.tasks import TASKS

    synthetic.write_corpus(tmp_path / "corpus", num_train=1000, num_dev=400)
    settings = Settings("wordpiece", tiny.encoder)
    preprocess(TASKS["SST-2"], tmp_path / "corpus", tmp_path / "data", settings)
    built = build(SimpleNamespace(data=tmp_path / "data"))
    built.task.load_dataset("valid")
    batches, embedded = {}, {}
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(32, generator=generator)
    for name in ("train", "valid"):
        data = built.task.dataset(name)
        batches[name] = data.collater([data[i] for i in range(len(data))])
        with torch.no_grad():
            rows = built.model.eval()(**batches[name]["net_input"], features_only=True)[0][:, 0]
        scores = (rows - rows.mean(dim=0)) @ direction
        scores += scores.std() * torch.randn(len(rows), generator=generator)
        batches[name]["target"] = (scores > 0).long()[:, None]
        embedded[name] = rows.double().numpy()

    classifier = built.model.classification_heads[HEAD].out_proj
    optimizer = torch.optim.LBFGS(
        classifier.parameters(), max_iter=1000, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = built.criterion(built.model.train(), batches["train"])[0] / 1000
        loss.backward()
        return loss

    optimizer.step(closure)
    theirs = LogisticRegression(C=np.inf, max_iter=10000, tol=1e-8)
    theirs.fit(embedded["train"], batches["train"]["target"].view(-1).numpy())
    built.model.eval()
    for name, batch in batches.items():
        with torch.no_grad():
            logits = built.model(**batch["net_input"], classification_head_name=HEAD)[0]
        found, labels = logits.argmax(dim=1).numpy(), batch["target"].view(-1).numpy()
        ours = (found == labels).mean()
        assert abs(ours - theirs.score(embedded[name], labels)) <= 0.005, name
        assert (found == theirs.predict(embedded[name])).mean() > 0.99
        assert 0.65 < ours < 0.9, name


# In real processes.


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """The checkpoints of a first stage, and of a second from there."""
    folder = tmp_path_factory.mktemp("stages")
    first, second = folder / "first", folder / "second"
    words = ["--max-update", 5, "--no-epoch-checkpoints", "--disable-validation"]
    runs.train(runs.command(tiny, first, *words, criterion="supcon"))
    words = [*FROZEN, "--finetune-from-model", first / "checkpoint_last.pt", "--weight-decay", 0.1]
    options = [*words, "--max-epoch", 4, "--lr", 0.01, "--no-epoch-checkpoints"]
    options += ["--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric"]
    output = runs.train(runs.command(tiny, second, *options)).stdout
    return first / "checkpoint_last.pt", second / "checkpoint_best.pt", output


def test_the_encoder_is_bit_identical_afterwards(trained):
    before, after = (runs.weights(path) for path in trained[:2])
    both = before.keys() & after.keys()
    changed = {name for name in both if not torch.equal(before[name], after[name])}
    head = f"classification_heads.{HEAD}"
    layers = [(layer, kind) for layer in ("dense", "out_proj") for kind in ("weight", "bias")]
    assert changed == {f"{head}.{layer}.{kind}" for layer, kind in layers}
    assert set(before) - set(after) == {
        f"classification_heads.supcon_projection.{layer}.{kind}" for layer, kind in layers
    }
    assert torch.equal(after[f"{head}.dense.weight"], torch.eye(32))
    assert not after[f"{head}.dense.bias"].any()


def test_stock_fairseqs_hub_predicts_the_same(tiny, trained, tmp_path):
    """The accuracy of its validation, sentence by sentence, where there is no plug-in."""
    _, path, output = trained
    said = stock.run(STOCK_HUB, path.parent, path.name, tiny.data)
    found = float(said.split("ACCURACY")[1].split()[0])
    validated = "\n".join(line for line in output.splitlines() if "| valid |" in line)
    assert found == pytest.approx(max(runs.logged(validated, "accuracy")), abs=0.051)
    assert 30 < found < 100


STOCK_HUB = """
import argparse, sys, torch
from fairseq.models.roberta import RobertaModel
torch.serialization.add_safe_globals([argparse.Namespace])
hub = RobertaModel.from_pretrained(*sys.argv[1:], bpe=None).eval()
hub.task.load_dataset("valid")
data, right = hub.task.dataset("valid"), 0
with torch.no_grad():
    for i in range(len(data)):
        found = hub.predict("sentence_classification_head", data[i]["net_input.src_tokens"][None])
        right += found.argmax().item() == data[i]["target"].item()
print("ACCURACY", 100 * right / len(data))
assert not any(name.startswith("scl_fairseq") for name in sys.modules)
"""


def test_resumed_it_ends_as_if_nothing_had_happened(tiny, trained, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    options = [*FROZEN, "--disable-validation", "--no-epoch-checkpoints"]
    options += ["--finetune-from-model", trained[0], "--pooler-dropout", 0.2]
    for folder, updates in ((whole, [6]), (resumed, [3, 6])):
        for number in updates:
            runs.train(runs.command(tiny, folder, *options, "--max-update", number))
    runs.assert_same_weights(whole / "checkpoint_last.pt", resumed / "checkpoint_last.pt")
