"""What the process of a trial reads and writes; light, because its start-up counts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Rows(NamedTuple):
    """Indices of the labels, and one or two sentences of each row."""

    labels: list[int]
    sentences: list[tuple[str, ...]]

    @property
    def columns(self) -> list[list[str]]:
        """The first sentences, and of pairs the second."""
        return [list(column) for column in zip(*self.sentences, strict=True)]


def read_order(path: str) -> dict[str, Any]:
    """What is to be done: sample, labels, encoder, seed, settings, and where the answer goes."""
    return json.loads(Path(path).read_text("utf-8"))


def read_rows(order: dict[str, Any], split: str) -> Rows:
    """``train``, ``dev`` or ``test`` of the sample, whose tables have no quotes."""
    index = {label: place for place, label in enumerate(order["labels"])}
    lines = Path(order["sample"], f"{split}.tsv").read_text("utf-8").split("\n")[1:-1]
    rows = [line.split("\t") for line in lines]
    return Rows([index[row[1]] for row in rows], [tuple(row[2:]) for row in rows])


def write_answer(order: dict[str, Any], predictions: Sequence[int], **found: Any) -> None:
    """Label indices predicted for the test rows, and what else there is to know."""
    answer = {"predictions": [order["labels"][int(place)] for place in predictions], **found}
    Path(order["answer"]).write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")
