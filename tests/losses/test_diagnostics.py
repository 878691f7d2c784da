import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq.losses import DIAGNOSTICS, diagnostic_sums, diagnostic_value

from .reference import dot, normalized


def loop_sums(embeddings, labels):
    """Sums and counts, one pair at a time, in Python floats; no code of the package is used."""
    z = [normalized(row) for row in embeddings]
    cosines, distances, potentials = {True: [], False: []}, [], []
    for i, j in itertools.combinations(range(len(z)), 2):
        difference = [a - b for a, b in zip(z[i], z[j], strict=True)]
        squared = dot(difference, difference)
        same = labels[i] == labels[j]
        cosines[same].append(dot(z[i], z[j]))
        if same:
            distances.append(squared)
        potentials.append(math.exp(-2 * squared))
    members = Counter(labels)
    return {
        "in_class_cosine": (math.fsum(cosines[True]), len(cosines[True])),
        "between_class_cosine": (math.fsum(cosines[False]), len(cosines[False])),
        "alignment": (math.fsum(distances), len(distances)),
        "uniformity": (math.fsum(potentials), len(potentials)),
        "anchors_with_positive": (sum(members[label] > 1 for label in labels), len(labels)),
    }


def loop_values(batches):
    """Values over the pairs within each (embeddings, labels); None where there is none."""
    sums = [loop_sums(embeddings, labels) for embeddings, labels in batches]
    values = {}
    for name in sums[0]:
        total, count = (sum(each[name][part] for each in sums) for part in (0, 1))
        if count == 0:
            values[name] = None
        elif name == "uniformity":
            values[name] = math.log(total / count)
        else:
            values[name] = total / count * (100 if name == "anchors_with_positive" else 1)
    return values


def values_of(sums):
    return {name: diagnostic_value(name, *pair) for name, pair in sums.items() if pair[1]}


def make_batch(n, d, classes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return embeddings.to(dtype), torch.randint(classes, (n,), generator=generator)


def assert_matches_loop(embeddings, labels, tolerance):
    found = diagnostic_sums(embeddings, labels)
    expected = loop_sums(embeddings.tolist(), labels.tolist())
    assert list(found) == list(DIAGNOSTICS)
    for name, (total, count) in found.items():
        assert count == expected[name][1], name
        assert abs(total - expected[name][0]) <= tolerance * max(1, count), name


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 24),
    d=st.integers(1, 12),
    classes=st.integers(1, 26),
    seed=st.integers(0, 2**31),
    duplicated=st.booleans(),
    zero_rows=st.integers(0, 2),
)
def test_sums_and_counts_equal_the_double_loop(n, d, classes, seed, duplicated, zero_rows):
    embeddings, labels = make_batch(n, d, classes, seed)
    if duplicated:
        embeddings[-1] = embeddings[0]
    embeddings[n // 2 : n // 2 + zero_rows] = 0
    assert_matches_loop(embeddings, labels, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_inputs_are_computed_in_float32(dtype):
    embeddings, labels = make_batch(32, 64, 3, seed=5, dtype=dtype)
    # The loop takes the rounded inputs, so float32 arithmetic is all that lies between.
    assert_matches_loop(embeddings, labels, 1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_matches_loop(embeddings, labels, 1e-6)


def test_float32_tells_nearly_equal_embeddings_apart():
    """By 2 - 2 cos a distance of 1e-4 would be lost in float32."""
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 1e-4]])
    total, count = diagnostic_sums(embeddings, torch.tensor([0, 0]))["alignment"]
    assert (total, count) == (pytest.approx(1e-8, rel=1e-3), 1)


def test_half_precision_counts_and_rows_beyond_its_range():
    labels = torch.arange(2).repeat(400)
    embeddings = torch.full((800, 2), 6e4, dtype=torch.float16)
    sums = diagnostic_sums(embeddings, labels)
    assert sums["in_class_cosine"] == (pytest.approx(159_600, rel=1e-6), 159_600)
    assert sums["between_class_cosine"] == (pytest.approx(160_000, rel=1e-6), 160_000)
    assert sums["uniformity"] == (pytest.approx(319_600, rel=1e-6), 319_600)


def test_invariances():
    embeddings, labels = make_batch(13, 6, 4, seed=9)
    expected = values_of(diagnostic_sums(embeddings, labels))
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    relabelled = torch.tensor([-4, 10**12, 7, 0])[labels]
    scales = torch.rand(13, 1, generator=torch.Generator().manual_seed(1)).double() * 1e6 + 1e-6
    for other in (
        diagnostic_sums(embeddings[order], labels[order]),
        diagnostic_sums(embeddings, relabelled),
        diagnostic_sums(embeddings * scales, labels),
    ):
        assert values_of(other) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_embeddings(dtype):
    embeddings = torch.tensor([0.3, -0.7, 2.0], dtype=dtype).repeat(5, 1)
    assert values_of(diagnostic_sums(embeddings, torch.tensor([0, 0, 1, 1, 2]))) == {
        "in_class_cosine": 1,
        "between_class_cosine": 1,
        "alignment": 0,
        "uniformity": 0,
        "anchors_with_positive": 80,
    }


def test_orthogonal_embeddings():
    values = values_of(diagnostic_sums(torch.eye(6), torch.tensor([0, 0, 0, 1, 1, 1])))
    assert values == pytest.approx(
        {
            "in_class_cosine": 0,
            "between_class_cosine": 0,
            "alignment": 2,
            "uniformity": -4,
            "anchors_with_positive": 100,
        },
        abs=1e-6,
    )


def test_opposite_classes():
    embeddings = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-3.0, 0.0], [-1.0, 0.0]])
    values = values_of(diagnostic_sums(embeddings, torch.tensor([0, 0, 1, 1])))
    assert values == pytest.approx(
        {
            "in_class_cosine": 1,
            "between_class_cosine": -1,
            "alignment": 0,
            "uniformity": math.log((2 + 4 * math.exp(-8)) / 6),
            "anchors_with_positive": 100,
        }
    )


def test_alignment_is_two_minus_two_cosines():
    values = values_of(diagnostic_sums(*make_batch(20, 8, 3, seed=4, dtype=torch.float32)))
    assert values["alignment"] == pytest.approx(2 - 2 * values["in_class_cosine"], abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "in_class", "between", "with_positive"),
    [([4], 0, 0, 0), ([3, 1, 2], 0, 3, 0), ([5, 5, 5], 3, 0, 3), ([1, 0, 1], 1, 2, 2)],
    ids=["one row", "only singletons", "one class", "a singleton"],
)
@pytest.mark.parametrize("zero", [False, True])
def test_what_a_batch_has_no_pairs_of_is_counted_as_none(
    labels, in_class, between, with_positive, zero
):
    n = len(labels)
    embeddings, _ = make_batch(n, 4, 1, seed=3, dtype=torch.float32)
    sums = diagnostic_sums(embeddings * (not zero), torch.tensor(labels))
    assert {name: count for name, (_, count) in sums.items()} == {
        "in_class_cosine": in_class,
        "between_class_cosine": between,
        "alignment": in_class,
        "uniformity": n * (n - 1) // 2,
        "anchors_with_positive": n,
    }
    assert sums["anchors_with_positive"][0] == with_positive
    for total, count in sums.values():
        assert math.isfinite(total)
        assert count or total == 0
        assert {type(total), type(count)} <= {int, float}  # not tensors


def test_without_classes_uniformity_alone():
    embeddings, labels = make_batch(9, 5, 3, seed=6)
    sums = diagnostic_sums(embeddings)
    assert sums == {"uniformity": diagnostic_sums(embeddings, labels)["uniformity"]}


def test_sums_of_two_workers_add_up():
    batches = [make_batch(n, 5, 3, seed=n) for n in (7, 12)]
    parts = [diagnostic_sums(*batch) for batch in batches]
    expected = loop_values([(e.tolist(), labels.tolist()) for e, labels in batches])
    for name in DIAGNOSTICS:
        total, count = (sum(part[name][i] for part in parts) for i in (0, 1))
        assert diagnostic_value(name, total, count) == pytest.approx(expected[name], rel=1e-12)


def test_no_gradient_is_recorded():
    embeddings, labels = make_batch(6, 4, 2, seed=8)
    embeddings.requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda _: None):
        diagnostic_sums(embeddings, labels)
    assert saved == []


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gpu_equals_the_double_loop(dtype):
    embeddings, labels = make_batch(64, 128, 3, seed=10, dtype=dtype)
    assert_matches_loop(embeddings.cuda(), labels.cuda(), 1e-6)
