"""What HEAD=keep and HEAD=new of the transfer recipe mean to fairseq."""

import pytest
import torch

from tests import runs


def heads(weights):
    return {name: one for name, one in weights.items() if name.startswith("classification_heads.")}


@pytest.mark.parametrize("is_new", [False, True])
def test_the_head_is_kept_or_begun_anew(classifier, train, tmp_path, is_new):
    start = classifier / "checkpoint_best.pt"
    name = "transfer_head" if is_new else "sentence_classification_head"
    options = ["--classification-head-name", name] if is_new else []
    # Without a learning rate the weights stay what they start as.
    train(tmp_path, "--finetune-from-model", start, "--lr", 0, "--max-update", 1, *options)
    before, after = runs.weights(start), runs.weights(tmp_path / "checkpoint_last.pt")
    encoder = set(after) - set(heads(after))
    assert encoder == set(before) - set(heads(before))
    assert all(torch.equal(before[key], after[key]) for key in encoder)
    assert {key.split(".")[1] for key in heads(after)} == {name}
    for key, tensor in heads(before).items():
        found = after[key.replace("sentence_classification_head", name)]
        if key.endswith("weight"):
            assert torch.equal(found, tensor) != is_new
