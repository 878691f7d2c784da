"""Linear layers, whichever way is taken."""

import pytest
import torch

from scl_fairseq.inference.linear import linear


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_module(dtype):
    torch.manual_seed(0)
    for bias in (True, False):
        module = torch.nn.Linear(7, 5, bias=bias).to(dtype)
        x = torch.randn(3, 4, 7, dtype=dtype)
        expected = x @ module.weight.T
        expected = expected + module.bias if bias else expected
        torch.testing.assert_close(linear(module, x), expected)


@torch.no_grad()
def test_hooks_and_other_modules_are_run():
    module, x = torch.nn.Linear(7, 5), torch.ones(2, 7)
    hook = module.register_forward_hook(lambda module, args, output: output + 1)
    torch.testing.assert_close(linear(module, x), module(x))
    hook.remove()
    torch.nn.utils.spectral_norm(module)
    module.eval()
    module.weight_orig *= 3  # the hook takes the norm's share of it
    torch.testing.assert_close(linear(module, x), module(x))
    doubled = torch.nn.Sequential(module, module.__class__(5, 5))
    torch.testing.assert_close(linear(doubled, x), doubled(x))
