"""Random draws that are the same on every machine, Python and NumPy version.

Of Python's ``random`` only ``Random(int).random()`` is documented to keep its sequence, and NumPy
keeps none; everything here is derived from that one function.
"""

from __future__ import annotations

import hashlib
import random


class StableRandom:
    """A generator named by what it is for.

    Args:
        *key: anything printable, e.g. a seed, a task, a purpose. Different keys give independent
            sequences, so that drawing more of one thing does not change another.
    """

    def __init__(self, *key: object):
        digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big"))

    def uniform(self) -> float:
        """A number from 0 to below 1."""
        return self._random.random()

    def below(self, bound: int) -> int:
        """An integer from 0 to ``bound`` - 1."""
        return int(self.uniform() * bound)

    def sample(self, bound: int, count: int) -> list[int]:
        """``count`` different integers below ``bound``, in random order.

        The beginning of a shuffle (Fisher and Yates), with memory for ``count`` numbers only.
        """
        moved: dict[int, int] = {}
        result = []
        for place in range(count):
            other = place + self.below(bound - place)
            result.append(moved.get(other, other))
            moved[other] = moved.get(place, place)
        return result
