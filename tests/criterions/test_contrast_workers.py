"""Views, queues, copies and frozen encoders: two workers are one worker with all their rows."""

import itertools

import pytest
import torch

from tests.data_parallel import PYTORCH, case, relative_difference, run, together

K = 11  # no multiple of any batch
QUEUED = ["--scl-queue-size", str(K)]
MOMENTUM = [*QUEUED, "--scl-momentum", "0.6"]
SUPCON = ["--criterion", "supcon", "--supcon-projection-dim", "8"]
FROZEN = ["--freeze-encoder", "--scl-lambda", "0", "--pooler-activation-fn", "linear"]
UNSUPERVISED = [*SUPCON, "--supcon-unsupervised"]


def updates_of(*counts, number=6):
    """Batches of so many rows for each worker, out of 64, again and again."""
    rows = itertools.cycle(range(64))
    return [[list(itertools.islice(rows, count)) for count in counts] for _ in range(number)]


CASES = {
    "queue": case(updates_of(4, 4), *QUEUED),
    "queue, uneven": case(updates_of(6, 3), *QUEUED),
    "queue, batches larger than K": case(updates_of(9, 7), *QUEUED),
    "queue, sum": case(updates_of(5, 3), *QUEUED, "--scl-reduction", "sum"),
    "momentum, uneven": case(updates_of(2, 5), *MOMENTUM),
    "momentum, pytorch_ddp": case(updates_of(4, 4), *MOMENTUM, backend=PYTORCH),
    "momentum, two micro-batches": case(
        [[[[0, 1, 2], [3, 4]], [[5, 6], [7, 8, 9]]] for _ in range(6)], *MOMENTUM
    ),
    "momentum, idle": case(
        [[[], [5, 6, 7]], *updates_of(4, 4, number=5)], *MOMENTUM, dummies=[[40, 41, 42, 43], None]
    ),
    "momentum, chunks": case(updates_of(7, 4), *MOMENTUM, "--scl-chunk-size", "3", "--scl-packed"),
    "frozen": case(updates_of(5, 3), *FROZEN),
    # All that is trained is used.
    "frozen, pytorch_ddp": case(updates_of(4, 4), *FROZEN, "--no-find-unused", backend=PYTORCH),
    "supcon": case(updates_of(4, 4), *SUPCON),
    "supcon, pytorch_ddp": case(updates_of(4, 4), *SUPCON, backend=PYTORCH),
    "supcon, uneven, L_in": case(updates_of(5, 3), *SUPCON, "--supcon-average", "in"),
    "supcon, idle": case(
        [*updates_of(4, 4, number=5), [[3, 9, 20], []]], *SUPCON, dummies=[None, [50, 51]]
    ),
    "supcon, queue": case(updates_of(3, 4), *SUPCON, *QUEUED),
    "supcon, momentum": case(updates_of(3, 4), *SUPCON, *MOMENTUM),
    "unsupervised": case(updates_of(3, 5), *UNSUPERVISED),
    "unsupervised, queue": case(updates_of(3, 4), *UNSUPERVISED, *QUEUED),
    "unsupervised, momentum": case(
        updates_of(3, 4), *UNSUPERVISED, "--supcon-views", "1", *MOMENTUM
    ),
}


@pytest.fixture(scope="module")
def found(tiny, tmp_path_factory):
    """What each of two workers found, and what one alone finds with all rows."""
    folder = tmp_path_factory.mktemp("workers")
    cases = {name: together(given) for name, given in CASES.items()}
    (alone,) = run(cases, 1, tiny, folder / "one")
    return run(CASES, 2, tiny, folder / "two"), alone


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_weights_are_those_of_one_worker_with_all_rows(found, name):
    workers, alone = found[0], found[1][name]
    for worker in (worker[name] for worker in workers):
        assert not worker["errors"]
        assert relative_difference(worker["gradients"], alone["gradients"]) < 1e-6
        assert relative_difference(worker["weights"], alone["weights"]) < 1e-5


@pytest.mark.parametrize("name", [n for n in CASES if "--scl-queue-size" in CASES[n]["flags"]])
def test_queues_and_copies_are_those_of_one_worker_with_all_rows(found, name):
    workers, alone = found[0], found[1][name]["state"]
    states = [worker[name]["state"] for worker in workers]
    for state in states:
        assert state.keys() == alone.keys()
        assert (state["queue"]["next"], state["queue"]["filled"]) == (alone["queue"]["next"], K)
        assert torch.equal(state["queue"]["labels"], alone["queue"]["labels"])
        torch.testing.assert_close(
            state["queue"]["rows"], alone["queue"]["rows"], rtol=1e-4, atol=1e-6
        )
        if "momentum" in alone:
            one, other = (each["momentum"]["weights"] for each in (state, alone))
            assert relative_difference(one, other) < 1e-5
    assert torch.equal(*(state["queue"]["rows"] for state in states))


@pytest.mark.parametrize("name", CASES)
def test_losses_are_logged_as_one_worker_logs_them(found, name):
    workers, alone = found
    for logged, expected in zip(workers[0][name]["losses"], alone[name]["losses"], strict=True):
        assert logged == pytest.approx(expected, abs=2e-3)  # fairseq rounds to 3 digits
