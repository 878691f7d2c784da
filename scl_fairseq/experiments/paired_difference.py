"""A difference in accuracy, over samples and over test sentences at once.

Every training sample is evaluated on the same test sentences, so the differences of a task form a
table, samples by sentences, in which either could have been others. The model is that of crossed
random effects without repetition (as in studies of several readers and cases),

    d_ij = mean + sample_i + sentence_j + rest_ij,

whose mean squares give the variance of the mean: (MS_sample + MS_sentence - MS_rest) / (I * J).
Student's t has Satterthwaite's degrees of freedom, so that few samples widen the interval, which a
bootstrap of five would not. Tasks are not drawn from anywhere: the average is over these.

References:
    Satterthwaite 1946, *An approximate distribution of estimates of variance components*.
    Obuchowski and Rockette 1995, on several readers and cases.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from scl_fairseq.inference.bootstrap import LEVEL


class Difference(NamedTuple):
    """A mean, in the unit of the values, and its interval of 95 %.

    Attributes:
        mean: of all.
        interval: None of a single sample or a single sentence.
        samples: how many there were; of several tasks the fewest.
    """

    mean: float
    interval: tuple[float, float] | None
    samples: int


class _Part(NamedTuple):
    """Mean squares over I * J, with their degrees of freedom."""

    mean: float
    variance: float
    spread: float  # sum of MS^2 / df, over (I * J)^2
    samples: int


def difference(tables: Sequence[np.ndarray]) -> Difference:
    """The mean over tasks of the mean difference.

    Args:
        tables: of each task (samples, sentences): what the second contender gained on the first,
            1, 0 or -1.
    """
    parts = [_part(np.asarray(table, dtype=float)) for table in tables]
    mean = sum(part.mean for part in parts) / len(parts)
    samples = min(part.samples for part in parts)
    if min(min(table.shape) for table in tables) < 2:
        return Difference(mean, None, samples)
    variance = sum(part.variance for part in parts)
    spread = sum(part.spread for part in parts)
    if variance == 0:  # the two agree everywhere
        return Difference(mean, (mean, mean), samples)
    half = stats.t.ppf(0.5 + LEVEL / 2, variance**2 / spread) * variance**0.5 / len(parts)
    return Difference(mean, (mean - half, mean + half), samples)


def _part(table: np.ndarray) -> _Part:
    samples, sentences = table.shape
    mean = table.mean()
    if min(samples, sentences) < 2:
        return _Part(mean, 0.0, 0.0, samples)
    of_samples = table.mean(axis=1, keepdims=True)
    of_sentences = table.mean(axis=0, keepdims=True)
    rest = table - of_samples - of_sentences + mean
    freedom = np.array([samples - 1, sentences - 1, (samples - 1) * (sentences - 1)])
    squares = np.array(
        [
            sentences * ((of_samples - mean) ** 2).sum(),
            samples * ((of_sentences - mean) ** 2).sum(),
            (rest**2).sum(),
        ]
    )
    a, b, e = squares / freedom
    # A variance component that comes out below 0 counts as 0.
    chosen = max([(a + b - e, (a, b, e)), (a, (a, 0, 0)), (b, (0, b, 0))], key=lambda pair: pair[0])
    spread = (np.square(chosen[1]) / freedom).sum()
    return _Part(mean, chosen[0] / table.size, spread / table.size**2, samples)
