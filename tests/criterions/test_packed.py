"""``--scl-packed``: the same training without padding, and a checkpoint that is fairseq's own."""

import pytest
import torch

from scl_fairseq.models.packed_encoder import PackedTransformerEncoder
from tests import runs, stock
from tests.criterions.test_sentence_prediction_scl import EMBEDDINGS, build
from tests.data_parallel import relative_difference

NO_DROPOUT = ["--dropout", 0, "--attention-dropout", 0, "--pooler-dropout", 0]


def losses_and_gradients(tiny, arch, *flags):
    """Of the batch of 8 in training mode, and the losses in validation."""
    built = build(tiny, arch, *NO_DROPOUT, *flags)
    built.model.double().train()
    torch.manual_seed(5)
    loss, _, log = built.criterion(built.model, built.batch)
    loss.backward()
    gradients = {n: p.grad for n, p in built.model.named_parameters() if p.grad is not None}
    built.model.eval()
    with torch.no_grad():
        _, _, valid = built.criterion(built.model, built.batch)
    logged = {
        f"{name} {key}": torch.as_tensor(float(logs[key]))
        for name, logs in (("train", log), ("valid", valid))
        for key in ("loss", "ce_loss", "scl_loss", "ncorrect")
    }
    return logged, gradients, built


@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.parametrize("chunk_size", [0, 3])
@pytest.mark.parametrize("arch", ["roberta", "roberta_prenorm"])
def test_losses_and_gradients_are_those_with_padding(tiny, arch, chunk_size, kind):
    flags = ["--scl-embedding", kind, "--scl-chunk-size", chunk_size, "--scl-diagnostics"]
    expected, expected_grads, padded = losses_and_gradients(tiny, arch, *flags)
    found, grads, built = losses_and_gradients(tiny, arch, *flags, "--scl-packed")
    assert not isinstance(padded.model.encoder.sentence_encoder, PackedTransformerEncoder)
    encoder = built.model.encoder.sentence_encoder
    assert isinstance(encoder, PackedTransformerEncoder)
    assert relative_difference(found, expected) < 1e-6
    assert relative_difference(grads, expected_grads) < 1e-9
    # Afterwards all positions are there for who asks.
    tokens = built.batch["net_input"]["src_tokens"]
    assert built.model(tokens, features_only=True)[0].shape[:2] == tokens.shape
    assert list(built.model.state_dict()) == list(padded.model.state_dict())


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_of_the_last_layer_only_what_is_read_is_computed(tiny, kind):
    built = build(tiny, "roberta", "--scl-packed", "--scl-embedding", kind)
    tokens = built.batch["net_input"]["src_tokens"]
    total = int(tokens.ne(built.task.source_dictionary.pad()).sum())
    rows = []
    for layer in built.model.encoder.sentence_encoder.layers:
        layer.final_layer_norm.register_forward_hook(
            lambda module, args, output: rows.append(len(output))
        )
    for training in (True, False):
        rows.clear()
        built.criterion(built.model.train(training), built.batch)
        assert rows == [total, total if kind == "mean" else len(tokens)]


def test_another_architecture_is_refused(tiny):
    built = build(tiny, "bart_base", "--scl-packed")
    with pytest.raises(ValueError, match="--scl-packed: this model cannot be packed: only RoBERTa"):
        built.criterion(built.model, built.batch)


STOCK_HUB = """
import argparse, sys, torch
from fairseq.models.roberta import RobertaModel
torch.serialization.add_safe_globals([argparse.Namespace])
folder, data, out = sys.argv[1:]
hub = RobertaModel.from_pretrained(folder, "checkpoint_last.pt", data, bpe=None).eval()
generator = torch.Generator().manual_seed(0)
tokens = torch.randint(4, 60, (9, 15), generator=generator)
tokens = tokens.masked_fill(torch.arange(15) >= torch.arange(4, 13)[:, None], 1)
with torch.no_grad():
    torch.save(hub.predict("sentence_classification_head", tokens), out)
assert not any(name.startswith("scl_fairseq") for name in sys.modules)
"""


def predictions_of_stock(folder, data, out):
    """Log-probabilities, by a process that never imports the plug-in."""
    stock.run(STOCK_HUB, folder, data, out)
    return torch.load(out)


def test_what_was_trained_packed_is_fairseqs_and_the_other_way_round(tiny, tmp_path):
    """Without dropout both trainings are one, and each loads as the other."""
    options = [*NO_DROPOUT, "--max-epoch", 1, "--no-epoch-checkpoints", "--save-interval-updates"]
    padded, packed, resumed = (tmp_path / name for name in ("padded", "packed", "resumed"))
    runs.train(runs.command(tiny, padded, *options, 0))
    output = runs.train(runs.command(tiny, packed, *options, 0, "--scl-packed")).stdout
    expected, found = (
        predictions_of_stock(folder, tiny.data, tmp_path / "out.pt") for folder in (padded, packed)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std(dim=0).min() > 1e-3  # sentences differ
    assert runs.logged(output, "accuracy")

    more = ["--max-epoch", 2, "--restore-file"]
    for start, flags in ((packed, []), (padded, ["--scl-packed"])):
        words = [*NO_DROPOUT, *more, start / "checkpoint_last.pt", "--no-epoch-checkpoints", *flags]
        runs.train(runs.command(tiny, resumed / start.name, *words))
    first, second = (
        predictions_of_stock(resumed / name, tiny.data, tmp_path / "out.pt")
        for name in ("padded", "packed")
    )
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(first, expected, rtol=1e-2, atol=1e-2)  # it went on


@pytest.mark.parametrize(
    "options",
    [
        ["--memory-efficient-fp16"],
        ["--scl-chunk-size", 3, "--scl-embedding", "mean"],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_trains_with(tiny, tmp_path, options):
    words = [*options, "--scl-packed", "--max-epoch", 6, "--no-save", "--scl-lambda", 0.5]
    output = runs.train(runs.command(tiny, tmp_path, *words)).stdout
    losses = runs.logged(
        "\n".join(line for line in output.splitlines() if "| train |" in line), "loss"
    )
    assert losses[-1] < losses[0]
