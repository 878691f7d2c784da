"""scl-sweep --cluster slurm: jobs of an array, killed, requeued, out of time, left alone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests import runs

# The command as it is, but for its patience, which is for clusters with slow file systems.
QUICK = """
import sys
from scl_fairseq.experiments import cluster
cluster.SECONDS_BETWEEN_LOOKS, cluster.GRACE = {"slurm": 0.5}, {"slurm": 3.0}
from scl_fairseq.cli.sweep import main
sys.exit(main())
"""
SHORT, SECONDS, ENDLESS = 2, 150, 10**6  # epochs


@pytest.fixture(scope="module")
def config(tiny, tmp_path_factory):
    """``config(epochs, seeds)``: a sweep of the tiny encoder, a trial a seed."""
    folder = tmp_path_factory.mktemp("slurm-config")

    def write(epochs, seeds=(1, 2)):
        values = {
            "data": str(tiny.data),
            "grid": {"seed": list(seeds)},
            "options": {
                "finetune-from-model": str(tiny.encoder / "model.pt"),
                "batch-size": 8,
                "lr": 1e-3,
                "lr-scheduler": "fixed",
                "max-epoch": epochs,
                "validate-interval": epochs if epochs == SHORT else 50,
            },
        }
        path = folder / f"{epochs}-{len(seeds)}.yaml"
        path.write_text(yaml.safe_dump(values), "utf-8")
        return path

    return write


def command(config, out, *options, program=("-c", QUICK), where=("--cluster", "slurm")):
    job = ("--cpus", 1, "--threads", 1, "--trials-per-job", 1) if "slurm" in where else ()
    words = [sys.executable, *program, config, "--out", out, "--cpu", *where, *job, *options]
    return list(map(str, words))


def start(*arguments, **kwargs):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        command(*arguments, **kwargs), **how, cwd=runs.ROOT, env=runs.ENVIRONMENT
    )


def end_of(process, code=0):
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, out + err
    return SimpleNamespace(out=out, err=err)


def lines(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def slurm(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def waiting(condition, seconds=600):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def jobs_of(out):
    """Jobs that the sweep has submitted, once each has a trial that trains."""

    def training():
        known = out / "cluster" / "jobs.json"
        logs = list(out.glob("trials/*/train.log"))
        jobs = json.loads(known.read_text()) if known.exists() else []
        has_begun = [log for log in logs if "Start iterating over samples" in log.read_text()]
        return jobs if jobs and len(has_begun) >= len(jobs) else None

    return waiting(training)


def process_of(job):
    """Of a job of an array that its trials run in."""
    array, _, place = job.partition("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={place}"}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_text().split("\0")
            variables = (folder / "environ").read_text().split("\0")
            is_python = "python" in Path(words[0]).name  # and neither srun nor its shell
            if is_python and "submitit.core._submit" in words and wanted <= set(variables):
                return int(folder.name)
    raise AssertionError(f"job {job} has no process")


def state(job):
    """What Slurm itself says of a job, in another way than the sweep asks."""
    shown = slurm("scontrol", "show", "job", job)
    return shown.partition("JobState=")[2].split()[0]


@pytest.fixture(scope="module", autouse=True)
def out_of_time(config, tmp_path_factory):
    """A sweep whose jobs may take a minute, which passes beside the other tests."""
    out = tmp_path_factory.mktemp("time") / "out"
    started = time.monotonic()
    process = start(config(ENDLESS, seeds=(1,)), out, "--hours", 0.001)
    yield out, started, process
    process.kill()  # where its own test was left out
    process.communicate()


def test_accounting_is_there_or_not_as_was_asked():
    done = subprocess.run(["sacct"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == bool(os.environ.get("ACCOUNTING")), done.stderr


def test_jobs_of_an_array_find_what_this_machine_finds(config, tmp_path):
    path, out = config(SHORT, seeds=(1, 2, 3)), tmp_path / "out"
    options = ("--trials-per-job", 2, "--array-size", 2)
    program = ("-m", "scl_fairseq.cli.sweep")
    said = end_of(start(path, out, *options, program=program))
    assert "3 of 3 trials have a result" in said.out
    assert "sacct" not in said.err
    here = tmp_path / "here"
    end_of(start(path, here, "--threads", 1, where=()))
    by_id = {record["trial"]: record for record in lines(here / "results.jsonl")}
    assert len(by_id) == 3
    for record in lines(out / "results.jsonl"):
        for key in ("valid_accuracy", "test_accuracy", "train_loss"):
            assert record[key] == by_id[record["trial"]][key]
    (script,) = (out / "cluster").glob("[0-9]*.sh")
    assert "--array=0-1%2" in script.read_text()
    jobs = json.loads((out / "cluster" / "jobs.json").read_text())
    assert [job.partition("_")[2] for job in jobs] == ["0", "1"]
    for job in jobs:  # a trial's files lie where its job ran
        assert list((out / "cluster").glob(f"{job}_*_log.out"))


def test_jobs_that_are_killed_are_lost_and_tried_again(config, tmp_path):
    path, out = config(SECONDS), tmp_path / "out"
    process = start(path, out)
    cancelled, killed = jobs_of(out)
    slurm("scancel", cancelled)
    os.kill(process_of(killed), signal.SIGKILL)  # scancel's own SIGKILL would cancel
    said = end_of(process, code=1)
    assert "0 of 2 trials have a result" in said.out
    errors = sorted(failure["error"] for failure in lines(out / "failures.jsonl"))
    assert [error.partition(" without a result")[0] for error in errors] == [
        f"job {cancelled} ended (CANCELLED)",
        f"job {killed} ended (FAILED)",
    ]
    said = end_of(start(path, out))
    assert "2 of 2 trials have a result" in said.out
    assert len(lines(out / "results.jsonl")) == 2


def test_a_job_that_is_requeued_is_waited_for(config, tmp_path):
    path, out = config(SECONDS, seeds=(1,)), tmp_path / "out"
    process = start(path, out)
    (job,) = jobs_of(out)
    assert "_" not in job  # a job alone is no array
    slurm("scontrol", "requeue", job)
    waiting(lambda: state(job) == "PENDING")
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")  # else in two minutes
    said = end_of(process)
    assert "1 of 1 trials have a result" in said.out
    assert lines(out / "failures.jsonl") == []
    assert len(lines(out / "results.jsonl")) == 1
    assert "Restarts=1" in slurm("scontrol", "show", "job", job)


def test_an_interrupted_sweep_is_taken_up(config, tmp_path):
    path, out = config(SECONDS), tmp_path / "out"
    process = start(path, out)
    jobs = jobs_of(out)
    for job in jobs:
        slurm("scontrol", "suspend", job)  # neither runs nor waits, and is not lost
    time.sleep(5)  # longer than the patience with jobs that have ended
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=600)
    assert process.returncode == 130
    assert lines(out / "failures.jsonl") == []
    array = jobs[0].partition("_")[0]
    said = end_of(start(path, out), code=2)
    assert f"jobs of an earlier sweep into {out} still run ({array})" in said.err
    assert len(said.err.strip().splitlines()) == 1
    for job in jobs:
        slurm("scontrol", "resume", job)
    waiting(lambda: {state(job) for job in jobs} == {"COMPLETED"})
    said = end_of(start(path, out))
    assert "2 of 2 trials have a result already" in said.err
    assert json.loads((out / "cluster" / "jobs.json").read_text()) == jobs  # no others


def test_a_job_that_slurm_refuses(config, tmp_path):
    said = end_of(start(config(SHORT), tmp_path / "out", "--partition", "none-such"), code=2)
    assert "scl-sweep: error: --cluster slurm: " in said.err
    assert "partition" in said.err
    assert len(said.err.strip().splitlines()) == 1, said.err


def test_a_time_limit_ends_jobs_no_earlier_than_it_says(out_of_time):
    out, started, process = out_of_time
    said = end_of(process, code=1)
    assert time.monotonic() - started > 60
    assert "0 of 1 trials have a result" in said.out
    (failure,) = lines(out / "failures.jsonl")
    assert "ended (TIMEOUT) without a result" in failure["error"]
