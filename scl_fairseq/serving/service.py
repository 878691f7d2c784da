"""What the page asks for: labels, probabilities and neighbours of the lines of a text."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scl_fairseq.refusals import NotFiniteError

if TYPE_CHECKING:
    from scl_fairseq.inference.hub import SentenceModel
    from scl_fairseq.inference.neighbours import Neighbours
    from scl_fairseq.inference.onnx_model import OnnxModel

MOST_LINES = 500
MOST_BYTES = 2_000_000
NEAREST = 3
_WAIT_SECONDS = 60


class BusyError(Exception):
    """Another request has kept the model for too long."""


class Service:
    """A model that answers one request at a time.

    Args:
        model: a classifier.
        neighbours: of its training; None where there are none to show.
        max_tokens: sentences times longest length of a batch.
    """

    def __init__(
        self,
        model: SentenceModel | OnnxModel,
        neighbours: Neighbours | None = None,
        max_tokens: int | None = None,
    ):
        self.model, self.neighbours, self._max_tokens = model, neighbours, max_tokens
        self._lock = threading.Lock()

    @property
    def takes_pairs(self) -> bool:
        """Whether a line is two sentences."""
        return self.model.num_inputs == 2

    def answer(self, text: str) -> dict[str, Any]:
        """What the model says of each line that is not blank.

        Raises:
            ValueError: there are no lines, or too many, or they are not as in training; what the
                model makes of one is not finite. The message is for the reader of the page.
            BusyError: other requests keep the model.
        """
        examples = self._examples(text)
        if not self._lock.acquire(timeout=_WAIT_SECONDS):
            raise BusyError
        try:
            return self._answer(examples)
        except NotFiniteError as error:
            raise ValueError(
                f"what the model makes of sentence {error.index + 1} is not finite: its training "
                "has diverged"
            ) from error
        finally:
            self._lock.release()

    def _examples(self, text: str) -> list[tuple[str, ...]]:
        if "\0" in text:
            raise ValueError("a NUL character, which no text has")
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
        if not numbered:
            raise ValueError("there is no sentence: type one")
        if len(numbered) > MOST_LINES:
            raise ValueError(
                f"{len(numbered)} lines; the page takes {MOST_LINES} at once. A file of any length "
                "goes through scl-predict --input FILE"
            )
        wanted = self.model.num_inputs or numbered[0][1].count("\t") + 1
        examples = []
        for number, line in numbered:
            parts = tuple(line.split("\t"))
            if len(parts) != wanted:
                expected = "one sentence" if wanted == 1 else "two sentences with a tab between"
                raise ValueError(f"line {number} has {len(parts) - 1} tabs, expected {expected}")
            examples.append(parts)
        return examples

    def _answer(self, examples: Sequence[tuple[str, ...]]) -> dict[str, Any]:
        found = self.model.predict(examples, max_tokens=self._max_tokens)
        truncated = self.model.truncated
        nearest: list[list[Any]] = [[] for _ in examples]
        if self.neighbours is not None:
            vectors = self.model.embed(examples, max_tokens=self._max_tokens)
            nearest = self.neighbours.nearest(vectors, NEAREST)
        rows = [
            {
                "text": " | ".join(example),
                "label": label,
                "probabilities": [round(value, 6) for value in values],
                "neighbours": [vars(one) for one in near],
            }
            for example, label, values, near in zip(
                examples, found.labels, found.probabilities.tolist(), nearest, strict=True
            )
        ]
        return {"class_names": found.class_names, "rows": rows, "truncated": truncated}
