"""The trials of a sweep as jobs of a cluster, submitted and followed by ``submitit``."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.experiments import worker, worker_pool
from scl_fairseq.experiments.worker_pool import Slot, make_slots, visible_gpus
from scl_fairseq.files import write_text

SLURM, LOCAL = "slurm", "local"
FAILURE, JOBS = "failure.json", "jobs.json"
SECONDS_BETWEEN_LOOKS = {SLURM: 10.0, LOCAL: 0.5}
# How long a node's files may take to be seen from here (NFS).
GRACE = {SLURM: 90.0, LOCAL: 0.0}


@dataclass(frozen=True)
class Resources:
    """What a job is given.

    Attributes:
        cluster: ``slurm``, or ``local``: jobs are processes of this machine.
        folder: for submitit's files; must be visible to all nodes, as the results' folder.
        partition: of Slurm, or None for its default.
        gpus, cpus: of a job.
        hours: its time limit.
        array_size: jobs that run at the same time.
        trials_per_job: how many trials share the start of a job.
        workers, threads: of the warm processes in a job; by default one a GPU, or one with all
            cores.
    """

    cluster: str
    folder: Path
    partition: str | None
    gpus: int
    cpus: int
    hours: float
    array_size: int
    trials_per_job: int
    workers: int | None
    threads: int | None

    def slots(self) -> list[Slot]:
        """Where the warm processes run, asked in the job, whose GPUs the cluster has named."""
        return make_slots(visible_gpus(self.gpus), self.cpus, self.workers, self.threads)

    def run_tasks(
        self,
        tasks: Sequence[Mapping[str, Any]],
        on_event: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Submit jobs for the tasks and pass on what they find, as ``worker_pool.run_tasks`` does.

        Ctrl-C leaves jobs of Slurm alone: their results are taken up by the next sweep into the
        same folder, which is refused as long as they run.

        Raises:
            FileNotFoundError: submitit is not installed.
            ValueError: the cluster cannot be used from here, or jobs of an earlier sweep run.
        """
        executor = self._executor()
        self._refuse_while_jobs_run()
        for task in tasks:  # of an earlier sweep
            (Path(task["folder"]) / FAILURE).unlink(missing_ok=True)
        size = self.trials_per_job
        chunks = [list(tasks[i : i + size]) for i in range(0, len(tasks), size)]
        # Slurm itself holds back what exceeds the array's size.
        at_once = len(chunks) if self.cluster == SLURM else self.array_size
        running: list[_Running] = []
        submitted: list[str] = []
        try:
            while chunks or running:
                free = at_once - len(running)
                starting, chunks = chunks[:free], chunks[free:]
                if starting:
                    jobs = self._submit(executor, starting)
                    submitted += [job.job_id for job in jobs]
                    write_text(self.folder / JOBS, json.dumps(submitted, allow_nan=False) + "\n")
                    running += map(_Running, jobs, starting)
                running = [job for job in running if job.follow(on_event, GRACE[self.cluster])]
                if running:
                    time.sleep(SECONDS_BETWEEN_LOOKS[self.cluster])
        except BaseException:
            if self.cluster == LOCAL:
                for own in running:
                    own.job.cancel()
            raise

    def _submit(self, executor, chunks: list[list[Mapping[str, Any]]]) -> list:
        import submitit

        try:
            with executor.batch():
                return [executor.submit(run_job, chunk, self) for chunk in chunks]
        except submitit.core.utils.FailedJobError as error:
            raise ValueError(f"--cluster {self.cluster}: {error}") from None

    def _refuse_while_jobs_run(self) -> None:
        path = self.folder / JOBS
        if not path.is_file():
            return
        known = json.loads(path.read_text("utf-8"))
        alive = _in_slurm(known) if self.cluster == SLURM else [i for i in known if _is_local(i)]
        if alive:
            raise ValueError(
                f"jobs of an earlier sweep into {self.folder.parent} still run "
                f"({', '.join(alive[:5])}): wait for them or cancel them"
            )

    def _executor(self):
        try:
            import submitit
        except ModuleNotFoundError:
            raise FileNotFoundError(
                'submitit is not installed: pip install ".[cluster]" in a clone of scl-fairseq'
            ) from None
        try:
            executor = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
        except RuntimeError as error:
            raise ValueError(f"--cluster {self.cluster}: {error}") from None
        executor.update_parameters(
            name="scl-sweep",
            timeout_min=max(1, round(60 * self.hours)),
            gpus_per_node=self.gpus,
            cpus_per_task=self.cpus,
            slurm_array_parallelism=self.array_size,
            **({"slurm_partition": self.partition} if self.partition else {}),
        )
        return executor


class _Running:
    """A job and those of its trials that have not been heard of."""

    def __init__(self, job: Any, tasks: list[Mapping[str, Any]]):
        self.job, self._left = job, tasks
        self._ended: float | None = None

    def follow(self, on_event: Callable[[Mapping[str, Any]], None], grace: float) -> bool:
        """Report what there is to report; whether more may come."""
        if self._ended is None and self.job.done():  # asked first: all that it wrote is there now
            self._ended = time.monotonic()
        self._left = [task for task in self._left if not _report(task, on_event)]
        if self._left and self._ended is not None and time.monotonic() >= self._ended + grace:
            for task in self._left:
                on_event(_lost(task, self.job))
            self._left = []
        return bool(self._left)


def _is_local(job_id: str) -> bool:
    """Whether a job of this machine, whose id is its process's, still runs."""
    try:
        command = Path(f"/proc/{job_id}/cmdline").read_bytes()
    except OSError:
        return False
    return b"submitit" in command


def _in_slurm(job_ids: Sequence[str]) -> list[str]:
    """Those that are in Slurm's queue, an array's jobs under the array's number."""
    listed = subprocess.run(
        ["squeue", "--me", "--noheader", "--format", "%A"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    queued = set(listed.stdout.split())
    return sorted({job_id.partition("_")[0] for job_id in job_ids} & queued)


def _report(task: Mapping[str, Any], on_event: Callable[[Mapping[str, Any]], None]) -> bool:
    folder = Path(task["folder"])
    result, failure = folder / worker.RESULT, folder / FAILURE
    if result.is_file():
        record = json.loads(result.read_text("utf-8"))
        on_event({"event": worker.DONE, "trial": task["trial"], "record": record})
    elif failure.is_file():
        on_event(json.loads(failure.read_text("utf-8")))
    else:
        return False
    return True


def _lost(task: Mapping[str, Any], job: Any) -> dict[str, Any]:
    return {
        "event": worker.FAILED,
        "trial": task["trial"],
        "error": f"job {job.job_id} ended ({job.state}) without a result; see {job.paths.stderr}",
    }


def run_job(tasks: Sequence[Mapping[str, Any]], resources: Resources) -> None:
    """What a job does: its trials in warm processes, results and failures as files."""
    folders = {task["trial"]: Path(task["folder"]) for task in tasks}

    def on_event(event: Mapping[str, Any]) -> None:
        print(
            json.dumps({key: event[key] for key in event if key != "record"}, allow_nan=False),
            flush=True,
        )
        if event["event"] == worker.FAILED:
            write_text(folders[event["trial"]] / FAILURE, json.dumps(event, allow_nan=False) + "\n")

    # Slurm runs a job again whose node has failed.
    left = [task for task in tasks if not (folders[task["trial"]] / worker.RESULT).is_file()]
    worker_pool.run_tasks(left, resources.slots(), on_event)
