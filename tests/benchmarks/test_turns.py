"""Contenders in processes of their own: whose turn it is, what is kept, what a failure says."""

import pytest
import torch

from benchmarks import contrast_losses, turns
from benchmarks.pipelines import Failed

# Prints which of all runs this was, as a number that the medians are taken of.
COUNTER = """
import json, sys
name, log = sys.argv[1:]
with open(log, "a+") as file:
    file.write(name)
    file.seek(0)
    print("something else")
    print(json.dumps({"turn": len(file.read())}))
"""


@pytest.fixture
def counter(tmp_path, monkeypatch):
    (tmp_path / "counter.py").write_text(COUNTER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda name: ["counter", name, tmp_path / "log"]


def test_each_turn_begins_with_another(counter, tmp_path):
    found = turns.medians({name: counter(name) for name in "abc"}, 3)
    assert (tmp_path / "log").read_text() == "abcbcacab"
    assert found == {"a": {"turn": 6}, "b": {"turn": 4}, "c": {"turn": 5}}


def test_a_failure_is_told_with_what_was_said():
    with pytest.raises(Failed, match=r"(?s)nobody failed.*No module named no_such"):
        turns.medians({"nobody": ["no_such"]}, 1)


def test_all_losses_are_one_function():
    """What is timed against each other computes the same."""
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(600, 12, generator=generator)
    labels = torch.randint(5, (600,), generator=generator)

    def gradient(name):
        leaf = embeddings.clone().requires_grad_()
        contrast_losses.PEERS[name]()(leaf, labels).backward()
        return leaf.grad

    expected = gradient("plain N × N")
    for name in contrast_losses.PEERS:
        torch.testing.assert_close(gradient(name), expected, rtol=1e-3, atol=1e-8)
