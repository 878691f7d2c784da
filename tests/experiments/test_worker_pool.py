"""Workers that share a GPU: stand-ins answer in place of trainings, in real processes."""

import json
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from scl_fairseq.experiments import worker_pool
from scl_fairseq.experiments.worker_pool import make_slots, run_tasks

GIB = 1 << 30
# Says where it runs and when; a task's own ``held`` GiB of a card of ``total`` decide the rest.
STAND_IN = """
import fcntl, json, os, pathlib, sys, time

folder = pathlib.Path({folder!r})
me = "%s-%d" % (os.environ["CUDA_VISIBLE_DEVICES"], os.getpid())
gpu = os.environ["CUDA_VISIBLE_DEVICES"]
GIB = 1 << 30


def used(change):
    with open(folder / gpu, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        now = float(file.read() or 0) + change
        if now > {total}:
            return None
        file.truncate(0)
        file.write(str(now))
        return now


for line in sys.stdin:
    task = json.loads(line)
    with open(folder / "log", "a") as log:
        log.write(json.dumps({{"trial": task["trial"], "worker": me, "what": "begins"}}) + "\\n")
    answer = {{"event": "failed", "trial": task["trial"], "error": task.get("error", "")}}
    now = used(task["held"])
    if now is None:
        answer["error"] = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    else:
        time.sleep(task.get("seconds", 0.3))
        used(-task["held"])
        record = {{"peak_memory_bytes": (task["held"] - 1) * GIB,
                  "gpu_free_bytes": ({total} - now) * GIB}}
        if not answer["error"]:
            answer = {{"event": "done", "trial": task["trial"], "record": record, "worker": me}}
    with open(folder / "log", "a") as log:
        log.write(json.dumps({{"trial": task["trial"], "worker": me, "what": "ends"}}) + "\\n")
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """``pool(tasks, slots, total)``: events by trial, and the log of a run on cards of so much."""

    def run(tasks, slots, total=16):
        code = textwrap.dedent(STAND_IN).format(folder=str(tmp_path), total=total)
        monkeypatch.setattr(worker_pool, "WORKER", f"exec({code!r})")
        events = []
        tasks = [{"trial": str(number), **task} for number, task in enumerate(tasks)]
        run_tasks(tasks, slots, events.append)
        lines = (tmp_path / "log").read_text("utf-8").splitlines()
        ends = Counter(event["trial"] for event in events)
        assert ends == Counter(task["trial"] for task in tasks)  # each ends once
        return {event["trial"]: event for event in events}, list(map(json.loads, lines))

    return run


def at_once(log):
    """The most workers that were busy at the same time, for each GPU."""
    busy, most = {}, Counter()
    for line in log:
        gpu = line["worker"].partition("-")[0]
        workers = busy.setdefault(gpu, set())
        (workers.add if line["what"] == "begins" else workers.discard)(line["worker"])
        most[gpu] = max(most[gpu], len(workers))
    return dict(most)


def test_so_many_on_each_gpu(pool):
    slots = make_slots(["3", "GPU-5"], cores=1, per_gpu=2)
    assert [(slot.gpu, slot.place) for slot in slots] == [
        ("3", 0), ("GPU-5", 0), ("3", 1), ("GPU-5", 1),
    ]  # fmt: skip
    events, log = pool([{"held": 2, "seconds": 1.5}] * 8, slots)
    assert {event["event"] for event in events.values()} == {"done"}
    assert len({line["worker"] for line in log}) == 4
    assert at_once(log)["3"] == 2


@pytest.mark.parametrize(
    ("total", "held", "cores", "expected"),
    [
        (16, 4, 16, 1 + int(0.9 * 12 // 4)),  # by memory
        (16, 2, 4, 4),  # by cores
        (16, 15, 16, 1),  # no room for another
    ],
)
def test_as_many_as_the_first_trial_leaves_room_for(pool, total, held, cores, expected):
    slots = make_slots(["0"], cores=cores, per_gpu="auto")
    assert len(slots) == cores
    events, log = pool([{"held": held, "seconds": 0.5}] * 12, slots, total)
    assert {event["event"] for event in events.values()} == {"done"}
    assert [line["what"] for line in log[:2]] == ["begins", "ends"]  # the first one is alone
    assert len({line["worker"] for line in log}) == expected


def test_a_full_gpu_loses_workers_and_no_trial(pool):
    """The first trial was small: three workers of the four are too many for the others."""
    tasks = [{"held": 4}, *[{"held": 7, "seconds": 1}] * 6]
    events, log = pool(tasks, make_slots(["0"], cores=4, per_gpu="auto"))
    assert {event["event"] for event in events.values()} == {"done"}
    begun = Counter(line["trial"] for line in log if line["what"] == "begins")
    assert max(begun.values()) > 1  # some were given back


def test_what_fits_no_gpu_has_failed(pool):
    tasks = [*[{"held": 5, "seconds": 0.5}] * 3, {"held": 20}]
    events, _ = pool(tasks, make_slots(["0"], cores=1, per_gpu=2))
    assert [event["event"] for _, event in sorted(events.items())] == ["done"] * 3 + ["failed"]
    assert "CUDA out of memory" in events["3"]["error"]


def test_other_failures_are_failures_at_once(pool):
    tasks = [{"held": 1, "error": "FloatingPointError: NaN"}, *[{"held": 1}] * 3]
    events, log = pool(tasks, make_slots(["0"], cores=1, per_gpu=2))
    assert events["0"]["error"] == "FloatingPointError: NaN"
    assert Counter(line["trial"] for line in log)["0"] == 2


def test_no_worker_waits_where_the_first_trial_fails(pool):
    tasks = [{"held": 20}, {"held": 20}, {"held": 2}]
    events, _ = pool(tasks, make_slots(["0"], cores=2, per_gpu="auto"))
    assert [event["event"] for _, event in sorted(events.items())] == ["failed", "failed", "done"]


def test_processes_on_a_cpu_are_as_before():
    assert [(slot.threads, slot.gpu) for slot in make_slots([], 4, 2)] == [(2, None)] * 2
    assert [(slot.threads, slot.gpu) for slot in make_slots([], 4)] == [(4, None)]
    assert [slot.gpu for slot in make_slots(["0", "1"], 4)] == ["0", "1"]
    assert not Path("/proc").is_dir() or make_slots([], 4, 2)[0].inherited
    assert make_slots([], 4)[0].inherited == ()
