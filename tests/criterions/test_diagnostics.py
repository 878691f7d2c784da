"""``--scl-diagnostics``: what is logged, against explicit loops over pairs."""

import math
import shutil
import struct

import pytest
import torch
from fairseq.logging import metrics

from scl_fairseq.losses import DIAGNOSTICS
from tests import runs
from tests.criterions.test_sentence_prediction_scl import build, expected_embedding, reduce
from tests.losses.test_diagnostics import loop_values

ROUNDED = {name: 0.051 if name == "anchors_with_positive" else 6e-5 for name in DIAGNOSTICS}


def batches_of(built, sizes):
    """The first rows of the training set, cut into batches of these sizes."""
    dataset = built.task.dataset("train")
    rows = iter(range(len(dataset)))
    return [dataset.collater([dataset[next(rows)] for _ in range(size)]) for size in sizes]


def pairs_of(built, batches, kind="cls"):
    """What the loops need of each batch: embeddings by the model's own functions, and classes."""
    result = []
    with torch.no_grad():
        for batch in batches:
            built.batch = batch
            embedding = expected_embedding(built, kind).double().tolist()
            result.append((embedding, batch["target"].view(-1).tolist()))
    return result


def assert_values(found, expected):
    for name, value in expected.items():
        if value is None:
            assert found.get(name) is None, name
        else:
            assert type(found[name]) is float  # anything else would end up in the checkpoint
            assert found[name] == pytest.approx(value, abs=ROUNDED[name]), name


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("arch", "kind"), [("roberta", "cls"), ("roberta", "pooled"), ("bart_base", "mean")]
)
def test_epoch_is_the_loop_over_all_pairs_within_batches(tiny, arch, kind, workers):
    built = build(tiny, arch, "--scl-diagnostics", "--scl-embedding", kind, "--scl-lambda", 0)
    built.model.eval()
    batches = batches_of(built, [9, 2, 1, 16, 5, 3])
    logs = [built.criterion(built.model, batch)[2] for batch in batches]
    assert built.criterion.logging_outputs_can_be_summed()
    assert len({frozenset(log) for log in logs}) == 1  # fairseq sums workers key by key
    steps = [[log] for log in logs]
    if workers == 2:  # what fairseq's all-reduce makes of two outputs: tensors in float64
        steps = [
            [{key: torch.tensor(one[key] + two[key], dtype=torch.float64) for key in one}]
            for one, two in zip(logs[::2], logs[1::2], strict=True)
        ]
    expected = loop_values(pairs_of(built, batches, kind))
    gap = expected["in_class_cosine"] - expected["between_class_cosine"]
    assert abs(gap) > 3 * ROUNDED["in_class_cosine"]  # the two cannot be taken for each other
    assert expected["anchors_with_positive"] < 100
    found = reduce(built.criterion, steps)
    assert_values(found, expected)
    assert not [key for key in found if key.startswith("_")]


def test_update_freq_is_batch_by_batch(tiny):
    built = build(tiny, "roberta", "--scl-diagnostics")
    built.model.eval()
    batches = batches_of(built, [6, 10])
    logs = [built.criterion(built.model, batch)[2] for batch in batches]
    assert_values(reduce(built.criterion, [logs]), loop_values(pairs_of(built, batches)))


@pytest.mark.parametrize("scl_lambda", [0, 0.9])
def test_not_logged_unless_asked(tiny, scl_lambda):
    built = build(tiny, "roberta", "--scl-lambda", scl_lambda)
    log = built.criterion(built.model, built.batch)[2]
    assert not [key for key in log if key.startswith("_")]
    assert not set(DIAGNOSTICS) & set(reduce(built.criterion, [[log]]))


@pytest.mark.parametrize("scl_lambda", [0, 0.9])
def test_gradients_do_not_change_by_a_bit(tiny, scl_lambda):
    gradients = []
    for flags in ([], ["--scl-diagnostics"]):
        built = build(tiny, "roberta", "--scl-lambda", scl_lambda, *flags)
        torch.manual_seed(2)
        built.criterion(built.model, built.batch)[0].backward()
        gradients.append([p.grad for p in built.model.parameters()])
    for without, watched in zip(*gradients, strict=True):
        assert (without is None) == (watched is None)
        assert without is None or torch.equal(without, watched)


def test_an_interval_without_pairs_after_one_with_pairs(tiny):
    """The meters of an epoch stay for the next one, emptied."""
    built = build(tiny, "roberta", "--scl-diagnostics")
    built.model.eval()
    whole, single = batches_of(built, [8, 1])
    none = dict.fromkeys(DIAGNOSTICS) | {"anchors_with_positive": 0.0}
    with metrics.aggregate(new_root=True) as meters:
        for batch, expected in [
            (single, none),
            (whole, loop_values(pairs_of(built, [whole]))),
            (single, none),
        ]:
            meters.reset()
            built.criterion.reduce_metrics([built.criterion(built.model, batch)[2]])
            assert_values(meters.get_smoothed_values(), expected)
    found = reduce(built.criterion, [[built.criterion(built.model, single)[2]]])
    assert set(DIAGNOSTICS) & set(found) == {"anchors_with_positive"}


def test_regression_has_uniformity_alone(tiny):
    built = build(tiny, "roberta", "--scl-lambda", 0, "--scl-diagnostics")
    built.criterion.regression_target = True
    built.model.register_classification_head("sentence_classification_head", num_classes=1)
    built.model.eval()
    expected = loop_values(pairs_of(built, [built.batch]))
    sample = {**built.batch, "target": torch.linspace(0, 5, 8).view(-1, 1)}
    loss, _, log = built.criterion(built.model, sample)
    assert log["loss"] == loss
    found = reduce(built.criterion, [[log]])
    assert set(DIAGNOSTICS) & set(found) == {"uniformity"}
    assert_values(found, {"uniformity": expected["uniformity"]})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features(tiny, dtype):
    built = build(tiny, "roberta", "--scl-diagnostics")
    built.model.eval().to(dtype)
    log = built.criterion(built.model, built.batch)[2]
    found = reduce(built.criterion, [[log]])
    assert_values(found, loop_values(pairs_of(built, [built.batch])))


@pytest.fixture(scope="module")
def watched(train, tmp_path_factory):
    """Two epochs with diagnostics, validation in one batch: the output and the run's folder."""
    folder = tmp_path_factory.mktemp("watched")
    events = ["--tensorboard-logdir", folder / "events"]
    options = ["--scl-diagnostics", "--batch-size-valid", 1000, *events]
    return train(folder / "run", *options).stdout, folder


def lines(output, subset):
    """The end-of-epoch lines of ``train`` or ``valid``."""
    marks = {"train": "| train |", "valid": "| valid |"}
    return "\n".join(line for line in output.splitlines() if marks[subset] in line)


def test_training_logs_them_in_train_and_valid(watched, train, tmp_path):
    output, folder = watched
    for subset in ("train", "valid"):
        epochs = lines(output, subset)
        for name in DIAGNOSTICS:
            values = runs.logged(epochs, name)
            assert len(values) == 2, (subset, name)
            assert all(map(math.isfinite, values))
        alignment, cosine = (runs.logged(epochs, key) for key in ("alignment", "in_class_cosine"))
        for one, other in zip(alignment, cosine, strict=True):
            assert one == pytest.approx(2 - 2 * other, abs=2e-4)
    without = train(tmp_path, "--batch-size-valid", 1000)
    assert not any(name in lines(without.stdout, "train") for name in DIAGNOSTICS)
    assert not any(name in lines(without.stdout, "valid") for name in DIAGNOSTICS)
    runs.assert_same_weights(folder / "run" / "checkpoint_last.pt", tmp_path / "checkpoint_last.pt")


def test_logged_validation_is_the_loop_over_the_saved_model(watched, tiny):
    output, folder = watched
    built = build(tiny)
    built.task.load_dataset("valid")
    dataset = built.task.dataset("valid")
    rows = dataset.collater([dataset[i] for i in range(len(dataset))])
    checkpoint = torch.load(folder / "run" / "checkpoint_last.pt", map_location="cpu")
    model = built.task.build_model(checkpoint["cfg"]["model"])
    model.load_state_dict(checkpoint["model"])
    built.model = model.eval()
    expected = loop_values(pairs_of(built, [rows]))
    logged = {name: runs.logged(lines(output, "valid"), name)[-1] for name in DIAGNOSTICS}
    assert_values(logged, expected)


def scalars(folder):
    """(tag, step) to value of all scalars in a folder of event files: TFRecords of protobufs."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:  # length, its checksum, an event, its checksum
            (length,) = struct.unpack_from("<Q", data)
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found[value.tag, event.step] = value.simple_value
    return found


@pytest.mark.parametrize("subset", ["train", "valid"])
def test_tensorboard_shows_what_the_log_says(watched, subset):
    pytest.importorskip("tensorboardX")
    output, folder = watched
    shown = scalars(folder / "events" / subset)
    for name in DIAGNOSTICS:
        values = runs.logged(lines(output, subset), name)
        for step, value in zip((8, 16), values, strict=True):  # updates at the end of each epoch
            assert shown[name, step] == pytest.approx(value, rel=1e-6, abs=1e-6), name


def test_resumed_in_mid_epoch(watched, train, tmp_path):
    """With the option as if never stopped; without it nothing is left of the first part."""
    train(tmp_path / "on", "--scl-diagnostics", "--max-update", 5)
    shutil.copytree(tmp_path / "on", tmp_path / "off")
    outputs = {
        "on": train(tmp_path / "on", "--scl-diagnostics").stdout,
        "off": train(tmp_path / "off").stdout,
    }
    for name in DIAGNOSTICS:
        whole, resumed = (
            runs.logged(lines(out, "train"), name) for out in (watched[0], outputs["on"])
        )
        assert resumed == whole, name
        assert name not in lines(outputs["off"], "train")
    assert "Loaded checkpoint" in outputs["off"]
    assert "done training" in outputs["off"]


@pytest.mark.parametrize("options", [["--memory-efficient-fp16"], ["--batch-size", 1]])
def test_other_settings(train, tmp_path, options):
    output = train(tmp_path, *options, "--scl-diagnostics", "--max-epoch", 1).stdout
    assert "done training" in output
    epoch = lines(output, "train")
    if options[0] == "--batch-size":
        assert runs.logged(epoch, "anchors_with_positive") == [0]
        assert "in_class_cosine" not in epoch
        assert "uniformity" not in epoch
    else:
        assert -8 <= runs.logged(epoch, "uniformity")[0] < 0
