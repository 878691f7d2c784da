"""``--head-init probe``: the head begins as scikit-learn's logistic regression on what it reads."""

import numpy as np
import pytest
import torch
from fairseq.data import FairseqDataset
from sklearn.linear_model import LogisticRegression

from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig,
    SentencePredictionSCLCriterion,
)
from tests import runs
from tests.criterions import test_sentence_prediction_scl as scl
from tests.data_parallel import case, relative_difference, run, together

HEAD = "sentence_classification_head"
PROBE = ["--head-init", "probe"]


class Changed(FairseqDataset):
    """Some examples of a data set, with other targets."""

    def __init__(self, data, places, targets):
        self.data, self.places, self.targets = data, places, targets

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        item = self.data[self.places[index]]
        return {**item, "target": torch.tensor([int(self.targets[index])])}

    def num_tokens(self, index):
        return self.data.num_tokens(self.places[index])

    def collater(self, items):
        return self.data.collater(items)


def build(tiny, *flags, arch="roberta"):
    built = scl.build(tiny, arch, *PROBE, *flags)
    built.criterion.prepare_model(built.model)
    return built


def vectors(built, pooling):
    """What the head reads of each training example, one forward an example, (N, C), float64."""
    rows, model, data = [], built.model.eval(), built.task.dataset("train")
    for index in range(len(data)):
        batch = data.collater([data[index]])  # nothing is padding
        with torch.no_grad():
            states = model(**batch["net_input"], features_only=True)[0][0].double()
        if pooling == "mean":
            rows.append(states.mean(dim=0))
        else:
            eos = built.task.source_dictionary.eos()
            place = batch["net_input"]["src_tokens"][0].tolist()
            is_bart = hasattr(model, "decoder")
            rows.append(states[len(place) - 1 - place[::-1].index(eos)] if is_bart else states[0])
    targets = np.array([data[index]["target"].item() for index in range(len(data))])
    return torch.stack(rows).numpy(), targets


def expected_log_probabilities(rows, targets, activation):
    features = activation(rows / np.linalg.norm(rows, axis=1).mean())
    features /= np.linalg.norm(features, axis=1).mean()
    regression = LogisticRegression(C=1000 / len(rows), max_iter=10000, tol=1e-8)
    return regression.fit(features, targets).predict_log_proba(features)


def log_probabilities(built):
    rows, model, data = [], built.model.eval(), built.task.dataset("train")
    for index in range(len(data)):
        batch = data.collater([data[index]])
        with torch.no_grad():
            logits = model(**batch["net_input"], classification_head_name=HEAD)[0]
        rows.append(torch.log_softmax(logits[0].double(), dim=0))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize(
    ("arch", "pooling", "flags"),
    [
        ("roberta", "cls", []),
        ("roberta", "mean", []),
        ("bart_base", "cls", []),
        ("bart_base", "mean", []),
        ("roberta", "mean", ["--pooler-activation-fn", "linear"]),
        ("roberta", "mean", ["--scl-packed", "--dropout", "0.3", "--pooler-dropout", "0.3"]),
    ],
)
def test_the_head_says_what_the_regression_says(tiny, arch, pooling, flags):
    built = build(tiny, "--head-pooling", pooling, *flags, arch=arch)
    rows, targets = vectors(built, pooling)
    built.model.train()
    built.criterion.finish_loading(built.model)
    assert built.model.training
    activation = np.array if "linear" in flags else np.tanh
    expected = expected_log_probabilities(rows, targets, activation)
    np.testing.assert_allclose(log_probabilities(built), expected, atol=0.02)


def test_three_classes_of_which_one_has_no_example(tiny):
    built = build(tiny)
    built.model.register_classification_head(HEAD, num_classes=4)
    targets = np.array([(0, 1, 3)[index % 3] for index in range(len(vectors(built, "cls")[1]))])
    rows, _ = vectors(built, "cls")
    built.task.datasets["train"] = Changed(built.task.dataset("train"), range(len(rows)), targets)
    built.criterion.finish_loading(built.model)
    found = log_probabilities(built)
    assert (found.argmax(axis=1) != 2).all()
    expected = expected_log_probabilities(rows, targets, np.tanh)
    kept = torch.log_softmax(torch.from_numpy(found[:, [0, 1, 3]]), dim=1).numpy()
    np.testing.assert_allclose(kept, expected, atol=0.02)


def test_the_encoder_is_left_and_the_head_goes_on_from_there(tiny):
    built = build(tiny)
    before = {name: p.detach().clone() for name, p in built.model.named_parameters()}
    built.criterion.finish_loading(built.model)
    changed = {n for n, p in built.model.named_parameters() if not torch.equal(p, before[n])}
    parts = ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
    assert changed == {f"classification_heads.{HEAD}.{part}" for part in parts}
    built.criterion(built.model.train(), built.batch)[0].backward()
    assert built.model.classification_heads[HEAD].dense.weight.grad.abs().sum() > 0


def test_of_a_frozen_encoder_the_regression_is_what_is_trained(tiny):
    flags = ["--freeze-encoder", "--scl-lambda", 0, "--pooler-activation-fn", "linear"]
    built = build(tiny, *flags)
    rows, targets = vectors(built, "cls")
    built.criterion.finish_loading(built.model)
    dense = built.model.classification_heads[HEAD].dense
    assert torch.equal(dense.weight, torch.eye(len(dense.weight)))
    expected = expected_log_probabilities(rows, targets, np.array)
    np.testing.assert_allclose(log_probabilities(built), expected, atol=0.02)


def test_half_precision(tiny):
    built = build(tiny, "--head-pooling", "mean")
    rows, targets = vectors(built, "mean")
    built.model.to(torch.bfloat16)
    built.criterion.finish_loading(built.model)
    assert {p.dtype for p in built.model.parameters()} == {torch.bfloat16}
    found = log_probabilities(built).argmax(axis=1)
    expected = expected_log_probabilities(rows, targets, np.tanh).argmax(axis=1)
    assert (found == expected).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "message"),
    [("keep_head", "--keep-head"), ("regression_target", "--regression-target")],
)
def test_what_does_not_fit_is_refused(tiny, name, message):
    cfg = SentencePredictionSCLConfig(head_init="probe", scl_lambda=0, **{name: True})
    with pytest.raises(ValueError, match=f"begins as a new classifier: not with {message}"):
        SentencePredictionSCLCriterion(cfg, scl.build(tiny).task)


def test_a_narrower_head_and_a_single_class_are_refused(tiny):
    built = build(tiny)
    built.model.register_classification_head(HEAD, num_classes=2, inner_dim=5)
    with pytest.raises(ValueError, match=r"a head as wide as its input: .* makes 5 of 32"):
        built.criterion.finish_loading(built.model)
    built = build(tiny)
    data = built.task.dataset("train")
    same = [i for i in range(len(data)) if data[i]["target"].item() == 1]
    built.task.datasets["train"] = Changed(data, same, [1] * len(same))
    with pytest.raises(ValueError, match="examples of two classes or more"):
        built.criterion.finish_loading(built.model)


def test_a_training_begins_with_it_and_resumes_without(tiny, train, tmp_path):
    """A resumed training does not fit again: it equals one that was never interrupted."""
    whole = train(tmp_path / "whole", *PROBE, "--max-epoch", 3, "--lr", "1e-3")
    assert whole.stdout.count("begins as a logistic regression") == 1
    train(tmp_path / "half", *PROBE, "--max-epoch", 2, "--lr", "1e-3")
    rest = train(tmp_path / "half", *PROBE, "--max-epoch", 3, "--lr", "1e-3")
    assert "begins as a logistic regression" not in rest.stdout
    runs.assert_same_weights(
        tmp_path / "whole" / "checkpoint_last.pt", tmp_path / "half" / "checkpoint_last.pt"
    )


def test_two_workers_begin_alike_and_train_as_one(tiny, tmp_path):
    updates = [[[0, 1, 2, 3, 4], [5, 6]], [[7, 8], [9, 10, 11]]]
    cases = {"probe": case(updates, *PROBE), "drawn": case(updates)}
    two = run(cases, 2, tiny, tmp_path / "two")
    one = run({name: together(given) for name, given in cases.items()}, 1, tiny, tmp_path / "one")
    for worker in two:
        for part in ("gradients", "weights"):
            found, expected = worker["probe"][part], one[0]["probe"][part]
            assert relative_difference(found, expected) < 1e-5
            assert relative_difference(found, one[0]["drawn"][part]) > 1e-3
