"""Two gloo processes on the CPU load checkpoints on every rank, with no extra flag."""

import pytest

from tests import forked, runs


def train_two(tiny, save_dir, *options):
    meeting = save_dir.with_name(f"{save_dir.name}-meeting")  # no port, which others could take
    meeting.unlink(missing_ok=True)
    calls = []
    for rank in (0, 1):
        distributed = {
            "--ddp-backend": "legacy_ddp",
            "--distributed-backend": "gloo",
            "--distributed-world-size": 2,
            "--distributed-rank": rank,
            "--distributed-init-method": f"file://{meeting}",
        }
        flags = [part for pair in distributed.items() for part in pair]
        calls.append([runs.command(tiny, save_dir, *options, *flags, "--distributed-no-spawn")])
    logs = [save_dir.with_name(f"{save_dir.name}-rank{rank}.log") for rank in (0, 1)]
    forked.run_together(forked.command, calls, logs)
    return logs[0].read_text("utf-8")


@pytest.mark.parametrize("start", ["--finetune-from-model", "--restore-file"])
def test_start_and_resume(tiny, tmp_path, start):
    options = [start, tiny.encoder / "model.pt", "--report-acc-and-f1", "--report-mcc"]
    options += ["--scl-queue-size", 11, "--scl-momentum", 0.9]  # state that each rank takes up
    if start == "--restore-file":
        options += ["--reset-optimizer", "--reset-dataloader", "--reset-meters"]
        options += ["--reset-lr-scheduler"]
    output = train_two(tiny, tmp_path / "whole", *options)
    assert runs.logged(output, "scl_loss")
    assert 0 <= runs.logged(output, "acc_and_f1")[-1] <= 100
    assert runs.differ(tmp_path / "whole" / "checkpoint_last.pt", tiny.encoder / "model.pt")
    if start == "--restore-file":
        return  # with resets it starts over at every launch
    train_two(tiny, tmp_path / "halves", *options, "--max-epoch", 1)
    resumed = train_two(tiny, tmp_path / "halves", *options)
    assert "Loaded checkpoint" in resumed
    last = "checkpoint_last.pt"
    runs.assert_same_weights(tmp_path / "whole" / last, tmp_path / "halves" / last)
