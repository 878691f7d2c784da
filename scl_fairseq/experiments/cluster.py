"""The trials of a sweep as jobs of a cluster, submitted and followed by ``submitit``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.experiments import worker, worker_pool
from scl_fairseq.experiments.worker_pool import Slot
from scl_fairseq.files import write_text

SLURM, LOCAL = "slurm", "local"
FAILURE = "failure.json"
_SECONDS_BETWEEN_LOOKS = {SLURM: 10.0, LOCAL: 0.5}


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
        """Where the warm processes of a job run."""
        if self.gpus:
            count = self.workers or self.gpus
            return [Slot(self.threads or 1, str(i % self.gpus)) for i in range(count)]
        count = self.workers or 1
        return [Slot(self.threads or max(1, self.cpus // count))] * count

    def run_tasks(
        self,
        tasks: Sequence[Mapping[str, Any]],
        on_event: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Submit jobs for the tasks and pass on what they find, as ``worker_pool.run_tasks`` does.

        Ctrl-C leaves jobs of Slurm alone: the next sweep into the same folder takes up their
        results.

        Raises:
            FileNotFoundError: submitit is not installed.
            ValueError: the cluster cannot be used from here.
        """
        executor = self._executor()
        size = self.trials_per_job
        chunks = [list(tasks[i : i + size]) for i in range(0, len(tasks), size)]
        with executor.batch():
            jobs = [executor.submit(run_job, chunk, self.slots()) for chunk in chunks]
        try:
            self._follow(list(zip(jobs, chunks, strict=True)), on_event)
        except BaseException:
            if self.cluster == LOCAL:
                for job in jobs:
                    job.cancel()
            raise

    def _executor(self):
        try:
            import submitit
        except ModuleNotFoundError:
            raise FileNotFoundError(
                'submitit is not installed: pip install "scl-fairseq[cluster]"'
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

    def _follow(
        self,
        running: list[tuple[Any, list[Mapping[str, Any]]]],
        on_event: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Report every task once: its result, its failure, or that its job ended without either."""
        while running:
            still_running = []
            for job, left in running:
                has_ended = job.done()  # asked first: what it wrote before is found below
                left = [task for task in left if not _report(task, on_event)]
                if left and has_ended:
                    for task in left:
                        on_event(_lost(task, job))
                elif left:
                    still_running.append((job, left))
            running = still_running
            if running:
                time.sleep(_SECONDS_BETWEEN_LOOKS[self.cluster])


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


def run_job(tasks: Sequence[Mapping[str, Any]], slots: Sequence[Slot]) -> None:
    """What a job does: its trials in warm processes, results and failures as files."""
    folders = {task["trial"]: Path(task["folder"]) for task in tasks}

    def on_event(event: Mapping[str, Any]) -> None:
        print(json.dumps({key: event[key] for key in event if key != "record"}), flush=True)
        if event["event"] == worker.FAILED:
            write_text(folders[event["trial"]] / FAILURE, json.dumps(event) + "\n")

    worker_pool.run_tasks(tasks, slots, on_event)
