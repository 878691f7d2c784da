"""Embedding drift: its numbers against other ways to work them out, its pairs, its figure."""

import math

import numpy as np
import pytest

from scl_fairseq.experiments import drift
from scl_fairseq.experiments.drift_figure import drift_figure
from scl_fairseq.experiments.result_places import make_places
from scl_fairseq.experiments.results import read_results
from tests.experiments.drawn import footnote, legend, overlaps
from tests.experiments.test_noise_and_transfer import NOISE, noise_lines
from tests.experiments.test_results import write_sweep


def vectors(seed, shape=(30, 5)):
    return np.random.default_rng(seed).normal(size=shape)


def rotation(seed, size):
    return np.linalg.qr(vectors(seed, (size, size)))[0]


def test_cosine_by_loops():
    before, after = vectors(0), vectors(1)
    total = 0.0
    for one, other in zip(before, after, strict=True):
        product = math.fsum(a * b for a, b in zip(one, other, strict=True))
        total += 1 - product / math.dist(one, [0] * 5) / math.dist(other, [0] * 5)
    assert drift.cosine_drift(before, after) == pytest.approx(total / 30)
    assert drift.cosine_drift(before, 3 * before) == pytest.approx(0, abs=1e-12)
    assert drift.cosine_drift(before, -before) == pytest.approx(2)
    with pytest.raises(ValueError, match="is zero"):
        drift.cosine_drift(before, 0 * before)
    with pytest.raises(ValueError, match="of shapes"):
        drift.cosine_drift(before, after[:3])


def test_cka_by_centred_gram_matrices():
    """By HSIC of the two kernels, as the definition has it; the code takes features."""
    before, after = vectors(0), vectors(1) + vectors(0) * 0.5
    centring = np.eye(30) - np.ones((30, 30)) / 30
    first, second = (centring @ one @ one.T @ centring for one in (before, after))
    expected = np.trace(first @ second) / math.sqrt(
        np.trace(first @ first) * np.trace(second @ second)
    )
    assert drift.linear_cka(before, after) == pytest.approx(expected)
    moved = 2.5 * before @ rotation(3, 5) + 7
    assert drift.linear_cka(before, moved) == pytest.approx(1)
    assert drift.linear_cka(before, vectors(9)) < 0.5
    with pytest.raises(ValueError, match="all embeddings are the same"):
        drift.linear_cka(before, np.ones((30, 5)))


def read(folder, lines, config=NOISE):
    found = read_results(write_sweep(folder, lines, config=config))
    return make_places(found.results, [found.config])


def test_pairs_are_of_one_loss_and_sample(tmp_path):
    places = read(tmp_path, noise_lines(checkpoint="trials/x/checkpoint_best.pt"))
    pairs = drift.find_pairs(places, "mnli")
    assert [(one.loss, one.noise) for one in pairs] == [
        (loss, noise) for loss in ("CE", "CE+SCL") for noise in (0.3, 0.5, 0.7, 0.9)
    ]
    for one in pairs:
        rate = 0 if one.loss == "CE" else 0.9
        assert (one.clean.trial, one.noisy.trial) == (f"MNLI-0-{rate}", f"MNLI-{one.noise}-{rate}")
    assert drift.checkpoint_of(pairs[0].clean) == tmp_path / "trials/x/checkpoint_best.pt"
    panels = [(title, one.trial) for title, one in drift.tsne_choice(pairs)]
    assert panels == [
        ("CE, original", "MNLI-0-0"), ("CE, T = 0.9", "MNLI-0.9-0"),
        ("CE+SCL, original", "MNLI-0-0.9"), ("CE+SCL, T = 0.9", "MNLI-0.9-0.9"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"there are several: .*choose with --task"):
        drift.find_pairs(places)


def test_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="--keep best keeps them"):
        drift.find_pairs(read(tmp_path / "a", noise_lines(("SST-2",))))
    kept = {"checkpoint": "x.pt"}
    with pytest.raises(ValueError, match="no results of noisy training sets"):
        drift.find_pairs(read(tmp_path / "b", noise_lines(("SST-2",), (0,), **kept)))
    with pytest.raises(ValueError, match="no such results"):
        drift.find_pairs(read(tmp_path / "c", noise_lines(("SST-2",), (0.3,), **kept)))


def test_measured_once_a_model_and_drawn(tmp_path):
    places = read(tmp_path, noise_lines(("SST-2",), checkpoint="x.pt"))
    pairs = drift.find_pairs(places)
    asked = []
    base = vectors(0)

    def embed(result):
        asked.append(result.trial)
        return base + result.setting["noise"] * vectors(1)

    drifts = drift.measure(pairs, embed)
    assert len(asked) == len(set(asked)) == 10
    assert drifts[0].cosine == pytest.approx(drift.cosine_drift(base, base + 0.3 * vectors(1)))
    assert drifts[3].cosine > drifts[0].cosine > 0
    assert drifts[3].cka > drifts[0].cka > 0
    figure = drift_figure(drifts, "Embedding drift by noisy training sets, SST-2, N = 100")
    assert overlaps(figure) == []
    assert legend(figure) == ["CE", "CE+SCL"]
    assert "same pre-trained weights" in footnote(figure)
    for axis, name in zip(figure.axes, ("cosine", "cka"), strict=True):
        for lines, loss in zip(axis.containers, ("CE", "CE+SCL"), strict=True):
            expected = [getattr(one, name) for one in drifts if one.loss == loss]
            assert lines[0].get_ydata().tolist() == pytest.approx(expected)


def test_a_single_temperature_has_both_losses_at_its_tick():
    drifts = [drift.Drift(loss, 0.9, 0.1, 0.2) for loss in ("CE", "CE+SCL")]
    for axis in drift_figure(drifts, "Drift").axes:
        left, right = axis.get_xlim()
        for lines in axis.containers:
            assert abs(lines[0].get_xdata()[0] - 0.9) < 0.1 * (right - left)
