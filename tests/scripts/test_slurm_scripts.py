"""The scripts around Slurm where it cannot run: as another user than root, without its programs."""

import os
import subprocess

import pytest

from tests import runs


@pytest.fixture
def as_user(tmp_path):
    """``as_user(number, script, *arguments)``: run a script that takes itself for that user's."""

    def run(number, script, *arguments):
        stand_in = tmp_path / "id"
        stand_in.write_text(f"#!/bin/sh\necho {number}\n", "utf-8")
        stand_in.chmod(0o755)
        return subprocess.run(
            [runs.ROOT / "scripts" / script, *arguments],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )

    return run


def test_without_root_the_tests_are_skipped_with_a_line(as_user, tmp_path):
    done = as_user(1000, "test_slurm.sh", tmp_path / "venv")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "test-slurm: skipped; it needs root and apt, to install and start Slurm"
    ]
    assert not (tmp_path / "venv").exists()  # before the environment is set up


def test_without_root_or_a_command_no_slurm_is_started(as_user):
    done = as_user(1000, "with_slurm.sh", "true")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: Slurm starts jobs as their users: run this as root"]
    assert "usage: scripts/with_slurm.sh COMMAND" in as_user(0, "with_slurm.sh").stdout
