"""SimCSE against explicit loops over embeddings that the model's public functions make."""

import pytest
import torch
import torch.nn.functional as F

import scl_fairseq
from scl_fairseq.cli import convert
from tests import runs, stock
from tests.criterions.unlabelled import NO_DROPOUT, build, gradients
from tests.data_parallel import case, relative_difference, run, together

BATCH = range(8)
PAD = 1
COLUMNS = ("net_input", "positive", "negative")


def mlp(model, embeddings):
    head = model.classification_heads["simcse_mlp"]
    return torch.tanh(F.linear(embeddings, head.dense.weight, head.dense.bias))


def interleaved(batch, columns):
    """Tokens of all texts, a sentence's in a row."""
    parts = [batch[name]["src_tokens"] for name in columns]
    longest = max(part.size(1) for part in parts)
    rows = [F.pad(part, (0, longest - part.size(1)), value=PAD) for part in parts]
    return torch.stack([row[i] for i in range(len(rows[0])) for row in rows])


def loops(embeddings, number, temperature=0.05, keys=()):
    """SimCSE's formula over (B V, D), a sentence's V texts in a row; differentiable."""
    others = [row for at, row in enumerate(embeddings) if at % number] + list(keys)
    total = 0
    for place, query in enumerate(embeddings[::number]):
        cosines = torch.stack([query @ row / query.norm() / row.norm() for row in others])
        scores = (cosines / temperature).exp()
        total = total - torch.log(scores[place * (number - 1)] / scores.sum())
    return total


def test_two_views_under_dropout_equal_loops(lines):
    """The same random numbers, the formula pair by pair, and gradients of all parameters."""
    built = build(lines.data)
    batch = built.batch(BATCH)
    built.model.train()
    torch.manual_seed(5)
    loss, size, log = built.criterion(built.model, batch)
    loss.backward()
    found = gradients(built.model)
    built.model.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    tokens = batch["net_input"]["src_tokens"].repeat_interleave(2, dim=0)
    features = built.model(tokens, features_only=True)[0][:, 0]
    assert not torch.allclose(features[::2], features[1::2])
    expected = loops(mlp(built.model, features), 2)
    expected.backward()
    assert (size, log["nsentences"], log["sample_size"]) == (8, 8, 8)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-10)
    assert float(log["loss"]) == float(loss.detach())
    assert relative_difference(found, gradients(built.model)) < 1e-9


@pytest.mark.parametrize("kind", ["cls", "mean"])
@pytest.mark.parametrize("chunk_size", [0, 5])
@pytest.mark.parametrize("packed", [[], ["--scl-packed"]])
def test_triples_equal_loops(lines, kind, chunk_size, packed):
    flags = ["--text-columns", 3, "--scl-embedding", kind, "--scl-chunk-size", chunk_size]
    built = build(lines.triples, *flags, *NO_DROPOUT, "--scl-temperature", 0.2, *packed)
    batch = built.batch(BATCH)
    built.model.train()
    loss, _, _ = built.criterion(built.model, batch)
    loss.backward()
    found = gradients(built.model)
    built.model.zero_grad(set_to_none=True)
    tokens = interleaved(batch, COLUMNS)
    features = built.model(tokens, features_only=True)[0]
    rows = features[:, 0]
    if kind == "mean":
        pairs = zip(features, tokens, strict=True)
        rows = torch.stack([states[text.ne(PAD)].mean(dim=0) for states, text in pairs])
    expected = loops(mlp(built.model, rows), 3, 0.2)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert relative_difference(found, gradients(built.model)) < 1e-6


def test_evaluation_has_no_mlp_and_no_dropout(lines):
    built = build(lines.data, "--scl-diagnostics")
    batch = built.batch(BATCH)
    built.model.eval()
    with torch.no_grad():
        loss, _, log = built.criterion(built.model, batch)
        features = built.model(**batch["net_input"], features_only=True)[0][:, 0]
        expected = loops(features.repeat_interleave(2, dim=0), 2)
        assert not torch.isclose(loss, loops(mlp(built.model, features).repeat_interleave(2, 0), 2))
    assert float(loss) == pytest.approx(float(expected), abs=1e-10)
    assert log["_alignment_sum"] == pytest.approx(0, abs=1e-9)


def test_without_mlp(lines):
    built = build(lines.data, "--simcse-mlp", "none", *NO_DROPOUT)
    batch = built.batch(BATCH)
    loss, _, _ = built.criterion(built.model.train(), batch)
    features = built.model(**batch["net_input"], features_only=True)[0][:, 0]
    expected = loops(features.repeat_interleave(2, dim=0), 2)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-10)


@pytest.mark.parametrize("momentum", [0, 0.5])
def test_the_queue_holds_earlier_positives(lines, momentum):
    """Hard negatives do not enter it; of a momentum copy it holds what that makes of sentences."""
    flags = ["--scl-queue-size", 10, "--scl-momentum", momentum, "--text-columns", 3]
    built = build(lines.triples, *flags, *NO_DROPOUT)
    model = built.model.train()
    keys = torch.zeros(0, 32).double()
    for start in (0, 8, 16):
        batch = built.batch(range(start, start + 8))
        tokens = interleaved(batch, COLUMNS)
        rows = mlp(model, model(tokens, features_only=True)[0][:, 0])
        loss, _, _ = built.criterion(model, batch)
        expected = loops(rows, 3, keys=keys)
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
        keys = torch.cat([keys, rows.detach()[0 if momentum else 1 :: 3]])[-10:]
    built.criterion(model.eval(), built.batch(BATCH))  # leaves the queue alone
    state = built.criterion.training_state()
    found, held = state["queue"]["rows"].double(), F.normalize(keys, dim=1)
    assert torch.allclose(found.sort(dim=0).values, held.sort(dim=0).values, atol=1e-6)
    other = build(lines.triples, *flags, *NO_DROPOUT)
    other.criterion.load_training_state(state)
    batch = built.batch(range(24, 32))
    one, _, _ = built.criterion(model.train(), batch)
    two, _, _ = other.criterion(other.model.train(), batch)
    assert float(one.detach()) == float(two.detach())


def updates(*counts, number=4):
    rows = iter(list(range(64)) * 8)
    return [[[next(rows) for _ in range(count)] for count in counts] for _ in range(number)]


CASES = {
    "even": case(updates(4, 4)),
    "uneven": case(updates(5, 2)),
    "pytorch_ddp": case(updates(5, 2), backend="pytorch_ddp"),
    "queue": case(updates(5, 2), "--scl-queue-size", 11),
    "momentum": case(updates(5, 2), "--scl-queue-size", 11, "--scl-momentum", "0.9"),
    "apart": case(updates(5, 2), "--scl-gather", "none"),
    "idle": case([*updates(3, 4), [[1, 2, 3], []]], "--scl-queue-size", 9, dummies=[None, [5, 6]]),
}
TRIPLES = {"triples": case(updates(4, 2), "--text-columns", 3)}


@pytest.mark.parametrize(("which", "cases"), [("data", CASES), ("triples", TRIPLES)])
def test_two_workers_are_one(tiny, lines, tmp_path, which, cases):
    def command(tiny, save_dir, *options):
        return runs.embedding_command(tiny, getattr(lines, which), save_dir, *options)

    two = run(cases, 2, tiny, tmp_path / "two", command)
    alone = {name: together(given) for name, given in cases.items()}
    one = run(alone, 1, tiny, tmp_path / "one", command)[0]
    for name in cases:
        for worker in two:
            assert worker[name]["errors"] == one[name]["errors"] == []
            for part in ("gradients", "weights"):
                difference = relative_difference(worker[name][part], one[name][part])
                # Without a gather there are other negatives: the test would see it.
                assert difference > 1e-3 if name == "apart" else difference < 1e-5, (name, part)


def test_training_resumes_and_what_it_leaves_is_an_encoder(tiny, lines, tmp_path):
    """In one go, or stopped in mid-epoch; then fairseq's hub interface and a stock process."""
    from sentence_transformers import SentenceTransformer

    flags = ["--scl-queue-size", 20, "--scl-momentum", "0.9", "--no-epoch-checkpoints"]

    def train(folder, *options):
        command = runs.embedding_command(tiny, lines.data, folder, *flags, *options)
        return runs.train(command).stdout

    output = train(tmp_path / "whole")
    assert runs.logged(output, "loss")[-1] > 0
    train(tmp_path / "parts", "--max-update", 5)
    train(tmp_path / "parts")
    last = "checkpoint_last.pt"
    runs.assert_same_weights(tmp_path / "whole" / last, tmp_path / "parts" / last)
    assert runs.differ(tmp_path / "whole" / last, tiny.encoder / "model.pt")

    model = scl_fairseq.load(tmp_path / "whole" / last)
    sentence = (tiny.sample / "train.tsv").read_text().splitlines()[1].split("\t")[2]
    vector = model.embed([sentence])
    own = model.encode(sentence, no_separator=True)
    assert torch.allclose(vector[0], model.extract_features(own)[0, 0], atol=1e-5)

    to = ["--to", "sentence-transformers", str(tmp_path / "whole" / last)]
    assert convert.main([*to, str(tmp_path / "exported")]) == 0
    exported = SentenceTransformer(str(tmp_path / "exported"))
    assert torch.allclose(vector, torch.tensor(exported.encode([sentence])), atol=1e-4)

    start = tmp_path / "whole" / last
    output = stock.fine_tune(tiny, start, tmp_path / "stock", "--max-update", 2)
    assert "deleting classification head (simcse_mlp)" in output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scl-temperature", 0], "--scl-temperature: temperature must be a finite number"),
        (["--scl-embedding", "pooled"], "--scl-embedding pooled is inside of a classifier"),
        (["--scl-queue-size", -1], "--scl-queue-size must be 0 or more, got -1"),
    ],
)
def test_bad_options(lines, flags, message):
    with pytest.raises(ValueError, match=message):
        build(lines.data, *flags)
