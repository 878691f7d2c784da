"""A warm training against the ``fairseq-train`` that it stands for."""

import re

import pytest
import torch

from tests import runs

BEST_ONLY = ["--no-epoch-checkpoints", "--no-last-checkpoints", "--no-save-optimizer-state"]
SELECTED = ["--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric"]


@pytest.fixture(scope="module")
def warm():
    from scl_fairseq.experiments.warm_training import WarmTraining

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes it is compared with
    yield WarmTraining()
    torch.set_num_threads(before)


def options(tiny, save_dir, *more, criterion="sentence_prediction_scl"):
    own = [*BEST_ONLY, *SELECTED, "--num-workers", 0, *more]
    return runs.command(tiny, save_dir, *own, criterion=criterion)[1:]


def plain(tiny, folder, *more, **kwargs):
    """A real ``fairseq-train``: its log and validation accuracies."""
    arguments = options(tiny, folder, *more, **kwargs)
    done = runs.train([runs.FAIRSEQ_TRAIN, *arguments])
    found = re.findall(r"valid on 'valid' subset \| loss.*?accuracy ([\d.]+)", done.stdout)
    return done.stdout, [float(value) for value in found]


def hub_classes(tiny, checkpoint):
    """Log-probabilities of the raw test sentences, through fairseq's hub interface."""
    import scl_fairseq
    from scl_fairseq.data.records import read_rows
    from scl_fairseq.data.tasks import TASKS

    rows = read_rows(TASKS["SST-2"], tiny.sample / "test.tsv")
    model = scl_fairseq.load(checkpoint, tiny.data)
    return model.predict([row.sentences for row in rows]).probabilities.log()


CASES = {
    "CE+SCL": ["--lr", 1e-3, "--max-epoch", 4],
    "CE": ["--lr", 1e-3, "--max-epoch", 3, "--scl-lambda", 0],
    "pooled": ["--lr", 1e-3, "--scl-embedding", "pooled", "--scl-reduction", "sum"],
    "mean": ["--lr", 1e-3, "--scl-embedding", "mean"],
    "mean head": ["--lr", 1e-3, "--head-pooling", "mean"],
    "mean head, CLS contrasted": [
        *["--lr", 1e-3, "--head-pooling", "mean", "--scl-embedding", "cls", "--scl-packed"]
    ],
    "early stopping": ["--lr", 1e-8, "--max-epoch", 9, "--patience", 2],
    "saved every second epoch": ["--lr", 1e-3, "--max-epoch", 4, "--save-interval", 2],
    "mid-epoch": ["--lr", 1e-3, "--validate-interval-updates", 3, "--save-interval-updates", 3],
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_training_it_stands_for(tiny, tmp_path, warm, case):
    log, accuracies = plain(tiny, tmp_path / "plain", *CASES[case])
    # Twice: the second starts from what the first has left in this process.
    for name in ("first", "second"):
        folder = tmp_path / name
        outcome = warm.run(options(tiny, folder, *CASES[case]), folder, "best")
        assert outcome.valid_accuracy == accuracies
        of_best_epoch = [
            accuracy
            for epoch, accuracy in zip(outcome.valid_epochs, accuracies, strict=True)
            if epoch == outcome.best_epoch
        ]
        assert outcome.best_valid_accuracy in of_best_epoch
        runs.assert_same_weights(
            folder / "checkpoint_best.pt", tmp_path / "plain" / "checkpoint_best.pt"
        )
        for key in ("loss", "ce_loss", "scl_loss"):
            found = [numbers[key] for numbers in outcome.epoch_metrics["valid"]]
            told = [float(v) for v in re.findall(rf"subset \|.*? {key} ([\d.]+)", log)]
            assert found == pytest.approx(told, abs=0.002)  # fairseq rounds to 0.001
    expected = hub_classes(tiny, tmp_path / "plain" / "checkpoint_best.pt")
    torch.testing.assert_close(outcome.log_probabilities, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(outcome.log_probabilities.argmax(1), expected.argmax(1))


def test_stock_criterion(tiny, tmp_path, warm):
    stock = {"criterion": "sentence_prediction"}
    _, accuracies = plain(tiny, tmp_path / "plain", "--lr", 1e-3, **stock)
    outcome = warm.run(options(tiny, tmp_path, "--lr", 1e-3, **stock), tmp_path, "none")
    assert outcome.valid_accuracy == accuracies
    assert not (tmp_path / "checkpoint_best.pt").exists()


def test_a_tie_goes_to_the_later_epoch(tiny, tmp_path, warm):
    arguments = options(tiny, tmp_path, "--lr", 1e-9, "--max-epoch", 3)
    outcome = warm.run(arguments, tmp_path, "none")
    assert len(set(outcome.valid_accuracy)) == 1
    assert outcome.best_epoch == 3


def test_the_test_set_meets_the_weights_of_the_best_epoch(tiny, tmp_path, warm):
    # The first epochs learn; then the rate explodes and the last weights are worse.
    rates = [
        "--lr",
        "[0.001,0.001,0.001,0.001,0.001,0.001,5.0]",
        "--max-epoch",
        8,
        "--force-anneal",
        9,
    ]
    arguments = options(tiny, tmp_path, *rates)
    outcome = warm.run(arguments, tmp_path, "best")
    assert outcome.valid_accuracy[-1] < max(outcome.valid_accuracy)
    assert outcome.best_epoch < 8
    expected = hub_classes(tiny, tmp_path / "checkpoint_best.pt")
    assert torch.equal(outcome.log_probabilities.argmax(1), expected.argmax(1))


def test_keep_all_writes_what_fairseq_writes(tiny, tmp_path, warm):
    more = [*SELECTED, "--num-workers", 0]
    warm.run(runs.command(tiny, tmp_path / "warm", *more)[1:], tmp_path / "warm", "all")
    runs.train(runs.command(tiny, tmp_path / "plain", *more))
    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert sorted(path.name for path in (tmp_path / "warm").iterdir()) == names
    checkpoints = [name for name in names if name.endswith(".pt")]
    assert len(checkpoints) > 1
    for name in checkpoints:
        runs.assert_same_weights(tmp_path / "warm" / name, tmp_path / "plain" / name)


def test_the_pretrained_checkpoint_is_read_once(tiny, tmp_path, warm, monkeypatch):
    from fairseq import checkpoint_utils

    from scl_fairseq.experiments.warm_training import WarmTraining

    read = []
    original = checkpoint_utils.load_checkpoint_to_cpu

    def count(path, *args, **kwargs):
        read.append(str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(checkpoint_utils, "load_checkpoint_to_cpu", count)
    training = WarmTraining()
    for name in ("one", "two"):
        training.run(options(tiny, tmp_path / name, "--max-epoch", 1), tmp_path / name, "none")
    assert read == [str(tiny.encoder / "model.pt")]


def test_of_two_stages_the_encoder_is_read_once_and_epochs_are_counted_on(
    tiny, tmp_path, warm, monkeypatch
):
    from fairseq import checkpoint_utils

    from scl_fairseq.experiments.warm_training import WarmTraining

    read, epochs = [], []
    original = checkpoint_utils.load_checkpoint_to_cpu

    def count(path, *args, **kwargs):
        read.append(str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(checkpoint_utils, "load_checkpoint_to_cpu", count)
    training = WarmTraining(epochs.append)
    first = ["--max-epoch", 2, "--scl-lambda", 1, "--disable-validation", "--no-epoch-checkpoints"]
    starts = []
    for name in ("one", "two"):
        folder = tmp_path / name / "first-stage"
        starts.append(str(folder / "checkpoint_last.pt"))
        outcome = training.run_first(runs.command(tiny, folder, *first, "--num-workers", 0)[1:])
        assert (outcome.num_updates, len(outcome.epoch_metrics["train"])) == (16, 2)
        assert outcome.update_seconds > 0
        assert outcome.valid_accuracy == []
        start = ["--finetune-from-model", starts[-1], "--max-epoch", 1]
        second = options(tiny, tmp_path / name, *start)
        training.run(second, tmp_path / name, "none", epochs_before=2)
    assert read == [str(tiny.encoder / "model.pt"), *starts]
    assert epochs == [1, 2, 3, 1, 2, 3]


def test_a_frozen_encoder_reads_each_sentence_once(tiny, tmp_path, warm, monkeypatch):
    from fairseq.models.roberta import RobertaEncoder

    frozen = ["--scl-lambda", 0, "--freeze-encoder", "--pooler-activation-fn", "linear"]
    frozen += ["--lr", 1e-2, "--max-epoch", 4]
    _, accuracies = plain(tiny, tmp_path / "plain", *frozen)
    sentences = []
    original = RobertaEncoder.extract_features

    def count(encoder, src_tokens, *args, **kwargs):
        sentences.append(len(src_tokens))
        return original(encoder, src_tokens, *args, **kwargs)

    monkeypatch.setattr(RobertaEncoder, "extract_features", count)
    outcome = warm.run(options(tiny, tmp_path, *frozen), tmp_path, "none")
    assert outcome.valid_accuracy == accuracies
    assert sum(sentences) == 64 + len(outcome.valid_targets) + len(outcome.targets)


def test_running_out_of_memory_is_an_error(tiny, tmp_path, warm, monkeypatch):
    from fairseq.tasks.sentence_prediction import SentencePredictionTask

    def exhausted(*args, **kwargs):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(SentencePredictionTask, "train_step", exhausted)
    with pytest.raises(RuntimeError, match="out of memory"):
        warm.run(options(tiny, tmp_path), tmp_path, "none")


def test_fairseq_is_left_as_it_was(tiny, tmp_path, warm):
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer
    from fairseq_cli import train

    owners = [(checkpoint_utils, "save_checkpoint"), (checkpoint_utils, "load_checkpoint_to_cpu")]
    owners += [(train, name) for name in ("train", "validate", "get_valid_stats")]
    owners += [(Trainer, "train_step")]
    before = [getattr(owner, name) for owner, name in owners]
    warm.run(options(tiny, tmp_path, "--max-epoch", 1), tmp_path, "none")
    assert [getattr(owner, name) for owner, name in owners] == before
