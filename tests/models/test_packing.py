"""Packing is a permutation of the tokens, and its groups hold whole sentences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq.models import packing
from scl_fairseq.models.packing import find_packing
from tests.waits import waits

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def tokens_of(lengths, spare=0):
    """(B, T), True where there is a token."""
    longest = max(lengths) + spare
    return torch.arange(longest) < torch.tensor(lengths)[:, None]


@settings(deadline=None)
@given(LENGTHS, st.integers(0, 3), st.booleans())
def test_every_token_is_packed_once_with_its_position(lengths, spare, in_groups):
    is_token = tokens_of(lengths, spare)
    found = find_packing(is_token, in_groups)
    assert sorted(found.index.tolist()) == is_token.flatten().nonzero().squeeze(1).tolist()
    assert found.positions.tolist() == [index % is_token.size(1) for index in found.index.tolist()]
    assert found.longest == max(lengths)

    values = torch.randn(*is_token.shape, 3)
    packed = found.pack(values)
    assert torch.equal(found.pad(packed), values * is_token[..., None])
    assert torch.equal(packed.index_select(0, found.first)[found.ranks], values[:, 0])


@settings(deadline=None)
@given(LENGTHS)
def test_groups_hold_whole_sentences_step_by_step(lengths):
    found = find_packing(tokens_of(lengths), in_groups=True)
    longest = max(lengths)
    sentences = found.index // longest
    row = sentence = 0
    for group in found.groups:
        assert (group.rows.start, group.sentences.start) == (row, sentence)
        row, sentence = group.rows.stop, group.sentences.stop
        chosen = sentences[found.first[group.sentences]].tolist()
        assert len(chosen) == group.size
        assert group.length == max(lengths[one] for one in chosen)
        expected = [
            (one, step) for step in range(group.length) for one in chosen if step < lengths[one]
        ]
        index = found.index[group.rows].tolist()
        assert index == [one * longest + step for one, step in expected]
        if group.places is None:
            assert {lengths[one] for one in chosen} == {group.length}
            assert group.is_padding is None
            continue
        places = [step * group.size + chosen.index(one) for one, step in expected]
        assert group.places.tolist() == places
        steps = torch.arange(group.length)
        is_padding = steps >= torch.tensor([lengths[one] for one in chosen])[:, None]
        assert torch.equal(group.is_padding, is_padding)
    assert (row, sentence) == (sum(lengths), len(lengths))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=9))
def test_groups_are_the_cheapest(lengths):
    """Against every way to cut the sorted lengths."""
    ordered = sorted(lengths, reverse=True)

    def cost(cuts):
        starts = [0, *cuts[:-1]]
        parts = [ordered[a:b] for a, b in zip(starts, cuts, strict=True)]
        return sum(packing.GROUP_COST + len(part) * part[0] ** 2 for part in parts)

    def ways(done):
        if done == len(ordered):
            yield []
        for stop in range(done + 1, len(ordered) + 1):
            yield from ([stop, *rest] for rest in ways(stop))

    least = min(cost(way) for way in ways(0))
    assert cost(list(packing._cuts(np.array(ordered)))) == pytest.approx(least)


@pytest.mark.parametrize("in_groups", [True, False])
def test_one_after_another_or_in_groups(in_groups):
    found = find_packing(tokens_of([3, 1, 2]), in_groups)
    if in_groups:
        assert found.offsets is None
        assert found.groups
    else:
        assert found.offsets.tolist() == [0, 3, 4, 6]
        assert found.index.tolist() == [0, 1, 2, 3, 6, 7]
        assert not found.groups


@pytest.mark.parametrize("in_groups", [True, False])
@pytest.mark.parametrize(
    "is_token",
    [
        [[False, True, True]],  # padding before
        [[True, True, True], [True, False, True]],  # and between
        [[True, True], [False, False]],  # a sentence without tokens
    ],
)
def test_other_padding_is_not_packed(is_token, in_groups):
    assert find_packing(torch.tensor(is_token), in_groups) is None


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing_to_pack(shape):
    assert find_packing(torch.ones(shape, dtype=torch.bool), in_groups=True) is None


def test_one_wait_for_a_gpu():
    """Sizes are asked for once; after that nothing is."""
    is_token = tokens_of([3, 1, 2], spare=2)
    with waits() as places:
        found = find_packing(is_token, in_groups=False)
    assert len(places) == 1
    assert found.index.tolist() == [0, 1, 2, 5, 10, 11]
    assert found.offsets.dtype == found.first_offsets.dtype == torch.int32
    assert found.first_offsets.tolist() == [0, 1, 2, 3]


@pytest.mark.gpu
def test_one_wait_on_a_gpu():
    is_token = tokens_of([3, 1, 2], spare=2).cuda()
    with waits("cuda") as places:
        find_packing(is_token, in_groups=False)
    assert len(places) == 1


def test_a_batch_is_looked_at_once():
    tokens = tokens_of([3, 1, 2]).long().add_(4).masked_fill_(~tokens_of([3, 1, 2]), 1)
    found = packing.packing_of(tokens, 1, in_groups=False)
    with waits() as places:
        assert packing.packing_of(tokens, 1, in_groups=False) is found
    assert not places
    assert packing.packing_of(tokens.clone(), 1, in_groups=False) is not found
    assert packing.packing_of(tokens, 1, in_groups=True) is not found
    tokens[0, 2] = 1
    assert packing.packing_of(tokens, 1, in_groups=True).index.tolist() == [0, 6, 3, 1, 7]
    packing.forget_packings()
    with torch.inference_mode():
        inferred = tokens.clone()
        assert packing.packing_of(inferred, 1, in_groups=False).offsets.tolist() == [0, 2, 3, 5]
        inferred[0, 1] = 1
        assert packing.packing_of(inferred, 1, in_groups=False).offsets.tolist() == [0, 1, 2, 4]
