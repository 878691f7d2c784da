"""Which rows a few-shot sample has, told from the rows of each class alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scl_fairseq.data.splits import allocate, draw
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.tasks import Task

MAX_VALIDATION = 500

ClassIds = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class FewShotSamples:
    """Ids of several training samples, and of the validation and test rows that they share."""

    train: list[list[int]]
    validation: list[int]
    test: list[int]


@dataclass(frozen=True)
class Size:
    """How many labelled examples a sample has: in all, or of each class."""

    num_examples: int | None = None
    per_class: int | None = None

    def counts(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Examples of each class, from the sizes of the classes.

        Raises:
            ValueError: there are too few rows.
        """
        if self.per_class is None:
            return allocate(self.num_examples, sizes)
        for label, size in sizes.items():
            if not 1 <= self.per_class <= size:
                raise ValueError(
                    f"cannot draw {self.per_class} examples from {size} rows of class {label}"
                )
        return dict.fromkeys(sizes, self.per_class)


def draw_samples(
    task: Task, train: ClassIds, dev: ClassIds, size: Size, num_samples: int, seed: int
) -> FewShotSamples:
    """Draw samples; the same arguments give the same ids everywhere, in whatever order ids come.

    Args:
        task: names the draw.
        train: ids of the training rows of each class.
        dev: ids of the dev rows of each class, of which half become the test set.
        size: of a training sample.
        num_samples: how many training samples.
        seed: names the draw.

    Raises:
        ValueError: there are too few rows; the message says of which file.
    """
    sizes = {label: len(ids) for label, ids in dev.items()}
    try:
        test_counts = allocate(sum(sizes.values()) // 2, sizes)
        test = draw(dev, test_counts, StableRandom(seed, task.name, "test"))
        taken = set(test)
        rest = {label: [i for i in ids if i not in taken] for label, ids in dev.items()}
        room = {label: len(ids) for label, ids in rest.items()}
        validation_size = min(MAX_VALIDATION, sum(room.values()))
        validation_counts = allocate(validation_size, sizes, room)
    except ValueError as error:
        raise ValueError(f"dev: {error}") from None
    validation = draw(rest, validation_counts, StableRandom(seed, task.name, "validation"))
    try:
        counts = size.counts({label: len(ids) for label, ids in train.items()})
    except ValueError as error:
        raise ValueError(f"train: {error}") from None
    total = sum(counts.values())
    samples = [
        draw(train, counts, StableRandom(seed, task.name, total, index))
        for index in range(num_samples)
    ]
    return FewShotSamples(samples, validation, test)
