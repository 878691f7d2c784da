"""Embedding drift: how far noisy training sets move what a model makes of the test sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scl_fairseq.experiments.result_places import (
    LAMBDA,
    TEMPERATURE,
    Place,
    find_place,
    scl_value,
)
from scl_fairseq.experiments.results import Result
from scl_fairseq.experiments.selection import CE, SCL

NOISE = "noise"


@dataclass(frozen=True)
class Pair:
    """Two models of one loss, sample and setting: of the original training set and of a noisy one.

    Attributes:
        loss: ``CE`` or ``CE+SCL``.
        noise: sampling temperature of the noisy training set.
        clean, noisy: the trials.
    """

    loss: str
    noise: float
    clean: Result
    noisy: Result


@dataclass(frozen=True)
class Drift:
    """How far the second model of a pair is from the first, on the same sentences.

    Attributes:
        loss, noise: as in the pair.
        cosine: mean of 1 − cosine of a sentence's two embeddings, 0 to 2.
        cka: 1 − linear CKA of the two sets of embeddings, 0 to 1: 0 where one is the other but for
            a rotation, a scale and a shift.
    """

    loss: str
    noise: float
    cosine: float
    cka: float


def cosine_drift(before: np.ndarray, after: np.ndarray) -> float:
    """Mean of 1 − cosine over the rows of two (N, C) arrays.

    Raises:
        ValueError: they differ in shape, or a row is zero.
    """
    first, second = _checked(before, after)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    if not lengths.all():
        raise ValueError("an embedding is zero and has no direction")
    return float(np.mean(1 - (first * second).sum(axis=1) / lengths))


def linear_cka(before: np.ndarray, after: np.ndarray) -> float:
    """Linear centred kernel alignment of two (N, C) arrays (Kornblith et al. 2019), 0 to 1.

    Raises:
        ValueError: they differ in the number of rows, or all rows of one are the same.
    """
    first, second = (one - one.mean(axis=0) for one in _checked(before, after))
    scale = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    if not scale:
        raise ValueError("all embeddings are the same vector")
    return float(np.linalg.norm(first.T @ second) ** 2 / scale)


def _checked(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(one, dtype=np.float64) for one in (before, after))
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"embeddings of shapes {first.shape} and {second.shape}")
    return first, second


def find_pairs(
    places: Sequence[Place],
    task: str | None = None,
    size: object = None,
    top: int = 3,
    where: Mapping[str, object] | None = None,
) -> list[Pair]:
    """Models of the original training sets with those of the noisy ones, sample by sample.

    Of CE+SCL, lambda and tau are those that validation accuracy chooses on the original sets.

    Args:
        places: of sweeps whose grid has ``noise``.
        task: which of them, by its name.
        size: which of them, by N.
        top: how many runs count for the choice.
        where: further keys and their values.

    Returns:
        By loss, noise and sample.

    Raises:
        ValueError: there are no such results, or they have no checkpoints.
    """
    clean = find_place(places, task, size, {**(where or {}), NOISE: 0})
    noisy = [
        place
        for place in places
        if place.details((NOISE,)) == clean.details((NOISE,))
        and place.task == clean.task
        and (place.number(NOISE) or 0) > 0
    ]
    if not noisy:
        raise ValueError(f"{clean.name}: there are no results of noisy training sets beside it")
    pairs = []
    for loss in (CE, SCL):
        chosen = clean.choose(loss, top)
        if chosen is None:
            continue
        fixed = {}
        if loss == SCL:
            fixed = {
                key.replace("-", "_"): scl_value(chosen.setting, key)
                for key in (LAMBDA, TEMPERATURE)
            }
        for place in noisy:
            other = place.choose(loss, top, **fixed)
            runs = other.by_repetition() if other else {}
            pairs += [
                Pair(loss, place.number(NOISE), run, runs[repetition])
                for repetition, run in chosen.by_repetition().items()
                if repetition in runs
            ]
    with_checkpoints = [one for one in pairs if one.clean.checkpoint and one.noisy.checkpoint]
    if not with_checkpoints:
        raise ValueError(
            f"{clean.name}: no trial of the original sets and of a noisy one has its checkpoint; "
            "scl-sweep --keep best keeps them"
        )
    return with_checkpoints


def checkpoint_of(result: Result) -> Path:
    """Where the checkpoint of a trial is."""
    return result.folder / result.checkpoint


def measure(pairs: Sequence[Pair], embed: Callable[[Result], np.ndarray]) -> list[Drift]:
    """The drift of each pair; ``embed`` gives the (N, C) embeddings of the test sentences."""
    found: dict[str, np.ndarray] = {}

    def embedded(result: Result) -> np.ndarray:
        if result.trial not in found:
            found[result.trial] = embed(result)
        return found[result.trial]

    drifts = []
    for pair in pairs:
        before, after = embedded(pair.clean), embedded(pair.noisy)
        cosine, cka = cosine_drift(before, after), linear_cka(before, after)
        drifts.append(Drift(pair.loss, pair.noise, cosine, 1 - cka))
    return drifts


def embed_test_set(result: Result) -> np.ndarray:
    """What the classifier of a trial's checkpoint reads of its test set, (N, C)."""
    from scl_fairseq.inference.split_embeddings import embed_split

    return embed_split(checkpoint_of(result), Path(result.data["path"])).vectors.numpy()


def tsne_choice(pairs: Sequence[Pair]) -> list[tuple[str, Result]]:
    """Panel titles and trials for t-SNE: of each loss the original and the noisiest set, sample 0.

    Sample 0, or the first that there is.
    """
    panels = []
    for loss in dict.fromkeys(pair.loss for pair in pairs):
        of_loss = [pair for pair in pairs if pair.loss == loss]
        # The first of the noisiest: pairs come by sample.
        pair = max(of_loss, key=lambda one: one.noise)
        panels.append((f"{loss}, original", pair.clean))
        panels.append((f"{loss}, T = {pair.noise:g}", pair.noisy))
    return panels
