"""Sweeps on a cluster of stand-ins for Slurm's commands: which jobs are lost, and when."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scl_fairseq.experiments import cluster
from scl_fairseq.experiments.cluster import FAILURE, Resources
from scl_fairseq.experiments.worker import DONE, FAILED, RESULT
from tests import runs

pytest.importorskip("submitit")


class Slurm:
    """Commands that answer from files: jobs are numbered from 7 on, and nothing runs."""

    def __init__(self, folder):
        self.folder = folder
        self.script = f"""#!{sys.executable}
import json, pathlib, re, sys
folder = pathlib.Path({str(folder)!r})
name = pathlib.Path(sys.argv[0]).name
if name == "sbatch":
    text = pathlib.Path(sys.argv[-1]).read_text()
    known = json.loads((folder / "submitted").read_text())
    known.append(text)
    (folder / "submitted").write_text(json.dumps(known))
    print("Submitted batch job", 6 + len(known))
elif name == "sacct":  # accounting that is not there, or that knows better
    sys.exit((folder / "sacct").read_text())
elif name == "squeue":
    looks = json.loads((folder / "looks").read_text())
    print(looks[0])
    (folder / "looks").write_text(json.dumps(looks[1:] or looks))
"""
        for name in ("sbatch", "squeue", "sacct", "srun", "scancel"):
            (folder / name).write_text(self.script, "utf-8")
            (folder / name).chmod(0o755)
        (folder / "submitted").write_text("[]", "utf-8")
        (folder / "sacct").write_text("Slurm accounting storage is disabled", "utf-8")

    def shows(self, *looks):
        """What squeue prints, look by look; the last one again and again."""
        (self.folder / "looks").write_text(json.dumps(looks), "utf-8")

    @property
    def submitted(self):
        return json.loads((self.folder / "submitted").read_text("utf-8"))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(cluster, "SECONDS_BETWEEN_LOOKS", {"slurm": 0.02})
    monkeypatch.setattr(cluster, "GRACE", {"slurm": 0.2})
    return Slurm(tmp_path / "bin")


@pytest.fixture
def resources(tmp_path):
    def make(**changes):
        defaults = {
            **{"cluster": "slurm", "folder": tmp_path / "out" / "cluster", "partition": None},
            **{"gpus": 0, "cpus": 3, "hours": 1, "array_size": 4, "trials_per_job": 1},
            **{"workers": 1, "threads": 1},
        }
        return Resources(**{**defaults, **changes})

    return make


@pytest.fixture
def tasks(tmp_path):
    return [
        {"trial": str(number), "folder": str(tmp_path / "out" / "trials" / str(number))}
        for number in range(5)
    ]


def settle(task, name, content):
    folder = Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), "utf-8")


def test_a_job_that_left_nothing_is_lost_whatever_sacct_says(slurm, resources, tasks):
    running = "7 0 RUNNING\n7 1 RUNNING\n7 2 RUNNING"
    slurm.shows(running, running, "7 0 COMPLETED\n7 1 CANCELLED\n6 N/A RUNNING")
    settle(tasks[0], RESULT, {"trial": "0"})
    events = []
    resources().run_tasks(tasks[:3], events.append)
    assert events[0] == {"event": DONE, "trial": "0", "record": {"trial": "0"}}
    assert [event["event"] for event in events[1:]] == [FAILED, FAILED]
    errors = [event["error"].partition(";")[0] for event in events[1:]]
    assert errors == [
        "job 7_1 ended (CANCELLED) without a result",
        "job 7_2 ended (gone from the queue) without a result",
    ]


def test_a_job_that_is_run_again_is_not_lost(slurm, resources, tasks):
    """Each time it stays in the queue for longer than the patience with jobs that ended."""
    ended, waits = "7 N/A NODE_FAIL", "7 N/A PENDING"
    slurm.shows(ended, ended, *[waits] * 15, ended, ended, *["7 N/A RUNNING"] * 15, "")
    events = []

    def on_event(event):
        events.append((event["event"], event["error"].partition(";")[0]))

    started = time.monotonic()
    resources().run_tasks(tasks[:1], on_event)
    assert events == [(FAILED, "job 7 ended (gone from the queue) without a result")]
    assert time.monotonic() - started > 30 * 0.02 + 0.2


def test_results_that_come_late_are_no_loss(slurm, resources, tasks):
    slurm.shows("")
    events = []
    original = cluster._report

    def report(task, on_event):
        seen.append(task)
        if len(seen) == 3:
            settle(task, RESULT, {"trial": "0"})
        return original(task, on_event)

    seen = []
    cluster._report = report
    try:
        resources().run_tasks(tasks[:1], events.append)
    finally:
        cluster._report = original
    assert [event["event"] for event in events] == [DONE]


def test_what_the_jobs_are_asked_for(slurm, resources, tasks):
    slurm.shows("")
    resources(array_size=2, trials_per_job=2, hours=0.001, partition="p").run_tasks(
        tasks, lambda event: None
    )
    (script,) = slurm.submitted
    lines = script.splitlines()
    for line in ("--array=0-2%2", "--time=1", "--partition=p", "--cpus-per-task=3"):
        assert f"#SBATCH {line}" in lines
    # One that kills would come 90 s before the end, which here is before the start.
    assert "#SBATCH --signal=CONT@1" in lines
    (command,) = (line for line in lines if line.startswith("srun "))
    assert "--cpus-per-task 3" in command.partition(" -m ")[0]


def test_what_slurm_refuses_is_told_once(slurm, resources, tasks, capfd):
    slurm.shows("")
    refusal = "#!/bin/sh\necho 'sbatch: error: no such' >&2\necho 'sbatch: partition' >&2\nexit 1\n"
    (slurm.folder / "sbatch").write_text(refusal, "utf-8")
    message = "--cluster slurm: sbatch: error: no such sbatch: partition"
    with pytest.raises(ValueError, match=message) as error:
        resources().run_tasks(tasks, lambda event: None)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_arrays_are_no_longer_than_slurm_takes(slurm, resources, tasks, monkeypatch):
    monkeypatch.setattr(cluster, "LARGEST_ARRAY", 2)
    slurm.shows("")
    events = []
    resources().run_tasks(tasks, events.append)
    assert len(events) == 5
    arrays = [[x for x in text.splitlines() if "--array" in x] for text in slurm.submitted]
    assert arrays == [["#SBATCH --array=0-1%2"]] * 2 + [[]]
    jobs = json.loads((resources().folder / cluster.JOBS).read_text("utf-8"))
    assert jobs == ["7_0", "7_1", "8_0", "8_1", "9"]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("7 1 RUNNING", "still run (7)"),
        ("7 0 COMPLETED\n7 1 SUSPENDED", "still run (7)"),
        ("7 0 COMPLETED\n7 1 COMPLETED\n71 N/A RUNNING", None),
    ],
)
def test_jobs_of_an_earlier_sweep(slurm, resources, tasks, listed, message):
    folder = resources().folder
    folder.mkdir(parents=True)
    (folder / cluster.JOBS).write_text('["7_0", "7_1"]', "utf-8")
    slurm.shows(listed, "")
    if message is None:
        resources().run_tasks(tasks, lambda event: None)
        assert len(slurm.submitted) == 1
    else:
        with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
            resources().run_tasks(tasks, lambda event: None)
        assert slurm.submitted == []


def test_nothing_is_submitted_where_slurm_does_not_answer(slurm, resources, tasks):
    folder = resources().folder
    folder.mkdir(parents=True)
    (folder / cluster.JOBS).write_text('["7_0"]', "utf-8")
    (slurm.folder / "squeue").write_text("#!/bin/sh\necho no controller >&2\nexit 1\n", "utf-8")
    with pytest.raises(ValueError, match="--cluster slurm: squeue failed: no controller"):
        resources().run_tasks(tasks, lambda event: None)
    assert slurm.submitted == []


# A job whose workers are stand-ins: they say that they live, and then do nothing.
JOB = """
import json, sys
from scl_fairseq.experiments import cluster, worker_pool
worker_pool.WORKER = "import time, os; os.makedirs({pids!r}, exist_ok=True); " \\
    "open(os.path.join({pids!r}, str(os.getpid())), 'w'); time.sleep(600)"
cluster.run_job(sys.argv[1], sys.argv[2])
"""


@pytest.fixture
def job(tmp_path, resources, tasks):
    """A running job, and the process of its worker."""
    values = {**vars(resources(threads=2)), "folder": str(tmp_path / "out" / "cluster")}
    for task in tasks:
        Path(task["folder"]).mkdir(parents=True)
    code = JOB.format(pids=str(tmp_path / "pids"))
    command = [sys.executable, "-c", code, json.dumps(tasks), json.dumps(values)]
    process = subprocess.Popen(command, env=runs.ENVIRONMENT, cwd=runs.ROOT)
    yield process, lambda: sorted((tmp_path / "pids").glob("*"))
    process.kill()
    process.wait()


def test_a_job_that_is_ended_or_requeued_leaves_no_failure(job, tasks):
    """Slurm sends a signal to all of a job's processes; workers die first."""
    process, workers = job
    deadline = time.monotonic() + 300
    while not workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (worker,) = workers()
    os.kill(int(worker.name), signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 128 + signal.SIGTERM
    assert not any((Path(task["folder"]) / FAILURE).exists() for task in tasks)


def test_a_worker_that_dies_alone_is_a_failure(job, tasks):
    process, workers = job
    failure = Path(tasks[0]["folder"]) / FAILURE
    deadline = time.monotonic() + 300
    while not failure.exists():
        for worker in workers()[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker.name), signal.SIGKILL)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "SIGKILL (out of memory?)" in json.loads(failure.read_text("utf-8"))["error"]
    process.send_signal(signal.SIGTERM)  # it went on with the next trial
    assert process.wait(timeout=300) == 128 + signal.SIGTERM


def test_a_job_that_runs_again_does_what_is_left(tasks, tmp_path, resources, monkeypatch):
    from scl_fairseq.experiments import worker_pool

    settle(tasks[0], RESULT, {})
    settle(tasks[1], FAILURE, {})  # the sweep has heard of it
    seen = []
    monkeypatch.setattr(worker_pool, "run_tasks", lambda left, slots, on_event: seen.append(left))
    before = signal.getsignal(signal.SIGTERM)
    try:
        values = json.dumps({**vars(resources()), "folder": str(tmp_path)})
        cluster.run_job(json.dumps(tasks), values)
        cluster.run_job(json.dumps(tasks[:2]), values)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [tasks[2:]]
