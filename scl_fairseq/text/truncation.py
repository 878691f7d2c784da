"""What to do with examples that have more tokens than the model has positions."""

from __future__ import annotations

from collections.abc import Sequence


def positions(lengths: Sequence[int], separator: bool) -> int:
    """Positions that an example takes: ``<s> A </s>``, and ``[</s>] B </s>`` for a pair.

    Args:
        lengths: tokens of each text, ``</s>`` counted.
        separator: whether training puts a separator before the second text.
    """
    return 1 + sum(lengths) + (len(lengths) - 1) * separator


def shortened(texts: Sequence[bytes], excess: int, itemsize: int) -> list[bytes]:
    """Cut ``excess`` tokens off the ends, always from the longer text; ``</s>`` stays.

    Args:
        texts: token indices of each text, ``</s>`` last.
        excess: how many tokens to remove.
        itemsize: bytes of an index.
    """
    lengths = [len(text) // itemsize for text in texts]
    for _ in range(excess):
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        lengths[longest] -= 1
    return [
        text[: (length - 1) * itemsize] + text[-itemsize:]
        for text, length in zip(texts, lengths, strict=True)
    ]
