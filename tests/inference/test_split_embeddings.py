"""Embeddings of a binarised split: in its order, with its labels; the rest is in cli/test_plot."""

import shutil

import pytest
import torch
from fairseq import checkpoint_utils

from scl_fairseq.inference.split_embeddings import embed_split
from tests import runs


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    options = ["--max-update", 4, "--no-epoch-checkpoints"]
    runs.train(runs.command(tiny, folder, *options, criterion="sentence_prediction"))
    return folder / "checkpoint_last.pt"


@torch.no_grad()
def test_vectors_are_those_of_each_row_alone(checkpoint, tiny):
    embedded = embed_split(checkpoint, tiny.data, "valid")
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)])
    dataset = task.load_dataset("valid")
    assert len(embedded.vectors) == len(dataset) > 8
    correct = 0
    for i in range(len(dataset)):
        tokens, label = dataset[i]["net_input.src_tokens"], int(dataset[i]["target"])
        features, _ = model.eval()(tokens[None], features_only=True)
        torch.testing.assert_close(embedded.vectors[i], features[0, 0], rtol=1e-4, atol=1e-5)
        assert embedded.labels[i] == label
        logits = model.classification_heads["sentence_classification_head"](features)
        correct += int(logits.argmax()) == label
    assert embedded.accuracy == pytest.approx(100 * correct / len(dataset))
    assert embedded.class_names == ("0", "1")
    assert (embedded.scl_lambda, embedded.scl_temperature) == (0, None)


def test_a_row_longer_than_the_models_positions(checkpoint, tiny, monkeypatch):
    from fairseq.models.roberta import RobertaModel

    monkeypatch.setattr(RobertaModel, "max_positions", lambda self: 3)
    with pytest.raises(
        ValueError, match=r"a row of test has \d+ tokens, more than the 3 positions"
    ):
        embed_split(checkpoint, tiny.data)


def test_a_split_without_labels(checkpoint, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    (data / "label" / "test.idx").unlink()
    with pytest.raises(FileNotFoundError, match=r"label/test\.idx is missing"):
        embed_split(checkpoint, data)
