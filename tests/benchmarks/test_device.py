"""What benchmarks on a GPU must not do: time the first calls, or write over a CPU's results."""

import sys
import types

import pytest
import torch

from benchmarks import contrast_losses, device, packed_contenders, turns


def test_results_of_a_gpu_have_files_of_their_own():
    assert device.result_file("packed", "cpu").name == "packed.md"
    assert device.result_file("packed", "cuda").name == "packed-cuda.md"
    assert device.result_file("contrast", "cuda:1", "-float32").name == "contrast-cuda-float32.md"
    assert device.result_file("contrast", "cpu", "-float32").name == "contrast.md"


def test_the_warm_up_is_not_counted(monkeypatch):
    calls = []
    times = iter(range(100))
    monkeypatch.setattr(device, "seconds", lambda function, where: function() or next(times))
    assert device.median_seconds(lambda: calls.append(1), "cuda", 5) == 2
    assert len(calls) == device.WARM_UP["cuda"] + 5
    assert device.WARM_UP["cuda"] >= 3


def test_the_rate_is_that_of_random_numbers(monkeypatch):
    seen = []
    monkeypatch.setattr(
        torch, "mm", lambda left, right, out: seen.append(left.flatten().unique().numel())
    )
    device.matrix_rate.cache_clear()
    assert device.matrix_rate("cpu", torch.float32, 32) > 0
    device.matrix_rate.cache_clear()
    assert len(seen) == 11
    assert min(seen) > 1000


def test_on_a_gpu_contenders_share_this_process(monkeypatch):
    module = types.ModuleType("counted")
    module.measured = lambda *given: {"seconds": len(given)}
    monkeypatch.setitem(sys.modules, "counted", module)
    monkeypatch.setattr(turns, "_apart", None)
    monkeypatch.setattr(turns, "clear", lambda where: None)
    found = turns.medians({"one": ["counted", "a"], "two": ["counted", 1, 2]}, 2, "", "cuda")
    assert found == {"one": {"seconds": 1}, "two": {"seconds": 2}}


def test_on_a_gpu_every_batch_warms_up_before_it_counts(monkeypatch):
    """A batch has a shape of its own, for which memory is taken and kernels are chosen."""
    monkeypatch.setattr(packed_contenders, "WARM_UP", {"cpu": 3})
    monkeypatch.setattr(packed_contenders, "DEVICE", "cpu")
    updates = []
    model = torch.nn.Linear(2, 2)

    def loss(tokens, labels):
        updates.append(len(tokens))
        return model(tokens).sum()

    contender = packed_contenders.Contender(model, loss, model, ["evaluation", "update"])
    batches = [(torch.ones(size, 2), None) for size in (4, 5)]
    found = contender.medians(batches, 2)
    assert updates == [4, 5] * 4  # twice to warm up, then two that count
    assert found.keys() == {"evaluation", "update"}
    assert min(found.values()) > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_plain_product_is_of_the_type_that_is_asked_for(monkeypatch, dtype):
    seen = []
    monkeypatch.setattr(torch, "mm", lambda left, right, out: seen.append(left.dtype))
    assert contrast_losses.product(64, 8, "cpu", dtype)["seconds"] > 0
    assert set(seen) == {getattr(torch, dtype)}
