"""``--amp`` on a CPU: fairseq's own trainer with a scaler that scales there too.

Scales are powers of two, so that what is scaled and unscaled once is what it was, to the bit.
"""

import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import scl_fairseq  # noqa: F401
from tests import runs

LABELLED = ("sentence_prediction_scl", ["--scl-queue-size", 20])
QUEUES = {
    "labels": LABELLED,
    "momentum": ("sentence_prediction_scl", ["--scl-queue-size", 20, "--scl-momentum", 0.5]),
    "supcon": ("supcon", ["--scl-queue-size", 20, "--scl-momentum", 0.5]),
}
SIZES = [5, 3, 6, 4, 8, 2]


@pytest.fixture(autouse=True)
def scaler_on_a_cpu(monkeypatch):
    cpu = functools.partial(torch.amp.GradScaler, "cpu")
    monkeypatch.setattr("torch.cuda.amp.GradScaler", cpu)


class Trained:
    """A training of a few updates by fairseq's trainer; the batches are the same in every one."""

    def __init__(self, tiny, folder, *flags, criterion="sentence_prediction_scl"):
        from fairseq import options, tasks, utils
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf
        from fairseq.trainer import Trainer

        arguments = runs.command(tiny, folder, *flags, criterion=criterion)[1:]
        parser = options.get_training_parser()
        parsed = options.parse_args_and_arch(parser, arguments)
        cfg = convert_namespace_to_omegaconf(parsed)
        utils.set_torch_seed(3)
        task = tasks.setup_task(cfg.task)
        self.model, self.criterion = (
            task.build_model(cfg.model), task.build_criterion(cfg.criterion)
        )  # fmt: skip
        task.load_dataset("train")
        self.data = task.dataset("train")
        self.trainer = Trainer(cfg, task, self.model, self.criterion)

    def batches(self):
        place = 0
        for size in SIZES:
            yield self.data.collater([self.data[place + k] for k in range(size)])
            place += size

    def run(self, freq=1):
        batches = list(self.batches())
        for start in range(0, len(batches), freq):
            self.trainer.train_step(batches[start : start + freq])
        return self

    @property
    def weights(self):
        return {name: one.detach().clone() for name, one in self.model.named_parameters()}

    @property
    def queue(self):
        return (self.criterion.training_state() or {}).get("queue")


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", [
    ["--optimizer", "sgd", "--lr", 0.1],
    ["--optimizer", "adam", "--adam-eps", 1e-3],
    ["--optimizer", "fused_adamw", "--adam-eps", 1e-3],
], ids=["sgd", "adam", "fused_adamw"])  # fmt: skip
@pytest.mark.parametrize("clip", [0, 0.5])
def test_steps_are_those_of_float32(tiny, tmp_path, optimizer, clip):
    flags = [*optimizer, "--clip-norm", clip]
    plain = Trained(tiny, tmp_path / "plain", *flags).run()
    amp = Trained(tiny, tmp_path / "amp", *flags, "--amp").run()
    assert amp.trainer.optimizer.scaler.get_scale() == 128
    assert_same(amp.weights, plain.weights)


def test_the_scale_grows_after_the_window_that_was_asked_for(tiny, tmp_path):
    amp = Trained(tiny, tmp_path / "amp", "--amp", "--amp-scale-window", 2).run()
    assert amp.trainer.optimizer.scaler.get_scale() == 128 * 2 ** (len(SIZES) // 2)


class Overflow:
    """Gradients become infinite in the tries that are named, counted from 0."""

    def __init__(self, trained, tries):
        self.number = -1
        original = trained.criterion.forward

        def forward(model, sample, reduce=True):
            self.number += 1
            loss, *rest = original(model, sample, reduce)
            if self.number in tries:
                loss = loss * torch.inf
            return loss, *rest

        trained.criterion.forward = forward


@pytest.mark.parametrize("name", QUEUES)
@pytest.mark.parametrize("tries", [{0}, {1, 2, 5}], ids=str)
def test_a_batch_that_runs_again_queues_its_keys_once(tiny, tmp_path, name, tries):
    criterion, flags = QUEUES[name]
    without = Trained(tiny, tmp_path / "without", *flags, "--amp", criterion=criterion).run()
    # fairseq counts the tries of all batches together.
    flags = [*flags, "--amp-batch-retries", len(tries)]
    again = Trained(tiny, tmp_path / "again", *flags, "--amp", criterion=criterion)
    overflow = Overflow(again, tries)
    again.run()
    assert overflow.number + 1 == len(SIZES) + len(tries)
    assert again.trainer.get_num_updates() == len(SIZES)
    assert_same(again.weights, without.weights)
    assert again.queue["filled"] == without.queue["filled"] == 20
    assert again.queue["next"] == without.queue["next"]
    assert_same(*({key: one.queue[key] for key in ("rows", "labels")} for one in (again, without)))


def test_so_do_micro_batches(tiny, tmp_path):
    """The second one is contrasted with the first one's keys, in each try with the same."""
    criterion, flags = LABELLED
    runs_of = []
    for folder, tries in (("without", set()), ("again", {1, 4})):
        trained = Trained(tiny, tmp_path / folder, *flags, "--amp", criterion=criterion)
        Overflow(trained, tries)
        runs_of.append(trained.run(freq=2))
    without, again = runs_of
    assert again.trainer.get_num_updates() == len(SIZES) // 2
    assert_same(again.weights, without.weights)
    assert torch.equal(again.queue["rows"], without.queue["rows"])


def test_a_batch_that_is_given_up_leaves_no_keys(tiny, tmp_path):
    """After so many tries fairseq goes on to the next batch."""
    flags = ["--scl-queue-size", 64, "--amp", "--amp-batch-retries", 1]
    trained = Trained(tiny, tmp_path, *flags)
    Overflow(trained, {0, 1})
    trained.run()
    assert trained.trainer.get_num_updates() == len(SIZES) - 1
    assert trained.queue["filled"] == sum(SIZES[1:])


def test_an_overflow_of_fp16_leaves_no_keys(tiny, tmp_path, monkeypatch):
    """Its trainer skips the batch."""
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self, *a, **k: self)  # of a norm of 0
    flags = ["--scl-queue-size", 64, "--memory-efficient-fp16"]
    trained = Trained(tiny, tmp_path, *flags)
    Overflow(trained, {1})
    trained.run()
    assert trained.trainer.get_num_updates() == len(SIZES) - 1
    assert trained.queue["filled"] == sum(SIZES) - SIZES[1]


def test_keys_that_are_not_finite_are_not_queued(tiny, tmp_path):
    """A momentum copy may overflow where the model does not."""
    flags = ["--scl-queue-size", 20, "--scl-momentum", 0.5]
    trained = Trained(tiny, tmp_path, *flags)
    read_keys, calls = trained.criterion._reader.read_keys, []

    def overflowing(model, net_input):
        keys = read_keys(model, net_input)
        calls.append(len(keys))
        if len(calls) in (1, 4):
            keys[0] = torch.inf
            keys[-1, 2] = torch.nan
        return keys

    trained.criterion._reader.read_keys = overflowing
    trained.run()
    assert calls == SIZES
    assert trained.queue["rows"].isfinite().all()
    assert all(one.isfinite().all() for one in trained.weights.values())


def test_stock_criterions_and_others_are_let_through(tiny, tmp_path):
    """They have nothing to settle."""
    plain = Trained(tiny, tmp_path / "plain", criterion="sentence_prediction").run()
    amp = Trained(tiny, tmp_path / "amp", "--amp", criterion="sentence_prediction").run()
    assert_same(amp.weights, plain.weights)


def test_optimizers_of_other_scalers_are_unscaled_as_they_are():
    """What is none of fairseq's wrapper stays itself."""
    from fairseq.optim.amp_optimizer import AMPOptimizer

    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizers = [torch.optim.SGD([weight], lr=1.0) for weight in weights]
    common = SimpleNamespace(fp16_init_scale=8, amp_scale_window=None, min_loss_scale=1e-4)
    cfg = SimpleNamespace(optimizer=None, common=common)
    wrapper = SimpleNamespace(optimizer=optimizers[0], param_groups=optimizers[0].param_groups)
    amp = AMPOptimizer(cfg, weights[:1], wrapper)
    for weight in weights:
        amp.scaler.scale(weight.sum()).backward()
    amp.scaler.unscale_(optimizers[1])
    assert weights[1].grad.tolist() == [1, 1]
    assert weights[0].grad.tolist() == [8, 8]
    amp.scaler.unscale_(optimizers[0])
    assert weights[0].grad.tolist() == [1, 1]
