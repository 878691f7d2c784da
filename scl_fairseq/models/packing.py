"""Where the tokens of a padded batch lie when there is no padding between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

# What it costs to attend in one more group of sentences, in scores of a head. Measured on a CPU.
GROUP_COST = 2500


@dataclass(frozen=True)
class Group:
    """Sentences of similar length that lie next to one another and attend together.

    In memory the first tokens of all sentences come first, then the second ones, and so on, so that
    (length, size · heads, head_dim) is a view where all sentences are equally long.

    Attributes:
        rows: tokens of the group among all packed ones.
        sentences: the group's among all, in the order of packing.
        length: tokens of the longest.
        size: number of sentences.
        places: (rows,), where each token lies in (length · size); None where they fill it.
        is_padding: (size, length), likewise.
    """

    rows: slice
    sentences: slice
    length: int
    size: int
    places: Tensor | None
    is_padding: Tensor | None


@dataclass(frozen=True)
class Packing:
    """The tokens of a batch of sentences, (B, T), without padding.

    Attributes:
        shape: (B, T).
        index: (total,), of each packed token in (B · T).
        positions: (total,), of each packed token in its sentence, from 0.
        first: (B,), the packed tokens that are first ones, in the order of packing.
        ranks: (B,), of each sentence of the batch its place in the order of packing.
        groups: sentences that attend together; none where ``offsets`` says which tokens do.
        offsets: (B + 1,), int32 as kernels want it, where sentences begin and end, which are packed
            one after another in the batch's order; None where ``groups`` says so.
        longest: tokens of the longest sentence.
        first_offsets: (B + 1,), likewise of the first tokens alone.
    """

    shape: tuple[int, int]
    index: Tensor
    positions: Tensor
    first: Tensor
    ranks: Tensor
    groups: tuple[Group, ...]
    offsets: Tensor | None
    longest: int
    first_offsets: Tensor | None = None

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T, …) to (total, …)."""
        return padded.flatten(0, 1).index_select(0, self.index)

    def pad(self, packed: Tensor) -> Tensor:
        """(total, C) to (B, T, C), zeros between."""
        batch, longest = self.shape
        empty = packed.new_zeros(batch * longest, packed.size(1))
        return empty.index_copy(0, self.index, packed).view(batch, longest, -1)


def find_packing(is_token: Tensor, in_groups: bool) -> Packing | None:
    """How to pack a batch.

    Args:
        is_token: (B, T), bool: no padding.
        in_groups: pack sentences in groups of similar length, for attention by matrix products;
            otherwise one after another, for kernels that take sentences of any length.

    Returns:
        None where padding is not at the ends of sentences alone, or a sentence has no token: such a
        batch has to be computed as it is.
    """
    batch, longest = is_token.shape
    steps = torch.arange(longest, device=is_token.device)
    lengths = is_token.sum(dim=1)
    is_ragged = (is_token != (steps < lengths[:, None])).any()
    *counts, ragged = torch.cat([lengths, is_ragged.view(1)]).tolist()  # one wait for a GPU
    if ragged or not batch or min(counts) == 0:
        return None
    if in_groups:
        return _in_groups(np.array(counts), longest, is_token.device)
    # All sizes are known: nothing below waits once more.
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    numbers = torch.arange(batch + 1, device=is_token.device)
    ranks, first = numbers[:-1], offsets[:-1]
    sentences = ranks.repeat_interleave(lengths, output_size=sum(counts))
    tokens = torch.arange(len(sentences), device=is_token.device)
    positions = tokens - first.index_select(0, sentences)
    return Packing(
        (batch, longest),
        sentences * longest + positions,
        positions,
        first,
        ranks,
        (),
        offsets.to(torch.int32),
        max(counts),
        numbers.to(torch.int32),
    )


_KNOWN: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def packing_of(
    tokens: Tensor,
    padding_idx: int,
    in_groups: bool,
    find: Callable[[Tensor, bool], Packing | None] = find_packing,
) -> Packing | None:
    """``find_packing`` of a batch, which is found once though several passes read it.

    Those are a momentum copy's, and that of a chunk in backward.

    Args:
        tokens: (B, T).
        padding_idx: index of ``<pad>``.
        in_groups: see ``find_packing``.
        find: what finds it.
    """
    if tokens.is_inference():  # who changes it leaves no trace
        return find(tokens.ne(padding_idx), in_groups)
    about = padding_idx, in_groups, tokens._version
    known = _KNOWN.get(tokens)
    if known is None or known[0] != about:
        known = _KNOWN[tokens] = about, find(tokens.ne(padding_idx), in_groups)
    return known[1]


def forget_packings() -> None:
    """Find the packing of every batch anew, as its next update begins."""
    _KNOWN.clear()


def _in_groups(lengths: np.ndarray, longest: int, device: torch.device) -> Packing:
    order = np.argsort(-lengths, kind="stable")
    groups, indices, positions, first = [], [], [], []
    row = start = 0
    for stop in _cuts(lengths[order]):
        chosen = order[start:stop]
        size, length = len(chosen), int(lengths[chosen[0]])
        is_token = np.arange(length)[:, None] < lengths[chosen]  # (length, size)
        places = np.flatnonzero(is_token)
        step, sentence = np.divmod(places, size)
        indices.append(chosen[sentence] * longest + step)
        positions.append(step)
        first.append(row + np.arange(size))
        is_full = len(places) == is_token.size
        group = Group(
            slice(row, row + len(places)),
            slice(start, stop),
            length,
            size,
            None if is_full else torch.from_numpy(places).to(device),
            None if is_full else torch.from_numpy(~is_token.T).to(device),
        )
        groups.append(group)
        row, start = row + len(places), stop
    numbers = (np.concatenate(indices), np.concatenate(positions), np.concatenate(first))
    return Packing(
        (len(lengths), longest),
        *(torch.from_numpy(one).to(device) for one in (*numbers, np.argsort(order))),
        tuple(groups),
        None,
        int(lengths.max()),
    )


def _cuts(lengths: np.ndarray) -> Iterator[int]:
    """Where groups of descending lengths end, so that padding and groups cost least together."""
    distinct, counts = np.unique(-lengths, return_counts=True)
    scores = distinct.astype(np.float64) ** 2  # of a sentence, padded to this length
    ends = np.concatenate([[0], counts.cumsum()])
    # least[j]: cost of the sentences of the j longest lengths; a last group begins at previous[j]
    least = np.zeros(len(counts) + 1)
    previous = np.zeros(len(counts) + 1, np.int64)
    for j in range(1, len(counts) + 1):
        costs = least[:j] + GROUP_COST + (ends[j] - ends[:j]) * scores[:j]
        previous[j] = costs.argmin()
        least[j] = costs[previous[j]]
    cuts, j = [], len(counts)
    while j:
        cuts.append(int(ends[j]))
        j = previous[j]
    return reversed(cuts)
