"""What Slurm's queue says, in the words of Slurm 22.05 and by stand-ins for its commands."""

import pytest

from scl_fairseq.experiments import slurm_queue

# squeue --array --states=all --format="%F %K %T": a job, an array in all its states, two clusters
LISTED = """\
CLUSTER: first
1 N/A COMPLETED
12 0 COMPLETED
12 1 TIMEOUT
12 2 RUNNING
12 3 COMPLETING
12 10 PENDING
13 N/A SUSPENDED
14 N/A REQUEUE_HOLD
15 N/A SPECIAL_EXIT
16 N/A OUT_OF_MEMORY
17 N/A NODE_FAIL
18 N/A STAGE_OUT
120 0 CANCELLED
"""


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """``squeue(text, code)``: what the command prints from now on."""
    command = tmp_path / "squeue"

    def answer(text, code=0):
        (tmp_path / "listed").write_text(text, "utf-8")
        lines = [
            "#!/bin/sh",
            f'env > "{tmp_path}/environment"',
            f'printf "%s\\n" "$*" > "{tmp_path}/arguments"',
            f'cat "{tmp_path}/listed"' + (f" >&2; exit {code}" if code else ""),
        ]
        command.write_text("\n".join(lines) + "\n", "utf-8")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return tmp_path

    return answer


def test_which_jobs_have_ended(squeue):
    squeue(LISTED)
    jobs = ["1", "12_0", "12_1", "12_2", "12_3", "12_10", "12_11", "13", "14", "15", "16", "17"]
    assert slurm_queue.ended([*jobs, "18", "120_0"]) == {
        "1": "COMPLETED",
        "12_0": "COMPLETED",
        "12_1": "TIMEOUT",
        "12_11": slurm_queue.GONE,  # Slurm has forgotten it
        "16": "OUT_OF_MEMORY",
        "17": "NODE_FAIL",
        "120_0": "CANCELLED",
    }


def test_which_jobs_still_run(squeue):
    squeue(LISTED)
    assert slurm_queue.alive(["12_0", "12_3", "120_0", "1", "2"]) == ["12"]
    assert slurm_queue.alive(["13", "12_10", "12_2"]) == ["12", "13"]
    assert slurm_queue.alive(["120_0", "12_1"]) == []
    assert slurm_queue.alive([]) == []


def test_a_job_does_not_end_because_slurm_does_not_answer(squeue):
    squeue("slurm_load_jobs error: Unable to contact slurm controller", code=1)
    assert slurm_queue.ended(["12_0"]) == {}
    with pytest.raises(ValueError, match="squeue failed: slurm_load_jobs error: Unable to contact"):
        slurm_queue.alive(["12_0"])


def test_slurm_is_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="squeue was not found"):
        slurm_queue.states()


def test_what_a_user_has_set_for_squeue_hides_no_job(squeue, monkeypatch):
    folder = squeue(LISTED)
    for name in ("SQUEUE_PARTITION", "SQUEUE_STATES", "SQUEUE_FORMAT", "SQUEUE_USERS"):
        monkeypatch.setenv(name, "others")
    monkeypatch.setenv("SBATCH_CLUSTERS", "second")
    slurm_queue.states()
    seen = (folder / "environment").read_text("utf-8")
    assert "SQUEUE_" not in seen
    assert "SLURM_CLUSTERS=second\n" in seen
    assert (folder / "arguments").read_text("utf-8") == (
        "--me --array --noheader --states=all --format=%F %K %T\n"
    )
