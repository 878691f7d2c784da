"""Sampling by inversion: the distribution is the model's, and each sentence has its own numbers."""

import bisect
import itertools
import math
import random

import pytest
import torch
from fairseq.data import Dictionary

from scl_fairseq.data.keyed_sampling import KeyedSampling, invert

PAD, EOS, UNK = 1, 2, 3


def log(*rows):
    return torch.tensor([[math.log(p) if p else -math.inf for p in row] for row in rows])


def test_inversion_is_the_cumulative_distribution():
    row = [0.0, 0.1, 0.2, 0.3, 0.25, 0.0, 0.15]
    numbers = [(i + 0.5) / 1000 for i in range(1000)]  # not on a bound
    kept = [0.0 if i in (PAD, UNK) else p for i, p in enumerate(row)]
    bounds = list(itertools.accumulate(kept))
    expected = [bisect.bisect_right(bounds, number * bounds[-1]) for number in numbers]
    found = invert(
        log(*[row] * len(numbers)), torch.tensor(numbers, dtype=torch.float64), (PAD, UNK), EOS
    )
    assert found.tolist() == expected
    assert {*expected} == {2, 4, 6}  # neither those left out nor those of probability 0


def test_the_largest_number_meets_a_token_that_can_be():
    below_one = math.nextafter(1.0, 0.0)
    rows = log([0.3] + [0.1] * 7 + [0.0, 0.0])
    found = invert(rows, torch.tensor([below_one], dtype=torch.float64), (), EOS)
    assert found.item() == 7


def test_where_nothing_is_left_the_sentence_ends():
    found = invert(log([0.0, 0.5, 0.0, 0.5]), torch.tensor([0.7]).double(), (PAD, UNK), EOS)
    assert found.item() == EOS


def step(search, at, rows, ids, scores=None):
    scores = torch.zeros(len(rows), 1, at) if scores is None else scores
    return search.step(at, log(*rows).unsqueeze(1), scores, None, torch.tensor(ids))


@pytest.fixture
def dictionary():
    found = Dictionary()
    for word in "abc":
        found.add_symbol(word)
    return found


def test_shares_are_the_probabilities(dictionary):
    draws = [random.Random(1).random]
    search = KeyedSampling(dictionary, draws, [10])
    row = [0.0, 0.0, 0.2, 0.0, 0.5, 0.2, 0.1]
    tokens = [step(search, 0, [row], [0])[1].item() for _ in range(4000)]
    for token, share in enumerate(row):
        assert tokens.count(token) / 4000 == pytest.approx(share, abs=0.03)


def test_each_sentence_has_its_own_numbers_wherever_it_stands(dictionary):
    row = [0.0, 0.0, 0.1, 0.0, 0.3, 0.3, 0.3]

    def drawn(orders):
        draws = [random.Random(seed).random for seed in range(3)]
        search = KeyedSampling(dictionary, draws, [10, 10, 10])
        found = {}
        for at, ids in enumerate(orders):
            _, tokens, _ = step(search, at, [row] * len(ids), ids)
            for index, token in zip(ids, tokens[:, 0].tolist(), strict=True):
                found.setdefault(index, []).append(token)
        return found

    together = drawn([[0, 1, 2]] * 6)
    turned = drawn([[2, 0, 1], [1, 2, 0]] * 3)
    assert together == turned
    assert drawn([[1]] * 6)[1] == together[1]
    assert together[0] != together[1]


def test_scores_add_up_and_a_limit_ends(dictionary):
    search = KeyedSampling(dictionary, [lambda: 0.0, lambda: 0.0], [1, 5])
    rows = [[0.0, 0.0, 0.0, 0.0, 0.5, 0.25, 0.25]] * 2
    scores = torch.full((2, 1, 1), -1.0)
    found, tokens, beams = step(search, 1, rows, [0, 1], scores)
    assert tokens.tolist() == [[EOS], [4]]
    assert found[1].item() == pytest.approx(-1 + math.log(0.5))
    # The generator ends a sentence at a </s> of a probability above 0 alone.
    assert math.isfinite(found[0].item())
    assert beams.tolist() == [[0], [0]]
