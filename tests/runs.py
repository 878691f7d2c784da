"""Real ``fairseq-train`` processes for the tests."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import torch

from tests import forked

ROOT = Path(__file__).resolve().parent.parent
FAIRSEQ_TRAIN = str(Path(sys.executable).parent / "fairseq-train")
# One thread: the arithmetic of a small model is the same in every process, and two fit the machine.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def command(tiny, save_dir, *options, criterion="sentence_prediction_scl"):
    """A training of the tiny encoder: batch 8, 8 updates an epoch, 2 epochs, on the CPU."""
    own = list(map(str, options))
    defaults = {
        "--user-dir": str(ROOT / "scl_fairseq"),
        "--criterion": criterion,
        "--task": "sentence_prediction",
        "--num-classes": "2",
        "--init-token": "0",
        "--batch-size": "8",
        "--required-batch-size-multiple": "1",
        "--optimizer": "adam",
        "--lr": "1e-3",
        "--lr-scheduler": "fixed",
        "--max-epoch": "2",
        "--seed": "3",
        "--save-dir": str(save_dir),
        "--log-format": "simple",
        # A run that stops in mid-epoch can otherwise abort while the interpreter shuts down, done
        # and saved: its read-ahead thread is ended inside C++ code (seen on 3.13 under load).
        "--data-buffer-size": "0",
        "--distributed-world-size": "1",  # else a process for each GPU, even with --cpu
    }
    arguments = [FAIRSEQ_TRAIN, str(tiny.data), *tiny.flags, "--no-progress-bar"]
    for name, value in defaults.items():
        if name not in own:
            arguments += [name, value]
    start = {"--restore-file", "--finetune-from-model"}
    if not start.intersection(own):
        arguments += ["--finetune-from-model", str(tiny.encoder / "model.pt")]
    return [*arguments, *own, *([] if "--on-gpu" in own else ["--cpu"])]


def embedding_command(tiny, data, save_dir, *options, criterion="simcse"):
    """The same of unlabelled data, in another task."""
    arguments = command(tiny, save_dir, *options, criterion=criterion)
    for name in ("--task", "--num-classes", "--init-token"):
        at = arguments.index(name)
        del arguments[at : at + 2]
    arguments[1] = str(data)
    return [*arguments, "--task", "sentence_embedding"]


def train(arguments, check=True, cwd=None):
    """Run to the end, in a process of its own; output is on the result's ``stdout``."""
    arguments = [str(a) for a in arguments if a != "--on-gpu"]
    starts_no_other = "--distributed-world-size 1 " in " ".join(arguments)
    if cwd is None and Path(arguments[0]).name in forked.MODULES and starts_no_other:
        done = forked.run(arguments)
    else:
        done = subprocess.run(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
            check=False,
            cwd=cwd,
        )
    if check and done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}\n{done.stdout[-6000:]}")
    return done


def logged(output, name):
    """All values of a logged metric, in order."""
    return [float(value) for value in re.findall(rf"\b{name} (-?[\d.e+-]+|nan|inf)", output)]


def weights(path):
    """Tensors of a checkpoint that the forward uses."""
    from scl_fairseq.checkpoints import loading

    loading.allow_globals()
    return used(torch.load(path, map_location="cpu")["model"])


def used(tensors):
    """Those of a model's tensors that the forward uses: layers of stock fairseq keep copies."""
    copies = re.compile(r"layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$")
    return {name: tensor for name, tensor in tensors.items() if not copies.search(name)}


def assert_same_weights(first, second):
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, f"{len(different)} of {len(one)} tensors differ, e.g. {different[:3]}"


def differ(first, second):
    one, other = weights(first), weights(second)
    return any(not torch.equal(one[name], other[name]) for name in one)


def change_a_token(path):
    """Make binarised data others: the first token becomes its neighbour."""
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def forget_texts(path):
    """Make a checkpoint one of an earlier version, which says nothing of its texts."""
    from scl_fairseq.checkpoints import loading

    loading.allow_globals()
    state = torch.load(path, map_location="cpu")
    own = state["extra_state"].pop("scl_fairseq")
    own.pop("text")
    if own:
        state["extra_state"]["scl_fairseq"] = own
    torch.save(state, path)


def rows_of_epochs(task, epochs, num_workers, buffer=10):
    """The training rows of each epoch, masked where they are, as fairseq's trainer reads them."""
    found = []
    for epoch in epochs:
        batches = task.get_batch_iterator(
            task.dataset("train"), max_sentences=8, seed=3, epoch=epoch,
            num_workers=num_workers, data_buffer_size=buffer,
        ).next_epoch_itr()  # fmt: skip
        inputs = [batch.get("masked", batch["net_input"])["src_tokens"] for batch in batches]
        found.append([tuple(row) for batch in inputs for row in batch.tolist()])
    return found


def stock_options():
    """Names of the options of this fairseq's own sentence_prediction."""
    from fairseq.criterions.sentence_prediction import SentencePredictionConfig

    return [field.name for field in dataclasses.fields(SentencePredictionConfig)]
