"""Semantic textual similarity: how well cosines of sentence vectors rank pairs as people do."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from scl_fairseq.files import file_sha256
from scl_fairseq.inference.sts_files import TEST_SETS, ScoredPairs
from scl_fairseq.refusals import NotFiniteError
from scl_fairseq.versions import installed

EMBEDDED_AT_ONCE = 512  # sentences between two looks at the progress
_PACKAGES = ("fairseq", "fairseq-fixed", "torch", "numpy", "scipy")


@dataclass(frozen=True)
class StsScores:
    """One way to embed sentences, on all sets.

    Attributes:
        name: what readers call it.
        checkpoint: its file.
        embedding: ``cls``, ``pooled`` or ``mean``.
        spearman: rank correlation x 100, by the name of the set.
        truncated: sentences that were cut to the model's positions.
    """

    name: str
    checkpoint: Path
    embedding: str
    spearman: dict[str, float]
    truncated: int

    @property
    def average(self) -> float:
        """Mean over the test sets that there are, STS-B's dev set apart; NaN without any."""
        found = [value for name, value in self.spearman.items() if name in TEST_SETS]
        return statistics.fmean(found) if found else float("nan")


def spearman(similarities: Sequence[float], scores: Sequence[float]) -> float:
    """Spearman's rank correlation x 100; ties share a rank, and 0 where all values are equal."""
    if len(set(similarities)) < 2 or len(set(scores)) < 2:
        return 0.0
    return 100 * float(stats.spearmanr(similarities, scores).statistic)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each row with its other, (N, C) and (N, C) to (N,); 0 with a zero row."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = (first * second).sum(axis=1)
    found = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return found.round(12)  # pairs of equal sentences tie, instead of differing by rounding


def evaluate_sts(
    model,
    name: str,
    checkpoint: Path,
    embedding: str,
    sets: Sequence[ScoredPairs],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> StsScores:
    """Embed every sentence once, and correlate cosines with people's scores.

    Args:
        model: ``inference.hub.SentenceModel``.
        name: what readers call it.
        checkpoint: its file, for the record.
        embedding: which vector of a sentence.
        sets: pairs to score.
        on_progress: is told sentences done and in all.

    Raises:
        ValueError: the model has no such vectors, or some are not finite.
    """
    sentences = list(dict.fromkeys(text for one in sets for pair in one.pairs for text in pair))
    vectors, truncated = [], 0
    # Longest first: pieces then hold sentences of similar length.
    sentences.sort(key=len, reverse=True)
    for start in range(0, len(sentences), EMBEDDED_AT_ONCE):
        part = sentences[start : start + EMBEDDED_AT_ONCE]
        try:
            vectors.append(model.embed(part, embedding).numpy())
        except NotFiniteError as error:
            raise ValueError(
                f"{checkpoint}: the vector of {part[error.index]!r} is not finite, so training has "
                "diverged"
            ) from error
        truncated += model.truncated
        on_progress(start + len(part), len(sentences))
    table, row_of = np.concatenate(vectors), {text: row for row, text in enumerate(sentences)}
    found = {}
    for one in sets:
        first, second = (table[[row_of[pair[side]] for pair in one.pairs]] for side in (0, 1))
        found[one.name] = spearman(cosines(first, second).tolist(), one.scores)
    return StsScores(name, checkpoint, embedding, found, truncated)


def as_json(folder: Path, sets: Sequence[ScoredPairs], found: Sequence[StsScores]) -> str:
    """All scores, with checksums of what they are of."""
    record = {
        "sts": str(folder),
        "sets": {one.name: {"pairs": len(one.pairs), "sha256": one.sha256} for one in sets},
        "metric": "Spearman x 100 of cosines, all sub-sets of a year together",
        "versions": installed(_PACKAGES),
        "checkpoints": [
            {
                "name": one.name,
                "path": str(one.checkpoint),
                "sha256": file_sha256(one.checkpoint),
                "embedding": one.embedding,
                "spearman": one.spearman,
                "average": None if np.isnan(one.average) else one.average,
                "truncated": one.truncated,
            }
            for one in found
        ],
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
