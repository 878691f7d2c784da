"""Files for the GLUE leaderboard: one for each test set, in its names, labels and order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scl_fairseq.data.binarized import BinarizedData
from scl_fairseq.data.row_order import origin_of
from scl_fairseq.data.tasks import CUSTOM, TASKS

HEADER = "index\tprediction\n"


@dataclass(frozen=True)
class TestSet:
    """A test set of the leaderboard.

    Attributes:
        task: name of the task whose labels it has.
        rows: of the official file.
    """

    task: str
    rows: int

    __test__ = False  # pytest would take the name for a test's


# By the file's name without its ending. STS-B, a regression, is not among them.
TEST_SETS = {
    "CoLA": TestSet("CoLA", 1063),
    "SST-2": TestSet("SST-2", 1821),
    "MRPC": TestSet("MRPC", 1725),
    "QQP": TestSet("QQP", 390965),
    "MNLI-m": TestSet("MNLI", 9796),
    "MNLI-mm": TestSet("MNLI", 9847),
    "AX": TestSet("MNLI", 1104),
    "QNLI": TestSet("QNLI", 5463),
    "RTE": TestSet("RTE", 3000),
    "WNLI": TestSet("WNLI", 146),
}
# Which of MNLI's two a split is, by the names that scl-preprocess gives.
_OF_MNLI = {"valid": "MNLI-m", "valid1": "MNLI-mm", "test": "MNLI-m", "test1": "MNLI-mm"}


@dataclass(frozen=True)
class Submission:
    """A file to be filled.

    Attributes:
        name: of the file.
        labels: as the leaderboard spells them, in the order of the classifier's.
        note: what to know before it is handed in; empty where there is nothing.
    """

    name: str
    labels: tuple[str, ...]
    note: str = ""

    def text(self, predictions: Sequence[int] | np.ndarray) -> str:
        """Content of the file.

        Args:
            predictions: (N,), class indices in the order of the official file.
        """
        rows = (f"{row}\t{self.labels[found]}\n" for row, found in enumerate(predictions))
        return HEADER + "".join(rows)


def plan_submission(data: BinarizedData, split: str, name: str) -> Submission:
    """Find out which file a split makes, and make sure that its rows are those of the test set.

    Args:
        data: opened for the split.
        split: as fairseq names it.
        name: of a test set or of a task, upper or lower case; MNLI stands for the matched or the
            mismatched set, as the split says.

    Raises:
        ValueError: there is no such task on the leaderboard; the data is of another, has other
            labels, or lacks rows.
    """
    of_name = {one.casefold(): one for one in TEST_SETS}
    if name.casefold() == "mnli":
        if split not in _OF_MNLI:
            raise ValueError(f"--task MNLI: say of {split} which it is: MNLI-m, MNLI-mm or AX")
        stem = _OF_MNLI[split]
    elif name.casefold() in of_name:
        stem = of_name[name.casefold()]
    else:
        raise ValueError(f"--task {name!r}, expected one of GLUE: {', '.join(TEST_SETS)} or MNLI")
    test_set = TEST_SETS[stem]
    labels = TASKS[test_set.task].labels
    if set(data.labels) != set(labels):
        raise ValueError(
            f"{data.folder} has the labels {', '.join(data.labels)}; those of {stem} are "
            f"{', '.join(labels)}"
        )
    _check_rows(data, split, test_set.task)
    rows = data.num_examples[split]
    note = f"{stem}.tsv has {rows} rows, GLUE's test set {test_set.rows}"
    return Submission(f"{stem}.tsv", tuple(data.labels), note if rows != test_set.rows else "")


def _check_rows(data: BinarizedData, split: str, task: str) -> None:
    origin = origin_of(data.folder, split)
    if origin.task not in (None, task, CUSTOM):
        raise ValueError(f"{data.folder} is data of {origin.task}, not of {task}")
    if origin.is_drawn:
        raise ValueError(f"{data.folder}: {split} was drawn from a file and is in another order")
    if origin.left_out:
        lines = ", ".join(map(str, origin.left_out[:10]))
        more = ", ..." if len(origin.left_out) > 10 else ""
        raise ValueError(
            f"{data.folder}: {len(origin.left_out)} rows of {split} were left out when it was made "
            f"(line {lines}{more}), and every row needs a prediction: scl-preprocess --on-long "
            "truncate keeps them"
        )
    if origin.rows not in (None, data.num_examples[split]):
        raise ValueError(
            f"{data.folder}: {split} has {data.num_examples[split]} rows, but its preprocess.json "
            f"says {origin.rows}"
        )
