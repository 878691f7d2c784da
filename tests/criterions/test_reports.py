"""What a batch logs for its scores: against scikit-learn, and how much it is."""

import pytest
import torch
from fairseq.logging import metrics
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from scl_fairseq.criterions import reports
from scl_fairseq.criterions.reports import Reports
from tests.criterions import test_sentence_prediction_scl as scl
from tests.criterions.test_sentence_prediction_scl import build
from tests.criterions.test_supcon import build as build_supcon


def names(num_classes):
    return [str(index) for index in range(num_classes)]


def draw(num_classes, size, seed):
    """Labels, and predictions that are right more often than not."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(num_classes, (size,), generator=generator)
    is_right = torch.rand(size, generator=generator) < 0.6
    others = torch.randint(num_classes, (size,), generator=generator)
    return torch.where(is_right, targets, others), targets


def summed(logs):
    """As fairseq's all-reduce has it: floating point, the keys of the first worker."""
    return {key: sum(torch.as_tensor(log[key]).double() for log in logs) for key in logs[0]}


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(("num_classes", "wanted"), [(2, "1"), (2, "0"), (5, "3"), (40, "7")])
def test_scores_are_scikit_learns_over_batches_and_workers(num_classes, wanted, workers):
    report = Reports(names(num_classes), mcc=True, acc_and_f1=True, f1_label=wanted)
    predictions, targets = draw(num_classes, 180, seed=num_classes)
    sizes = [20, 1, 40, 29] * 2  # a batch of one lacks nearly all classes
    parts = zip(predictions.split(sizes), targets.split(sizes), strict=True)
    logs = [report.batch_counts(*part, num_classes) for part in parts]
    shapes = [{key: torch.as_tensor(value).shape for key, value in log.items()} for log in logs]
    assert all(shape == shapes[0] for shape in shapes)
    with metrics.aggregate(new_root=True) as aggregator:
        for first in range(0, 8, workers):
            reports.reduce_metrics([summed(logs[first : first + workers])])
    found = aggregator.get_smoothed_values()
    f1 = f1_score(targets == int(wanted), predictions == int(wanted))
    accuracy = accuracy_score(targets, predictions)
    expected = {
        "mcc": matthews_corrcoef(targets, predictions), "f1": f1, "acc_and_f1": (accuracy + f1) / 2
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(100 * value, abs=0.051)
        assert type(found[name]) is float  # a NumPy scalar would end up in the checkpoint


def test_what_is_logged_grows_with_the_classes_and_not_with_their_pairs():
    """Numbers of a batch, and meters of a validation set: both are what time is spent on."""
    report = {}
    for num_classes in (10, 1000):
        wanted = Reports(names(num_classes), mcc=True, acc_and_f1=True, f1_label="1")
        with metrics.aggregate(new_root=True) as aggregator:
            for seed in range(3):
                log = wanted.batch_counts(*draw(num_classes, 16, seed), num_classes)
                reports.reduce_metrics([log])
        numbers = sum(torch.as_tensor(value).numel() for value in log.values())
        report[num_classes] = numbers, len(log), len(aggregator)
    assert report[1000][0] - report[10][0] == 3 * 990
    assert report[1000][1:] == report[10][1:] == (3, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f1_label": "1", "acc_and_f1": False}, "--f1-label 1 is an option of --report-acc-and"),
        ({"f1_label": "x", "acc_and_f1": True}, "--f1-label x is none of the labels: 0, 1, 2"),
        ({"acc_and_f1": True}, "of 3 labels --f1-label has to name it: 0, 1, 2"),
    ],
)
def test_a_class_that_is_not_there(options, message):
    with pytest.raises(ValueError, match=message):
        Reports(names(3), mcc=True, **options)


WRONG = {-1: "label index -1", 2: "label index 2"}
FLAGS = {
    "plain": [],
    "reports": ["--report-mcc", "--report-acc-and-f1"],
    "queue": ["--scl-queue-size", 8, "--scl-momentum", 0.5],
    "diagnostics": ["--scl-diagnostics"],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", ["sentence_prediction_scl", "supcon"])
def test_a_label_that_is_none_is_named_before_the_loss(tiny, name, flags, is_training, wrong):
    if (name, flags) == ("supcon", "reports"):
        pytest.skip("no option of it")
    make = build if name == "sentence_prediction_scl" else build_supcon
    built = make(tiny, "roberta", *FLAGS[flags])
    built.model.train(is_training)
    built.batch["target"][5] = wrong
    row = built.batch["id"][5].item()
    forwards = []
    built.model.encoder.register_forward_hook(lambda *_: forwards.append(1))
    with pytest.raises(ValueError, match=f"row {row} has the {WRONG[wrong]}, .* are 0, 1"):
        built.criterion(built.model, built.batch)
    assert not forwards
    assert "queue" not in (built.criterion.training_state() or {})  # nothing of it is kept


@pytest.mark.parametrize("make", [build, build_supcon])
def test_a_batch_without_labels_is_refused(tiny, make):
    built = make(tiny)
    del built.batch["target"]
    hint = "" if make is build else ": --supcon-unsupervised"
    with pytest.raises(ValueError, match=f"no labels, which this criterion needs{hint}"):
        built.criterion(built.model.train(), built.batch)


def test_without_labels_and_unsupervised_supcon_trains(tiny):
    """As where the labels are there and ignored."""
    losses = []
    for removes in (False, True):
        built = build_supcon(tiny, "roberta", "--supcon-unsupervised")
        built.batch["target"][3] = -1
        if removes:
            del built.batch["target"]
        torch.manual_seed(5)
        losses.append(built.criterion(built.model.train(), built.batch)[0])
    assert torch.equal(*losses)


def test_nothing_is_counted_unless_asked(tiny):
    built = scl.build(tiny)
    log = built.criterion(built.model.eval(), built.batch)[2]
    assert not [key for key in log if key.startswith("_")]
