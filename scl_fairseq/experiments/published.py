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
        num_examples: N of all its numbers; None for whole training sets, and where N is the axis.
        axis_note: what the values of the axis mean, where its name does not say it.
    """

    name: str
    axis: str | None
    tasks: tuple[str, ...]
    about: str
    top: int
    numbers: Mapping[tuple[str, int | float | str | None, str], Number]
    num_examples: int | None = None
    axis_note: str = ""

    def find(self, task: object, value: object, loss: str) -> Number | None:
        """The number, whatever the case of the task's name; None where the paper has none."""
        for (of_task, of_value, of_loss), number in self.numbers.items():
            if (of_task.casefold(), of_value, of_loss) == (str(task).casefold(), value, loss):
                return number
        return None


def _grid(
    tasks: tuple[str, ...], loss: str, rows: Mapping[int | float | str | None, tuple]
) -> dict:
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

# Sampling temperature of the back-translation; 0 is the training set without it.
NOISE = PublishedTable(
    "noise",
    "noise",
    _FEW_SHOT_TASKS,
    "RoBERTa-Large, N = 100 and its back-translations; mean ± sd of the test accuracy of the top 3 "
    "of 10 training samples by validation accuracy; how its averages and their sd were taken is "
    "unknown",
    3,
    {
        **_grid(_FEW_SHOT_TASKS, "CE", {
            0: ((91.1, 1.3), (81.9, 0.4), (59.2, 2.1)),
            0.3: ((92.0, 1.3), (81.1, 2.3), (54.0, 1.1)),
            0.5: ((91.4, 1.0), (80.0, 2.9), (55.3, 2.4)),
            0.7: ((91.7, 1.3), (78.9, 3.7), (54.6, 2.2)),
            0.9: ((90.0, 0.5), (75.9, 4.0), (47.0, 1.8)),
            AVERAGE: ((91.3, 1.2), (79.0, 3.5), (52.7, 3.9)),
        }),
        **_grid(_FEW_SHOT_TASKS, "CE+SCL", {
            0: ((92.8, 1.3), (82.5, 0.4), (61.1, 3.0)),
            0.3: ((92.6, 0.9), (82.7, 1.9), (61.2, 2.3)),
            0.5: ((91.5, 1.0), (81.9, 2.5), (62.1, 0.9)),
            0.7: ((91.2, 0.6), (81.3, 0.6), (62.3, 1.1)),
            0.9: ((91.5, 1.0), (80.1, 2.5), (53.0, 2.1)),
            AVERAGE: ((91.7, 1.0), (81.5, 2.0), (59.7, 4.3)),
        }),
    },
    num_examples=100,
    axis_note="noise: sampling temperature of the back-translated rows; 0: the original training "
    "set alone; average: over the augmented sets.",
)  # fmt: skip

_TRANSFER_TASKS = ("Amazon-2", "Yelp-2")
TRANSFER = PublishedTable(
    "transfer",
    None,
    _TRANSFER_TASKS,
    "RoBERTa-Large, fine-tuned on the whole of SST-2 with the same loss, then on 20 examples of "
    "each class; mean ± sd; whether over the top 3 of 10 samples, as in the few-shot table, is "
    "unknown",
    3,
    {
        **_grid(_TRANSFER_TASKS, "CE", {None: ((87.4, 6.4), (90.8, 2.2))}),
        **_grid(_TRANSFER_TASKS, "CE+SCL", {None: ((90.3, 0.6), (91.2, 0.4))}),
    },
    num_examples=40,
)

NONE = "none"
TABLES = {table.name: table for table in (FEW_SHOT, GLUE, BATCH_SIZE, NOISE, TRANSFER)}
