"""examples/workers/slurm.sh on two nodes, against two processes without Slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import runs

RECIPES = runs.ROOT / "examples" / "workers"


@pytest.fixture
def smoke(tmp_path):
    """``smoke(folder, *command)``: run a recipe small; the checkpoint of its best epoch, output."""

    def run(name, *command):
        environment = {
            **runs.ENVIRONMENT,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **{"SMOKE": "1", "SMOKE_TRAIN": "32", "SMOKE_DEV": "16", "BATCH": "8"},
            **{"OUT": str(tmp_path / "data"), "SAVE_DIR": str(tmp_path / name)},
        }
        done = subprocess.run(
            list(map(str, command)),
            cwd=runs.ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        log = tmp_path / f"{name}.log"
        said = done.stdout + (log.read_text("utf-8") if log.exists() else "")
        assert done.returncode == 0, said[-6000:]
        return tmp_path / name / "checkpoint_best.pt", said

    return run


def test_two_nodes_train_what_two_processes_do(smoke, tmp_path):
    log = tmp_path / "nodes.log"
    job = ["sbatch", "--wait", "--nodes", 2, "--cpus-per-task", 2, "--output", log]
    nodes, said = smoke("nodes", *job, RECIPES / "slurm.sh")
    assert "contrast set: 16 examples" in said
    assert "distributed init (rank 0): tcp://" in said
    assert "distributed init (rank 1): tcp://" in said
    assert "valid on 'test' subset" in said
    processes, _ = smoke("processes", RECIPES / "cpu.sh")
    runs.assert_same_weights(nodes, processes)
