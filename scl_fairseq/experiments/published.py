"""Numbers that Gunel et al. (arXiv 2011.01403) published, each with how certain it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IN_SOURCE = "stands in the source documents"
IN_NOISE_TABLE = (
    "unreadable in the source documents' few-shot table; stands there as the original of the table "
    "of noisy training sets"
)
ELSEWHERE = "blank in the source documents, read elsewhere"
AVERAGE = "average"


@dataclass(frozen=True)
class Number:
    """A published accuracy in percent.

    Attributes:
        mean: or the only value.
        sd: standard deviation, None where none is published.
        certainty: where the number was read.
    """

    mean: float
    sd: float | None = None
    certainty: str = IN_SOURCE


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper.

    Attributes:
        name: as configs name it.
        axis: the key that tells its rows apart beside the task, None for tasks alone.
        tasks: in its order.
        about: model, version and rule of selection, for the note below a table.
        top: how many runs are selected by validation accuracy.
        numbers: by task, value of ``axis`` (None without one) and loss.
    """

    name: str
    axis: str | None
    tasks: tuple[str, ...]
    about: str
    top: int
    numbers: Mapping[tuple[str, int | None, str], Number]

    def find(self, task: object, value: object, loss: str) -> Number | None:
        """The number, whatever the case of the task's name; None where the paper has none."""
        for (of_task, of_value, of_loss), number in self.numbers.items():
            if (of_task.casefold(), of_value, of_loss) == (str(task).casefold(), value, loss):
                return number
        return None


def _grid(tasks: tuple[str, ...], loss: str, rows: Mapping[int | None, tuple]) -> dict:
    """Numbers of one loss: a row for each value of the axis, a column for each task."""
    return {
        (task, value, loss): cell if isinstance(cell, Number) else Number(*cell)
        for value, row in rows.items()
        for task, cell in zip(tasks, row, strict=True)
    }


_FEW_SHOT_TASKS = ("SST-2", "QNLI", "MNLI")
_GLUE_TASKS = ("SST-2", "CoLA", "MRPC", "RTE", "QNLI", "MNLI")
_BATCH_SIZE_TASKS = ("SST-2", "CoLA", "QNLI")

FEW_SHOT = PublishedTable(
    "few-shot",
    "N",
    _FEW_SHOT_TASKS,
    "RoBERTa-Large; mean ± sd of the test accuracy of the top 3 of 10 training samples by "
    "validation accuracy",
    3,
    {
        **_grid(_FEW_SHOT_TASKS, "CE", {
            20: ((85.9, 2.1), (65.0, 2.0), (39.3, 2.5)),
            100: (
                Number(91.1, 1.3, IN_NOISE_TABLE), Number(81.9, 0.4, IN_NOISE_TABLE), (59.2, 2.1)
            ),
            1000: ((94.0, 0.6), (89.2, 0.6), (81.4, 0.2)),
        }),
        **_grid(_FEW_SHOT_TASKS, "CE+SCL", {
            20: ((88.1, 3.3), (75.7, 4.8), (42.7, 4.6)),
            100: ((92.8, 1.3), (82.5, 0.4), (61.1, 3.0)),
            1000: ((94.1, 0.5), (89.8, 0.4), (81.5, 0.2)),
        }),
    },
)  # fmt: skip

GLUE = PublishedTable(
    "glue",
    None,
    _GLUE_TASKS,
    "RoBERTa-Large, whole training sets, the paper's first version; the top one of 10 seeds by "
    "validation accuracy; CoLA is accuracy, as its size shows, not MCC",
    1,
    {
        **_grid((*_GLUE_TASKS, AVERAGE), "CE", {
            None: (
                (94.7,), Number(86.4, None, ELSEWHERE), Number(87.3, None, ELSEWHERE), (85.0,),
                (94.5,), Number(90.0, None, ELSEWHERE), (89.7,),
            ),
        }),
        **_grid((*_GLUE_TASKS, AVERAGE), "CE+SCL", {
            None: ((95.9,), (87.3,), (87.8,), (85.6,), (95.4,), (89.9,), (90.3,)),
        }),
    },
)  # fmt: skip

BATCH_SIZE = PublishedTable(
    "batch-size",
    "batch-size",
    _BATCH_SIZE_TASKS,
    "RoBERTa-Base, whole training sets, the paper's first version, which has CE+SCL alone; CE rows "
    "and speeds of a later version are unknown here",
    1,
    _grid(_BATCH_SIZE_TASKS, "CE+SCL", {
        16: ((93.9,), (83.4,), (92.1,)),
        64: ((94.2,), (84.8,), (92.7,)),
        256: ((94.3,), (84.9,), (92.9,)),
    }),
)  # fmt: skip

NONE = "none"
TABLES = {table.name: table for table in (FEW_SHOT, GLUE, BATCH_SIZE)}
