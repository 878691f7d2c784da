"""Back-translation: to another language and back, both by sampling (Edunov et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scl_fairseq.data.paraphrase import Outcome, Request
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.translation import TranslationModel


class BackTranslation:
    """Two translation models, one after the other.

    The random numbers of a sentence are named by seed, row, copy and direction, not by the
    temperature: what sets of different temperatures differ in is the temperature alone.

    Args:
        forward: from the sentences' language.
        backward: into it.

    Raises:
        ValueError: the languages of the two do not meet.
    """

    def __init__(self, forward: TranslationModel, backward: TranslationModel):
        there = f"{forward.source}-{forward.target}"
        back = f"{backward.source}-{backward.target}"
        if (forward.target, forward.source) != (backward.source, backward.target):
            raise ValueError(
                f"--forward {forward.name} translates {there} and --backward {backward.name} "
                f"{back}, not {forward.target}-{forward.source}: their vocabularies do not match"
            )
        self.name = f"{forward.name}+{backward.name}"
        self._models = (forward, backward)

    def describe(self) -> dict[str, Any]:
        """Both models."""
        forward, backward = self._models
        return {
            "kind": "back-translation",
            "forward": forward.describe(),
            "backward": backward.describe(),
        }

    def paraphrase(
        self,
        requests: Sequence[Request],
        temperature: float,
        seed: int,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> list[Outcome]:
        """Translate and translate back; a sentence that fails on the way has no text."""
        outcomes = [Outcome(request.sentence) for request in requests]
        for direction, model in enumerate(self._models):
            alive = [i for i, outcome in enumerate(outcomes) if outcome.text is not None]
            draws = [
                StableRandom(seed, "back-translation", *requests[i].key, direction).uniform
                for i in alive
            ]
            is_last = direction == len(self._models) - 1
            found = model.sample(
                [outcomes[i].text for i in alive],
                draws,
                temperature,
                on_done if is_last else lambda count: None,
            )
            for i, outcome in zip(alive, found, strict=True):
                note = outcome.note or (outcomes[i].note if outcome.text is not None else "")
                outcomes[i] = Outcome(outcome.text, note)
        on_done(len(requests) - len(alive))
        return outcomes
