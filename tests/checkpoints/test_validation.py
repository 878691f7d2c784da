"""fairseq-validate on what each criterion left: its heads, and the rest of its state."""

import sys
from pathlib import Path

import pytest

from tests import runs

FREEZE = ["--freeze-encoder", "--pooler-activation-fn", "linear", "--scl-lambda", 0]
LABELLED = {
    "supcon, MLP": ("supcon", []),
    "supcon, linear": ("supcon", ["--supcon-projection", "linear", "--supcon-projection-dim", 8]),
    "supcon, no projection": ("supcon", ["--supcon-projection", "none"]),
    "frozen encoder": ("sentence_prediction_scl", FREEZE),
}
UNLABELLED = {
    "simcse": ("simcse", []),
    "infocse": ("infocse", ["--infocse-rtd", 0.5, "--infocse-mlm", 1]),
}
TASK = ["--task", "sentence_prediction", "--num-classes", "2", "--init-token", "0"]
METRICS = ("loss", "aux_loss", "rtd_loss", "mlm_loss", "knn_accuracy", "accuracy")


def validated(output):
    """The last values that were printed of the validation set."""
    line = [line for line in output.splitlines() if "'valid' subset" in line][-1]
    found = {name: runs.logged(f" {line}", name) for name in METRICS}
    return {name: values[-1] for name, values in found.items() if values}


@pytest.mark.parametrize("name", [*LABELLED, *UNLABELLED])
def test_fairseq_validate_repeats_the_last_validation(name, tiny, lines, tmp_path):
    if name in LABELLED:
        (criterion, options), data, task = LABELLED[name], tiny.data, TASK
        command = runs.command(tiny, tmp_path, *options, criterion=criterion)
    else:
        (criterion, options), data = UNLABELLED[name], lines.data
        command = runs.embedding_command(tiny, data, tmp_path, *options, criterion=criterion)
        task = ["--task", "sentence_embedding"]
    trained = validated(runs.train(command).stdout)
    command = [Path(sys.executable).parent / "fairseq-validate", data, *task, "--cpu"]
    command += ["--user-dir", runs.ROOT / "scl_fairseq", "--criterion", criterion]
    command += ["--path", tmp_path / "checkpoint_last.pt", "--batch-size", 8]
    command += ["--required-batch-size-multiple", 1, "--log-format", "simple"]
    command[1:1] = ["--distributed-world-size", 1]
    assert validated(runs.train(list(map(str, command))).stdout) == trained
    assert len(trained) >= 1 + ("infocse" in name) * 3
