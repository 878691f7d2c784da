"""What a paraphraser is asked, and what it answers. Imports neither torch nor fairseq."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# Why a sentence has no paraphrase; the sentence itself stands in for it.
EMPTY = "the paraphrase was empty"
TOO_LONG = "longer than the model's positions"
NO_TEXT = "the sentence itself is empty"
# Of a paraphrase that is there, all the same.
CUT = "ended at the limit of its length"


@dataclass(frozen=True)
class Request:
    """A sentence to paraphrase.

    Attributes:
        sentence: plain text, not empty.
        key: tells it from all other requests of a data set: row id, number of the copy, place of
            the sentence in its row, each from 0.
    """

    sentence: str
    key: tuple[int, int, int]


@dataclass(frozen=True)
class Outcome:
    """A paraphrase: ``text``, None where there is none, and ``note``, why, or what it is like."""

    text: str | None
    note: str = ""


class Paraphraser(Protocol):
    """Makes new sentences of the same meaning."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Whatever decides its texts, as JSON."""

    def paraphrase(
        self,
        requests: Sequence[Request],
        temperature: float | None,
        seed: int,
        on_done: Callable[[int], None],
    ) -> list[Outcome]:
        """An outcome for each request; ``on_done`` is told how many more requests are done."""
