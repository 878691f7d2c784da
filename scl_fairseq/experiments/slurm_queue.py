"""What Slurm's queue says of jobs. Accounting (``sacct``) is not asked: many clusters have none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

# Every other state is one from which a job goes on, or is run again.
ENDED = frozenset(
    [
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED"),
        *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    ]
)
GONE = "gone from the queue"
# %F is an array's number, %K the place in it, N/A outside of one; %A would be the job's own number.
# A line for each job of an array. Ended jobs too, which Slurm remembers for minutes.
_SQUEUE = ("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%F %K %T")


def read_states(listed: str) -> dict[str, str]:
    """State of each job, by its number as ``submitit`` has it: ``12``, of an array ``12_3``.

    Args:
        listed: what ``squeue`` prints for the format ``%F %K %T``.
    """
    fields = [line.split() for line in listed.splitlines()]
    return {
        number if place == "N/A" else f"{number}_{place}": state
        for number, place, state in (found for found in fields if len(found) == 3)
    }


def states() -> dict[str, str]:
    """State of each job of this user that Slurm knows of.

    Raises:
        ValueError: Slurm does not answer.
    """
    try:
        done = subprocess.run(
            _SQUEUE,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
            check=False,
        )
    except FileNotFoundError:
        raise ValueError("squeue was not found") from None
    if done.returncode != 0:
        raise ValueError(f"squeue failed: {' '.join(done.stderr.split())}")
    return read_states(done.stdout)


def _environment() -> dict[str, str]:
    # A user's SQUEUE_PARTITION or SQUEUE_STATES would hide jobs, which would look as if they ended.
    found = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}
    if "SBATCH_CLUSTERS" in found:
        found["SLURM_CLUSTERS"] = found["SBATCH_CLUSTERS"]
    return found


def ended(job_ids: Iterable[str]) -> dict[str, str]:
    """Those of the jobs that have ended, and how; none where Slurm does not answer."""
    try:
        known = states()
    except ValueError:
        return {}  # its controller is restarted now and then
    found = {job_id: known.get(job_id, GONE) for job_id in job_ids}
    return {job_id: state for job_id, state in found.items() if state in (*ENDED, GONE)}


def alive(job_ids: Iterable[str]) -> list[str]:
    """Those that wait or run, jobs of an array under the array's number.

    Raises:
        ValueError: Slurm does not answer.
    """
    wanted = set(job_ids)
    found = (job_id for job_id, state in states().items() if state not in ENDED)
    return sorted({job_id.partition("_")[0] for job_id in found if job_id in wanted}, key=int)
