"""The trials of a sweep as jobs of a cluster, submitted and followed by ``submitit``."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.experiments import slurm_queue, worker, worker_pool
from scl_fairseq.experiments.own_package import python_code
from scl_fairseq.experiments.worker_pool import Slot, make_slots, visible_gpus
from scl_fairseq.files import write_text

SLURM, LOCAL = "slurm", "local"
FAILURE, JOBS = "failure.json", "jobs.json"
SECONDS_BETWEEN_LOOKS = {SLURM: 10.0, LOCAL: 0.5}
# How long a node's files may take to be seen from here (NFS).
GRACE = {SLURM: 90.0, LOCAL: 0.0}
# A job that ends is told so, as its workers are: who dies of it has not failed.
SECONDS_TO_THE_END = 1.0
# Slurm's own limit (MaxArraySize) where a cluster has not set another.
LARGEST_ARRAY = 1000


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
        workers_per_gpu: in place of ``workers``; ``auto``: as memory allows.
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
    workers_per_gpu: int | str | None = None

    def slots(self) -> list[Slot]:
        """Where the warm processes run, asked in the job, whose GPUs the cluster has named."""
        gpus = visible_gpus(self.gpus)
        return make_slots(gpus, self.cpus, self.workers, self.threads, self.workers_per_gpu)

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
        is_slurm = self.cluster == SLURM
        running: list[_Running] = []
        submitted: list[str] = []
        try:
            while chunks or running:
                if is_slurm:  # not beside an array, whose jobs would be more than its size then
                    free = 0 if running else LARGEST_ARRAY
                else:
                    free = self.array_size - len(running)
                starting, chunks = chunks[:free], chunks[free:]
                if starting:
                    jobs = self._submit(executor, starting)
                    submitted += [job.job_id for job in jobs]
                    write_text(self.folder / JOBS, json.dumps(submitted, allow_nan=False) + "\n")
                    running += map(_Running, jobs, starting)
                ended = self._ended(running)  # asked first: all that they wrote is there then
                running = [
                    own
                    for own in running
                    if own.follow(on_event, ended.get(own.job.job_id), GRACE[self.cluster])
                ]
                if running:
                    time.sleep(SECONDS_BETWEEN_LOOKS[self.cluster])
        except BaseException:
            if self.cluster == LOCAL:
                for own in running:
                    own.job.cancel()
            raise

    def _ended(self, running: Sequence[_Running]) -> dict[str, str]:
        """Those of the jobs that have ended, and how."""
        jobs = [own.job for own in running]
        if self.cluster == SLURM:
            return slurm_queue.ended([job.job_id for job in jobs])
        return {job.job_id: job.state for job in jobs if job.done()}

    def _submit(self, executor, chunks: list[list[Mapping[str, Any]]]) -> list:
        import submitit

        # sbatch's own lines, which the error has again, would be shown as they come.
        silenced = contextlib.redirect_stderr(io.StringIO())
        try:
            with silenced, executor.batch():
                return [executor.submit(exec, code, {}) for code in map(self._job, chunks)]
        except submitit.core.utils.FailedJobError as error:
            said = " ".join(str(error).split())
            raise ValueError(f"--cluster {self.cluster}: {said}") from None

    def _job(self, chunk: list[Mapping[str, Any]]) -> str:
        # As text: a pickled function of this package would be looked for in the job's folder first.
        values = {**vars(self), "folder": str(self.folder)}
        call = f"run_job({json.dumps(chunk)!r}, {json.dumps(values)!r})"
        return python_code(f"from scl_fairseq.experiments.cluster import run_job; {call}")

    def _refuse_while_jobs_run(self) -> None:
        path = self.folder / JOBS
        if not path.is_file():
            return
        known = json.loads(path.read_text("utf-8"))
        if self.cluster == SLURM:
            try:
                alive = slurm_queue.alive(known)
            except ValueError as error:
                raise ValueError(f"--cluster {self.cluster}: {error}") from None
        else:
            alive = [job_id for job_id in known if _is_local(job_id)]
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
            # Since 22.05 a job's step does not get the job's cores by itself.
            slurm_srun_args=["--cpus-per-task", str(self.cpus)],
            # In place of submitit's warning, 90 s before the end: it would kill the workers.
            slurm_additional_parameters={"signal": "CONT@1"},
            **({"slurm_partition": self.partition} if self.partition else {}),
        )
        return executor


class _Running:
    """A job and those of its trials that have not been heard of."""

    def __init__(self, job: Any, tasks: list[Mapping[str, Any]]):
        self.job, self._left = job, tasks
        self._ended: float | None = None

    def follow(
        self, on_event: Callable[[Mapping[str, Any]], None], state: str | None, grace: float
    ) -> bool:
        """Report what there is to report; whether more may come.

        Args:
            on_event: is told.
            state: how the job has ended; None while it has not, or where it is run again.
            grace: seconds from its end to the loss of trials that have left nothing.
        """
        if state is None:
            self._ended = None
        elif self._ended is None:
            self._ended = time.monotonic()
        self._left = [task for task in self._left if not _report(task, on_event)]
        if self._left and state is not None and time.monotonic() >= self._ended + grace:
            for task in self._left:
                on_event(_lost(task, self.job, state))
            self._left = []
        return bool(self._left)


def _is_local(job_id: str) -> bool:
    """Whether a job of this machine, whose id is its process's, still runs."""
    try:
        command = Path(f"/proc/{job_id}/cmdline").read_bytes()
    except OSError:
        return False
    return b"submitit" in command


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


def _lost(task: Mapping[str, Any], job: Any, state: str) -> dict[str, Any]:
    return {
        "event": worker.FAILED,
        "trial": task["trial"],
        "error": f"job {job.job_id} ended ({state}) without a result; see {job.paths.stderr}",
    }


def run_job(tasks_json: str, resources_json: str) -> None:
    """What a job does: its trials in warm processes, results and failures as files."""
    tasks = json.loads(tasks_json)
    values = json.loads(resources_json)
    resources = Resources(**{**values, "folder": Path(values["folder"])})
    folders = {task["trial"]: Path(task["folder"]) for task in tasks}

    def on_event(event: Mapping[str, Any]) -> None:
        print(
            json.dumps({key: event[key] for key in event if key != "record"}, allow_nan=False),
            flush=True,
        )
        if event["event"] == worker.FAILED:
            time.sleep(SECONDS_TO_THE_END)
            write_text(folders[event["trial"]] / FAILURE, json.dumps(event, allow_nan=False) + "\n")

    signal.signal(signal.SIGTERM, _end)
    # Slurm runs a job again that was requeued, or whose node has failed.
    left = [task for task in tasks if not _is_settled(folders[task["trial"]])]
    if left:
        worker_pool.run_tasks(left, resources.slots(), on_event)


def _is_settled(folder: Path) -> bool:
    return (folder / worker.RESULT).is_file() or (folder / FAILURE).is_file()


def _end(number: int, frame: Any) -> None:
    """End a job whose time is over, that is cancelled or requeued; submitit would go on."""
    raise SystemExit(128 + number)
