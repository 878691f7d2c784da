"""Masks for masked language modelling, over words alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MASKED, RANDOM = 0.8, 0.1  # what becomes of chosen tokens (Devlin et al., 1810.04805); 0.1 stay


@dataclass(frozen=True)
class Masking:
    """How the tokens of a sentence are masked.

    Attributes:
        rate: share of the maskable tokens that are chosen, from 0 to 1.
        mask: index of ``<mask>``.
        nothing: index that stands in the targets where no token was chosen.
        special: indices that are never chosen, ``<s>``, ``</s>`` and ``<pad>`` among them.
        words: indices that a random token is drawn from.
    """

    rate: float
    mask: int
    nothing: int
    special: np.ndarray
    words: np.ndarray

    def __call__(
        self, tokens: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask a sentence.

        ``rate`` of the maskable tokens are chosen, rounded up or down at random so that the mean is
        exact. Of those 80 % become ``<mask>``, 10 % a random word, 10 % stay.

        Args:
            tokens: (T,), a sentence's indices.
            generator: its random numbers.

        Returns:
            The masked sentence and its targets, each (T,): what stood where a token was chosen.
        """
        maskable = np.flatnonzero(~np.isin(tokens, self.special))
        count = int(self.rate * len(maskable) + generator.random())
        chosen = generator.permutation(maskable)[:count]
        fate = generator.random(count)
        masked, targets = tokens.copy(), np.full_like(tokens, self.nothing)
        targets[chosen] = tokens[chosen]
        masked[chosen[fate < MASKED]] = self.mask
        replaced = chosen[(fate >= MASKED) & (fate < MASKED + RANDOM)]
        masked[replaced] = generator.choice(self.words, len(replaced))
        return masked, targets
