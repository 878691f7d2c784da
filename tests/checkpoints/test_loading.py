"""Checkpoints load weights-only, and nothing else does."""

import argparse
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from fairseq.models.roberta import RobertaModel

import scl_fairseq  # noqa: F401 (makes checkpoints loadable)
from scl_fairseq.checkpoints import loading
from tests import runs

needs_refusal = pytest.mark.skipif(
    not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"),
    reason="torch before 2.6 refuses nothing",
)


class RunsCode:
    """Unpickling this makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def load_hub(folder, tiny):
    vocabulary = str(tiny.encoder / "vocab.txt")
    return RobertaModel.from_pretrained(
        str(folder), "model.pt", str(tiny.encoder), bpe="wordpiece", wordpiece_vocab=vocabulary
    )


def rewrite(source, destination, change):
    """Copy a checkpoint, its pickle changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(destination, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry, change(data) if entry.filename.endswith("data.pkl") else data)


def add_to_checkpoint(tiny, path, **entries):
    loading.allow_globals()
    state = torch.load(tiny.encoder / "model.pt")
    torch.save({**state, **entries}, path)


@needs_refusal
def test_another_global_is_refused_by_name_and_does_not_run(tiny, tmp_path):
    add_to_checkpoint(tiny, tmp_path / "model.pt", hostile=RunsCode(str(tmp_path / "made")))
    with pytest.raises(pickle.UnpicklingError, match=r"model.pt refers to \w+.mkdir") as caught:
        load_hub(tmp_path, tiny)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "made").exists()


@needs_refusal
def test_training_refuses_it_too(tiny, train, tmp_path):
    add_to_checkpoint(tiny, tmp_path / "model.pt", hostile=RunsCode(str(tmp_path / "made")))
    options = ["--finetune-from-model", tmp_path / "model.pt", "--no-save"]
    done = train(tmp_path / "run", *options, check=False)
    assert done.returncode != 0
    assert "mkdir, which is not among the globals" in done.stdout
    assert not (tmp_path / "made").exists()


@needs_refusal
def test_weights_only_is_left_on(tmp_path):
    torch.save({"hostile": RunsCode(str(tmp_path / "made"))}, tmp_path / "file.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "file.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
def test_numpy_scalars_of_both_generations_load(tmp_path, module):
    values = {"best": np.float64(91.2), "n": np.int64(3), "f": np.float32(0.5)}
    torch.save(values, tmp_path / "new.pt")
    rewrite(
        tmp_path / "new.pt",
        tmp_path / "file.pt",
        lambda data: data.replace(b"numpy._core.multi", module.encode() + b".multi"),
    )
    assert torch.load(tmp_path / "file.pt") == values
    assert torch.load(tmp_path / "new.pt") == values


def test_stock_checkpoints_load_with_their_unused_copies_dropped(tiny, tmp_path):
    """Version 0.12.2 keeps second copies of each encoder layer's weights."""
    state = torch.load(tiny.encoder / "model.pt")
    for layer in range(2):
        prefix = f"encoder.sentence_encoder.layers.{layer}."
        for name in loading.UNUSED_COPIES:
            state["model"].setdefault(prefix + name, torch.zeros(3))
    if hasattr(stock_layer(tiny), "in_proj_weight"):
        pytest.skip("this fairseq keeps the copies itself")
    torch.save(state, tmp_path / "model.pt")
    hub = load_hub(tmp_path, tiny)
    assert not [name for name in hub.model.state_dict() if name.endswith("in_proj_weight")]


def stock_layer(tiny):
    hub = load_hub(tiny.encoder, tiny)
    return hub.model.encoder.sentence_encoder.layers[0]


def test_a_truncated_checkpoint_is_named(tiny, tmp_path):
    whole = (tiny.encoder / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(loading.BrokenCheckpointError, match=r"model.pt is truncated") as caught:
        load_hub(tmp_path, tiny)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("size", [2, 120, 2000, -2000])
def test_a_truncated_checkpoint_of_the_older_format_is_named(tiny, tmp_path, size):
    state = torch.load(tiny.encoder / "model.pt")
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    assert load_hub(tmp_path, tiny) is not None
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[:size])
    with pytest.raises(loading.BrokenCheckpointError, match=r"model.pt (is truncated|cannot be)"):
        load_hub(tmp_path, tiny)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.999, 1.0])
def test_is_whole(tiny, tmp_path, share):
    whole = (tiny.encoder / "model.pt").read_bytes()
    (tmp_path / "file.pt").write_bytes(whole[: int(share * len(whole))])
    assert loading.is_whole(tmp_path / "file.pt") == (share == 1.0)


def test_is_whole_passes_the_older_format(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert loading.is_whole(tmp_path / "old.pt")


def test_newest_whole_goes_by_updates_and_skips_what_cannot_resume(tmp_path):
    def write(name, updates, optimizer):
        torch.save(
            {
                "args": argparse.Namespace(),
                "optimizer_history": [{"num_updates": updates}],
                "last_optimizer_state": optimizer,
            },
            tmp_path / name,
        )

    assert loading.newest_whole(tmp_path) is None
    write("checkpoint2.pt", 20, {"state": {}})
    write("checkpoint1.pt", 10, {"state": {}})  # written later: a copied folder loses its times
    write("checkpoint3.pt", 30, None)
    write("checkpoint_last-shard0.pt", 50, {"state": {}})
    write("checkpoint4.pt", 40, {"state": {}})
    whole = (tmp_path / "checkpoint4.pt").read_bytes()
    (tmp_path / "checkpoint4.pt").write_bytes(whole[:-30])
    assert loading.newest_whole(tmp_path).name == "checkpoint2.pt"
    assert loading.newest_whole(tmp_path, needs_optimizer=False).name == "checkpoint3.pt"


def test_install_twice_wraps_once():
    from fairseq.trainer import Trainer

    before = Trainer.load_checkpoint
    loading.install()
    assert Trainer.load_checkpoint is before


@pytest.mark.skipif(
    "report_acc_and_f1" not in runs.stock_options(), reason="stock 0.12.2 has no such option"
)
def test_resume_of_stock_runs_that_left_numpy_scalars(tiny, tmp_path):
    options = ["--report-acc-and-f1", "--best-checkpoint-metric", "acc_and_f1"]
    options += ["--maximize-best-checkpoint-metric"]
    for epochs in (1, 2):
        arguments = runs.command(
            tiny, tmp_path, *options, "--max-epoch", epochs, criterion="sentence_prediction"
        )
        output = runs.train(arguments).stdout
    assert "Loaded checkpoint" in output
    with zipfile.ZipFile(tmp_path / "checkpoint_last.pt") as file:
        (pickled,) = (name for name in file.namelist() if name.endswith("data.pkl"))
        assert b"multiarray" in file.read(pickled)  # otherwise this test shows nothing
