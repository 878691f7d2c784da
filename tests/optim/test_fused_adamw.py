"""``--optimizer fused_adamw`` in real ``fairseq-train`` processes: rates, decay, resuming."""

import re
import signal

import pytest
import torch

from tests import forked, runs, stock

FUSED = ["--optimizer", "fused_adamw", "--dropout", 0, "--attention-dropout", 0]
SCALES = ["--head-lr-scale", 4, "--layer-lr-decay", 0.5]
LR, LAST = 1e-3, "checkpoint_last.pt"

KILLED = """
import os, signal
from fairseq.trainer import Trainer
from fairseq_cli.train import cli_main

original = Trainer.train_step

def train_step(self, *args, **kwargs):
    if self.get_num_updates() == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **kwargs)

Trainer.train_step = train_step
cli_main()
"""
WITHOUT_FUSED = """
import torch
from fairseq_cli.train import cli_main

def _fused_adamw_(*args, **kwargs):
    raise NotImplementedError("Could not run 'aten::_fused_adamw_' with arguments from 'CPU'")

torch._fused_adamw_ = _fused_adamw_
cli_main()
"""


def scale_of(name):
    """How many times the scheduled rate ``SCALES`` give a parameter of the two-layer encoder."""
    if name.startswith("classification_heads."):
        return 4
    if ".layers.0." in name:
        return 0.5
    if "embed" in name:
        return 0.25
    return 1  # the second layer and the language model's head


def optimizer_state(path):
    runs.weights(path)  # allows the globals
    return torch.load(path, map_location="cpu")["last_optimizer_state"]


def trained_names(path):
    """Names of the parameters, in the model's order, which numbers them for the optimizer."""
    names = list(torch.load(path, map_location="cpu")["model"])
    tied = "encoder.lm_head.weight"
    return [name for name in names if name not in (tied, "encoder.sentence_encoder.version")]


@pytest.fixture(scope="module")
def once(train, tmp_path_factory):
    """``once(*options)``: weights that have a gradient, after one update by the optimizer."""
    folders = {}

    def run(*options):
        if options not in folders:
            folders[options] = tmp_path_factory.mktemp("once")
            # In theory the keys' biases have no gradient: what they have is smaller than any eps.
            train(folders[options], *FUSED, "--max-update", 1, "--adam-eps", 1e-20, *options)
        weights = runs.weights(folders[options] / LAST)
        without = re.compile(r"encoder\.lm_head\.(?!weight)|encoder\.sentence_encoder\.version")
        return {name: tensor for name, tensor in weights.items() if not without.match(name)}

    return run


def test_the_first_update_goes_as_far_as_each_rate(once):
    # Adam's first step is the rate's size, whatever the gradient's.
    plain, scaled = once(), once(*SCALES)
    assert plain.keys() == scaled.keys()
    seen = set()
    for name, weights in plain.items():
        known_as = name.replace("lm_head.weight", "embed_tokens.weight")  # tied
        difference = (weights - scaled[name]).abs().max().item()
        assert difference == pytest.approx(LR * abs(scale_of(known_as) - 1), rel=1e-2, abs=1e-9)
        seen.add(scale_of(known_as))
    assert seen == {0.25, 0.5, 1, 4}


def test_biases_and_norms_do_not_decay(tiny, once):
    plain = once()
    decayed = once("--weight-decay", 100)
    spared = once("--weight-decay", 100, "--no-decay-biases-norms")
    start = runs.weights(tiny.encoder / "model.pt")
    for name, weights in plain.items():
        is_spared = name.endswith(".bias") or "layer_norm" in name or "layernorm" in name
        wanted = plain if is_spared else decayed
        assert torch.equal(spared[name], wanted[name]), name
        if name in start:
            gone = weights - decayed[name]
            assert torch.allclose(gone, LR * 100 * start[name], atol=1e-5), name


SCHEDULE = ["--lr-scheduler", "polynomial_decay", "--total-num-update", 24, "--warmup-updates", 4]
ALL = [*FUSED, *SCALES, "--weight-decay", 0.1, "--no-decay-biases-norms", "--clip-norm", 1.0]


def assert_rates(path, updates):
    """Each parameter's rate and weight decay after so many updates, worked out by name."""
    base = LR * (1 - (updates - 4) / (24 - 4))
    names = trained_names(path)
    found = {}
    for group in optimizer_state(path)["param_groups"]:
        for index in group["indices"]:
            found[names[index]] = (group["lr"], group["weight_decay"])
    assert found.keys() == set(names)
    for name, (lr, decay) in found.items():
        assert lr == pytest.approx(scale_of(name) * base, rel=1e-6), name
        is_spared = name.endswith(".bias") or "layer_norm" in name or "layernorm" in name
        assert decay == (0 if is_spared else 0.1), name


@pytest.mark.parametrize(
    "precision",
    [[], ["--memory-efficient-fp16"], ["--fp16", "--fp16-no-flatten-grads"]],
    ids=["float32", "memory-efficient", "fp16"],
)
def test_killed_and_resumed(tiny, train, tmp_path, precision):
    options = [*ALL, *SCHEDULE, *precision, "--save-interval-updates", 3]
    options[options.index("--dropout") + 1] = 0.1
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, *options)  # 16 updates
    arguments = runs.command(tiny, cut, *options)
    killed = forked.run_code(KILLED, *arguments[1:])
    assert killed.returncode == -signal.SIGKILL, killed.stdout[-3000:]
    assert_rates(cut / LAST, 12)
    resumed = train(cut, *options).stdout
    assert "loading pretrained model" not in resumed
    runs.assert_same_weights(whole / LAST, cut / LAST)
    assert_rates(cut / LAST, 16)
    logged = [line for line in resumed.splitlines() if "| train |" in line][-1]
    assert runs.logged(logged, "lr")[-1] == pytest.approx(LR * (1 - 12 / 20), rel=1e-3)

    one, other = optimizer_state(whole / LAST), optimizer_state(cut / LAST)
    assert one["param_groups"] == other["param_groups"]
    assert one["state"].keys() == other["state"].keys()
    for key, state in one["state"].items():
        assert state["step"] == 16
        for name in ("exp_avg", "exp_avg_sq"):
            assert state[name].dtype == torch.float32
            assert torch.equal(state[name], other["state"][key][name])


def test_resumed_with_other_options_it_keeps_the_moments_and_takes_the_options(train, tmp_path):
    schedule = [*FUSED, *SCHEDULE]
    train(tmp_path, *schedule, "--max-update", 8)
    before = optimizer_state(tmp_path / LAST)
    (group,) = before["param_groups"]
    changed = [*schedule, *SCALES, "--weight-decay", 0.1, "--no-decay-biases-norms"]
    train(tmp_path, *changed, "--max-update", 10)
    assert_rates(tmp_path / LAST, 10)
    after = optimizer_state(tmp_path / LAST)
    for grown in after["param_groups"]:
        for key, index in zip(grown["params"], grown["indices"], strict=True):
            old = before["state"].get(group["params"][group["indices"].index(index)])
            assert (old is None) == (key not in after["state"])
            if old is not None:
                assert after["state"][key]["exp_avg"].shape == old["exp_avg"].shape
                assert after["state"][key]["step"] == 10


def test_a_new_training_begins_with_new_moments_and_stock_takes_the_weights(
    tiny, train, tmp_path, classifier
):
    first = tmp_path / "first"
    train(first, *FUSED, "--max-update", 5)
    for name, start in (
        ("finetuned", ["--finetune-from-model", first / LAST]),
        ("restored", ["--restore-file", first / LAST, "--reset-optimizer", "--reset-dataloader",
                      "--reset-meters", "--reset-lr-scheduler"]),
    ):  # fmt: skip
        train(tmp_path / name, *FUSED, *SCALES, *start, "--max-update", 2)
        states = optimizer_state(tmp_path / name / LAST)["state"].values()
        assert {int(state["step"]) for state in states} == {2}
    stock.fine_tune(tiny, first / LAST, tmp_path / "stock", "--max-update", 1)


def error_of(done):
    assert done.returncode == 2, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("error:"))
    return line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer-lr-decay", 2], "--layer-lr-decay 2.0: expected a number above 0 and at most 1"),
        (["--fp16", *SCALES], "--head-lr-scale and --layer-lr-decay: --fp16 flattens all"),
        (["--fp16", "--no-decay-biases-norms"], "--no-decay-biases-norms: --fp16 flattens all"),
        (["--use-bmuf"], "--optimizer fused_adamw does not go with --use-bmuf"),
    ],
)
def test_refused_in_a_line(train, tmp_path, options, message):
    done = train(tmp_path, *FUSED, *options, check=False)
    assert error_of(done).startswith(f"error: {message}")
    assert not list(tmp_path.glob("*.pt"))


def test_a_torch_without_the_kernel_is_named(tiny, tmp_path):
    done = forked.run_code(WITHOUT_FUSED, *runs.command(tiny, tmp_path, *FUSED)[1:])
    message = f"--optimizer fused_adamw: torch {torch.__version__} has no fused AdamW for cpu"
    assert message in error_of(done)
    assert "2.4" in error_of(done)


def test_another_optimizers_checkpoint_is_refused_in_a_line(train, tmp_path):
    train(tmp_path, "--max-update", 1)
    done = train(tmp_path, *FUSED, check=False)
    assert "FairseqAdam vs FairseqFusedAdamW" in error_of(done)
    assert "--reset-optimizer" in error_of(done)
