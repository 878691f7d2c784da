"""The update itself, through fairseq's wrappers of an optimizer, against a loop in float64."""

from types import SimpleNamespace

import pytest
import torch
from fairseq import optim
from fairseq.optim.adam import FairseqAdamConfig
from omegaconf import OmegaConf

from scl_fairseq.optim import float32_adamw
from scl_fairseq.optim.options import FusedAdamWConfig

LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.98), 1e-6, 0.1
UPDATES = 100
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SHAPES = [(40, 30), (30,), (7, 3, 5), (1,)]


def settings(dtype=torch.float16, **options):
    """The part of fairseq's configuration that its optimizers read."""
    optimizer = OmegaConf.structured(FusedAdamWConfig)
    optimizer.update({"_name": "fused_adamw", "lr": [LR], "adam_betas": str(BETAS)})
    optimizer.update({"adam_eps": EPS, "weight_decay": DECAY, **options})
    common = {"fp16_scale_window": 16, "fp16_init_scale": 128, "fp16_scale_tolerance": 0.0}
    common |= {"threshold_loss_scale": None, "min_loss_scale": 1e-4, "fp16_no_flatten_grads": True}
    common["bf16"] = dtype == torch.bfloat16
    return SimpleNamespace(optimizer=optimizer, common=SimpleNamespace(**common))


def parameters(dtype, device="cpu"):
    torch.manual_seed(1)
    sizes = [(torch.randn(shape) * 0.3).to(device, dtype) for shape in SHAPES]
    return [torch.nn.Parameter(values) for values in sizes]


class Loop:
    """Algorithm 2 of Loshchilov and Hutter in float64; weights rounded as they are stored."""

    def __init__(self, params, stored_as=torch.float64):
        self.weights = [p.detach().double() for p in params]
        self.first = [torch.zeros_like(w) for w in self.weights]
        self.second = [torch.zeros_like(w) for w in self.weights]
        self.stored_as, self.updates = stored_as, 0

    def step(self, gradients):
        self.updates += 1
        one, two = BETAS
        for i, gradient in enumerate(gradients):
            self.first[i] = one * self.first[i] + (1 - one) * gradient
            self.second[i] = two * self.second[i] + (1 - two) * gradient**2
            first = self.first[i] / (1 - one**self.updates)
            second = self.second[i] / (1 - two**self.updates)
            weights = self.weights[i]
            weights = weights - LR * first / (second.sqrt() + EPS) - LR * DECAY * weights
            self.weights[i] = weights.to(self.stored_as).double()


def train(optimizer, params, loop, size):
    """Random gradients of about ``size`` at every update, scaled as the wrapper has it."""
    scaler = getattr(optimizer, "scaler", None)
    for _ in range(UPDATES):
        optimizer.zero_grad()
        factor = scaler.loss_scale if scaler else 1.0
        gradients = [torch.randn(p.shape).to(p) * size for p in params]
        optimizer.backward(sum((p * g).sum() for p, g in zip(params, gradients, strict=True)))
        wanted = [p.grad.double() / factor / 8 for p in params]
        optimizer.multiply_grads(1 / 8)  # as the trainer, for a batch of 8
        optimizer.clip_grad_norm(0.0)
        optimizer.step()
        loop.step(wanted)


def ulps(parameter, wanted):
    """How many units in the last place of ``wanted`` a parameter is off at most."""
    digits, smallest = {torch.float16: (10, -14), torch.bfloat16: (7, -126)}[parameter.dtype]
    exponents = torch.floor(torch.log2(wanted.abs().clamp_min(2.0**smallest)))
    return ((parameter.double() - wanted).abs() / 2.0 ** (exponents - digits)).max().item()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1e-5, 1e-2])
def test_float32(device, size):
    params = parameters(torch.float32, device)
    optimizer = optim.build_optimizer(settings().optimizer, params)
    loop = Loop(params)
    train(optimizer, params, loop, size)
    for parameter, wanted in zip(params, loop.weights, strict=True):
        assert torch.allclose(parameter.double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-4, 1e-2])
def test_memory_efficient(device, dtype, size):
    params = parameters(dtype, device)
    optimizer = optim.MemoryEfficientFP16Optimizer.build_optimizer(settings(dtype), params)
    loop = Loop(params, stored_as=dtype)
    train(optimizer, params, loop, size)
    for parameter, wanted in zip(params, loop.weights, strict=True):
        assert ulps(parameter, wanted) <= 2
        assert optimizer.optimizer.state[parameter]["exp_avg_sq"].dtype == torch.float32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_with_float32_copies(device, dtype):
    params = parameters(dtype, device)
    optimizer = optim.FP16Optimizer.build_optimizer(settings(dtype), params)
    loop = Loop(params)  # nothing is rounded but what the model sees
    train(optimizer, params, loop, 1e-4)
    for parameter, wanted in zip(params, loop.weights, strict=True):
        assert ulps(parameter, wanted) <= 1


def test_moments_in_half_precision_would_be_seen():
    params = parameters(torch.float16)
    optimizer = torch.optim.AdamW(params, LR, BETAS, EPS, DECAY, fused=True)
    loop = Loop(params, stored_as=torch.float16)
    for _ in range(UPDATES):
        for parameter in params:
            parameter.grad = torch.randn(parameter.shape).to(parameter) * 1e-4
        optimizer.step()
        loop.step([p.grad.double() for p in params])
    assert ulps(params[0], loop.weights[0]) > 100


def test_clipping():
    params = parameters(torch.float16)
    optimizer = optim.MemoryEfficientFP16Optimizer.build_optimizer(settings(), params)
    loop = Loop(params, stored_as=torch.float16)
    for parameter in params:
        parameter.grad = torch.randn(parameter.shape).to(parameter) * 100
    wanted = [p.grad.double() / 8 for p in params]
    norm = torch.cat([g.flatten() for g in wanted]).norm()
    optimizer.multiply_grads(1 / 8)
    optimizer.clip_grad_norm(1e-5)
    optimizer.step()
    loop.step([g / norm * 1e-5 for g in wanted])  # so small that eps is felt
    for parameter, expected in zip(params, loop.weights, strict=True):
        assert ulps(parameter, expected) <= 1


def test_gradients_that_lie_otherwise_in_memory():
    (one,), (other,) = parameters(torch.float32)[:1], parameters(torch.float32)[:1]
    gradient = torch.randn(30, 40).t()
    for parameter, grad in ((one, gradient), (other, gradient.contiguous())):
        parameter.grad = grad
        optim.build_optimizer(settings().optimizer, [parameter]).step()
    assert torch.equal(one, other)


def test_a_parameter_without_a_gradient_stays():
    params = parameters(torch.float32)
    before = params[1].clone()
    params[0].grad = torch.ones_like(params[0])
    optimizer = optim.build_optimizer(settings().optimizer, params)
    optimizer.step()
    assert torch.equal(params[1], before)
    assert params[1] not in optimizer.optimizer.state


def test_large_halves_are_updated_in_parts(monkeypatch):
    results = []
    for largest in (1, 1000, 2**24):
        monkeypatch.setattr(float32_adamw, "LARGEST_PART", largest)
        params = parameters(torch.float16)
        optimizer = optim.MemoryEfficientFP16Optimizer.build_optimizer(settings(), params)
        train(optimizer, params, Loop(params), 1e-3)
        results.append(torch.cat([p.detach().flatten() for p in params]))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_moments_of_fairseqs_adam_are_taken_up():
    """With --memory-efficient-fp16, fairseq takes the two optimizers for one."""
    params = parameters(torch.float16)
    cfg = settings()
    cfg.optimizer = OmegaConf.structured(FairseqAdamConfig)
    cfg.optimizer.update({"_name": "adam", "lr": [LR], "tpu": False, "adam_betas": str(BETAS)})
    before = optim.MemoryEfficientFP16Optimizer.build_optimizer(cfg, params)
    train(before, params, Loop(params), 1e-3)
    after = optim.MemoryEfficientFP16Optimizer.build_optimizer(settings(), params)
    after.load_state_dict(before.state_dict())
    for parameter in params:
        one, other = before.optimizer.state[parameter], after.optimizer.state[parameter]
        assert other["step"] == one["step"] == UPDATES
        assert torch.equal(other["exp_avg"], one["exp_avg"])
        assert torch.equal(other["exp_avg_sq"], one["exp_avg_sq"])
        assert other["exp_avg"].dtype == torch.float32
    assert after.get_lr() == before.get_lr()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda params: params[:3], "trained 4 parameters, and this training has 3"),
        (lambda params: [params[0].t().contiguous(), *params[1:]], r"shape \(40, 30\) where"),
    ],
)
def test_moments_of_other_parameters_are_refused(other, message):
    params = parameters(torch.float32)
    before = optim.build_optimizer(settings().optimizer, params)
    train(before, params, Loop(params), 1e-3)
    changed = [torch.nn.Parameter(p.detach()) for p in other(params)]
    after = optim.build_optimizer(settings().optimizer, changed)
    with pytest.raises(ValueError, match=message):
        after.load_state_dict(before.state_dict())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("adam_betas", "x"),
        ("adam_betas", "(0.9,)"),
        ("adam_betas", "(0.9,1.0)"),
        ("adam_betas", "0.9"),
        ("adam_eps", 0.0),
        ("adam_eps", float("nan")),
        ("weight_decay", -0.1),
        ("head_lr_scale", 0.0),
        ("head_lr_scale", float("inf")),
        ("layer_lr_decay", 0.0),
        ("layer_lr_decay", 1.1),
    ],
)
def test_bad_values(option, value):
    name = option.replace("_", "-")
    with pytest.raises(ValueError, match=f"--{name} .+: expected "):
        optim.build_optimizer(settings(**{option: value}).optimizer, parameters(torch.float32))
