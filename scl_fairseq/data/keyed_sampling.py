"""Random sampling in fairseq's generator in which every sentence has random numbers of its own.

fairseq's own ``Sampling`` draws for a whole batch from torch's generator: the same sentence in
another batch, or after an interruption, would become another text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from fairseq.search import Search
from torch import Tensor


class KeyedSampling(Search):
    """Samples from the model's whole distribution, by inversion: one number a sentence and step.

    The texts depend on batches by rounding alone: a number would have to lie within it of a bound
    between two words. ``<unk>``, which is no text, and padding are never drawn.

    Args:
        dictionary: of the target language.
        draws: gives the next number from 0 to below 1, by the sentence's id in the batch.
        limits: tokens, without ``</s>``, after which a sentence is ended, by id.
    """

    def __init__(self, dictionary, draws: Sequence[Callable[[], float]], limits: Sequence[int]):
        super().__init__(dictionary)
        self._draws = draws
        self._limits = limits

    def step(
        self,
        step: int,
        lprobs: Tensor,
        scores: Tensor,
        prev_output_tokens: Tensor | None = None,
        original_batch_idxs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the next token of every sentence.

        Args:
            step: tokens drawn so far.
            lprobs: (B, 1, V), log-probabilities; this is for a beam of one.
            scores: (B, 1, step), log-probabilities of the tokens so far, cumulative.
            prev_output_tokens: not used.
            original_batch_idxs: (B,), ids of the sentences.

        Returns:
            Cumulative log-probabilities, tokens and beams, each (B, 1).
        """
        ids = original_batch_idxs.tolist()
        numbers = torch.tensor([self._draws[i]() for i in ids], dtype=torch.float64)
        lprobs = lprobs[:, 0]
        tokens = invert(lprobs, numbers.to(lprobs.device), (self.pad, self.unk), self.eos)
        ends = torch.tensor([step >= self._limits[i] for i in ids], device=tokens.device)
        tokens = tokens.masked_fill(ends, self.eos).unsqueeze(1)
        found = lprobs.gather(1, tokens)
        # The generator takes a </s> of probability 0 for none.
        found = found.masked_fill(ends.unsqueeze(1), 0.0)
        if step > 0:
            found = found + scores[:, :, step - 1]
        return found, tokens, torch.zeros_like(tokens)


def invert(lprobs: Tensor, numbers: Tensor, never: Sequence[int], otherwise: int) -> Tensor:
    """Tokens at which the cumulative distributions pass the numbers.

    Args:
        lprobs: (B, V), log-probabilities, not necessarily of sum 1.
        numbers: (B,), float64, from 0 to below 1.
        never: tokens that are left out.
        otherwise: the token where no other has a probability above 0.

    Returns:
        (B,), int64.
    """
    probabilities = lprobs.double().exp()
    probabilities[:, list(never)] = 0
    cumulative = probabilities.cumsum(dim=1)
    total = cumulative[:, -1]
    # Rounding must not carry a number to the very end, behind which there is nothing.
    below = torch.minimum(numbers * total, torch.nextafter(total, torch.zeros_like(total)))
    found = torch.searchsorted(cumulative, below.unsqueeze(1), right=True).squeeze(1)
    return torch.where(total > 0, found, otherwise)
