"""Several workers are one worker with all their rows: gradients, weights and what is logged."""

import csv
import itertools
import math

import pytest

from scl_fairseq.embeddings import EMBEDDINGS
from tests.data_parallel import HALF, LEGACY, PYTORCH, case, relative_difference, run, together


def updates_of(*counts, number=10):
    """Batches of so many rows for each worker, out of 64, again and again."""
    rows = itertools.cycle(range(64))
    return [[list(itertools.islice(rows, count)) for count in counts] for _ in range(number)]


IDLE_AT_THE_END = [*updates_of(4, 4, number=9), [[3, 9, 20, 31], []]]
ONE_CLASS_EACH = "a class on one worker only"
CASES = {
    **{
        f"{kind}, {backend}": case(updates_of(6, 6), "--scl-embedding", kind, backend=backend)
        for kind in EMBEDDINGS
        for backend in (LEGACY, PYTORCH)
    },
    "uneven": case(updates_of(7, 3)),
    "uneven, growing": case([*updates_of(2, 3, number=5), *updates_of(6, 9, number=5)]),
    ONE_CLASS_EACH: case(updates_of(4, 4)),  # the rows are chosen once the labels are known
    "one row": case(updates_of(1, 6)),
    "one row each": case(updates_of(1, 1), "--scl-diagnostics"),
    "idle at first": case(
        [[[], [5, 6, 7]], *updates_of(4, 4, number=9)], dummies=[[40, 41, 42, 43], None]
    ),
    "idle at the end": case(IDLE_AT_THE_END, dummies=[None, [50, 51]]),
    "idle, pytorch_ddp": case(IDLE_AT_THE_END, dummies=[None, [50, 51]], backend=PYTORCH),
    "sum": case(updates_of(5, 3), "--scl-reduction", "sum"),
    "tau 0.05": case(updates_of(5, 3), "--scl-temperature", "0.05"),
    "lambda 0": case(updates_of(5, 3), "--scl-lambda", "0"),
    "lambda 1": case(updates_of(5, 3), "--scl-lambda", "1"),
    "chunks": case(updates_of(7, 4), "--scl-chunk-size", "3"),
    "chunks, pytorch_ddp": case(updates_of(7, 4), "--scl-chunk-size", "3", backend=PYTORCH),
    "packed": case(updates_of(5, 3), "--scl-packed"),
    "packed, pytorch_ddp": case(updates_of(5, 3), "--scl-packed", backend=PYTORCH),
    "packed, chunks": case(updates_of(7, 4), "--scl-packed", "--scl-chunk-size", "3"),
    "mean head": case(updates_of(5, 3), "--head-pooling", "mean"),
    "mean head, chunks, pytorch_ddp": case(
        updates_of(7, 4), "--head-pooling", "mean", "--scl-chunk-size", "3", backend=PYTORCH
    ),
    "pre-norm": case(updates_of(5, 3), "--arch", "roberta_prenorm"),
    "two micro-batches": case([[[[0, 1, 2], [3, 4]], [[5, 6], [7, 8, 9]]] for _ in range(10)]),
    "three": case(updates_of(4, 2, 5)),
    "two of three are idle": case(
        [[[], [1, 2, 3, 4, 5], []], *updates_of(2, 3, 1, number=9)],
        dummies=[[60, 61, 62], None, [50, 51, 52, 53, 54, 55, 56]],
    ),
}
# So few updates leave mistakes, and each worker alone would find other scores.
UNEVEN_VALIDATION = [list(range(20)), [21, 22, 23]]
METRICS = {
    "mcc": case(updates_of(6, 6, number=2), "--report-mcc", valid=UNEVEN_VALIDATION),
    "f1": case(updates_of(6, 6, number=2), "--report-acc-and-f1", valid=UNEVEN_VALIDATION),
}
HALVES = {
    f"half, {gather}": case(updates_of(7, 3, number=1), HALF, "--scl-gather", gather)
    for gather in ("all", "none")
}
APART = case(updates_of(6, 6), "--scl-gather", "none")
UNTIED = {
    f"untied, {gather}": case(
        updates_of(3, 3, number=2), "--no-find-unused", "--scl-gather", gather, backend=PYTORCH
    )
    for gather in ("all", "none")
}


def num_workers(given):
    return len(given["updates"][0])


def rows_by_class(tiny):
    with open(tiny.sample / "train.tsv", encoding="utf-8") as file:
        labels = [row["label"] for row in csv.DictReader(file, delimiter="\t")]
    return [[i for i, label in enumerate(labels) if label == name] for name in ("0", "1")]


@pytest.fixture(scope="module")
def found(tiny, tmp_path_factory):
    """``found[name]``: what each worker found, and what one alone finds with all rows."""
    folder = tmp_path_factory.mktemp("workers")
    negative, positive = rows_by_class(tiny)
    one_class_each = [[negative[k : k + 4], positive[k : k + 3]] for k in range(10)]
    cases = {**CASES, **METRICS, **HALVES, **UNTIED, "apart": APART}
    cases[ONE_CLASS_EACH] = case(one_class_each)
    (reference,) = run(
        {name: together(given) for name, given in cases.items()}, 1, tiny, folder / "one"
    )
    results = {}
    for world in (2, 3):
        chosen = {name: given for name, given in cases.items() if num_workers(given) == world}
        workers = run(chosen, world, tiny, folder / str(world))
        for name in chosen:
            results[name] = [worker[name] for worker in workers], reference[name]
    return results


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_weights_are_those_of_one_worker_with_all_rows(found, name):
    workers, alone = found[name]
    assert not any(worker["errors"] for worker in workers)
    for worker in workers:
        assert relative_difference(worker["gradients"], alone["gradients"]) < 1e-6
        assert relative_difference(worker["weights"], alone["weights"]) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_losses_are_logged_as_one_worker_logs_them(found, name):
    workers, alone = found[name]
    for logged, expected in zip(workers[0]["losses"], alone["losses"], strict=True):
        assert logged == pytest.approx(expected, abs=2e-3)  # fairseq rounds to 3 digits


def test_without_it_each_worker_contrasts_its_own_rows(found):
    """The comparison above can fail: another contrast set is another gradient."""
    workers, alone = found["apart"]
    assert relative_difference(workers[0]["gradients"], alone["gradients"]) > 1e-2
    assert relative_difference(workers[0]["gradients"], workers[1]["gradients"]) == 0
    assert workers[0]["gathers"] == [0] * 10


@pytest.mark.parametrize("name", ["uneven", "chunks, pytorch_ddp", "idle at the end", "three"])
def test_one_collective_an_update(found, name):
    """The first one finds out how large batches are."""
    for worker in found[name][0]:
        assert worker["gathers"] == [2, *[1] * 9]
        assert worker["gathers_in_validation"] == 0


def test_a_larger_batch_costs_one_collective_more(found):
    for worker in found["uneven, growing"][0]:
        assert worker["gathers"] == [2, *[1] * 4, 2, *[1] * 4]


def test_one_worker_gathers_nothing(found):
    assert not any(any(alone["gathers"]) for _, alone in found.values())


@pytest.mark.parametrize("name", UNTIED)
def test_a_wrapper_that_would_fail_is_refused_before_the_first_update(found, name):
    for worker in found[name][0]:
        (error,) = worker["errors"]
        assert "--find-unused-parameters" in error
        assert "\n" not in error
        assert worker["losses"] == []


def test_positives_of_other_workers_are_counted(found):
    """One row a worker: without the others no anchor would have a positive."""
    workers, _ = found["one row each"]
    assert {log["anchors_with_positive"] for log in workers[0]["losses"]} == {0, 100}


def test_an_idle_worker_logs_nothing(found):
    workers, alone = found["two of three are idle"]
    assert workers[0]["losses"][0] == pytest.approx(alone["losses"][0], abs=2e-3)
    assert math.isfinite(workers[0]["losses"][0]["loss"])


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_those_of_all_rows(found, name):
    """The losses differ: validation contrasts each worker's rows."""
    workers, alone = found[name]
    scores = {"accuracy", *(["mcc"] if name == "mcc" else ["f1", "acc_and_f1"])}
    expected = {key: alone["validated"][key] for key in scores}
    assert 0 < expected[name] < 100
    for worker in workers:
        assert {key: worker["validated"][key] for key in scores} == expected


def test_half_precision(found):
    """Sums in half precision differ, but far less than another contrast set makes them."""
    workers, alone = found["half, all"]
    apart, _ = found["half, none"]
    expected = alone["gradients"]
    of_contrast = relative_difference(apart[0]["gradients"], expected)
    for worker in workers:
        assert all(tensor.isfinite().all() for tensor in worker["gradients"].values())
        assert relative_difference(worker["gradients"], expected) < 0.05 * of_contrast
