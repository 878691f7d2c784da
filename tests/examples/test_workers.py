"""Recipes for several workers: what each launcher is told, and what fairseq makes of it."""

import argparse
import os
import signal
import subprocess
import time

import pytest
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed

from tests import runs
from tests.examples.conftest import EXAMPLES, parse_training
from tests.examples.test_recipes import assert_protocol, refusal

SLURM = {"SLURM_JOB_ID": 7, "SLURM_NNODES": 2, "SLURM_GPUS_ON_NODE": 4}


@pytest.fixture
def launched(recipe, gpt2_data):
    """``launched(file, launcher, **environment)``: the recipe, launcher's options, and training."""

    def run(file, launcher, *options, **environment):
        done = recipe(f"workers/{file}", *options, DATA=gpt2_data / "SST-2-bin", **environment)
        assert done.code == 0, done.errors
        (call,) = (call for call in done.calls if call[0] == launcher)
        start = call.index("fairseq-train")
        return done, call[1:start], parse_training(call[start:])

    return run


def assert_recipe(parsed):
    assert_protocol(parsed, "SST-2")
    assert parsed.arch == "roberta_large"
    assert parsed.ddp_backend == "legacy_ddp"
    assert parsed.scl_gather == "all"


def test_torchrun(launched):
    done, options, parsed = launched("torchrun.sh", "torchrun")
    assert options == ["--standalone", "--nproc_per_node", "4", "--no_python"]
    assert_recipe(parsed)
    assert (parsed.batch_size, parsed.scl_chunk_size, parsed.update_freq) == (16, 0, [1])
    assert "contrast set: 64 examples" in done.output
    assert float(parsed.total_num_update) == 10  # 64 examples, 10 epochs
    _, options, parsed = launched("torchrun.sh", "torchrun", GPUS=2, BATCH=8, CHUNK=4)
    assert options[2] == "2"
    assert (parsed.batch_size, parsed.scl_chunk_size) == (8, 4)
    assert float(parsed.total_num_update) == 40


def test_slurm_on_the_cpus_of_several_nodes(recipe, tmp_path):
    """Each task is told its rank, since fairseq would count GPUs."""
    names = tmp_path / "tools" / "scontrol"
    names.write_text("#!/bin/sh\nprintf 'node-a\\nnode-b\\n'\n", encoding="utf-8")
    names.chmod(0o755)
    srun = tmp_path / "tools" / "srun"
    log = 'echo "$SRUN_CPUS_PER_TASK" > "$CALLS.cores"'
    runs_both = f'{log}\nshift\nSLURM_PROCID=0 "$@" && SLURM_PROCID=1 "$@"\n'
    srun.write_text(f"#!/bin/sh\n{runs_both}", encoding="utf-8")
    encoder, data = tmp_path / "encoder", tmp_path / "out" / "data" / "SST-2-bin"
    encoder.mkdir()
    (encoder / "options").write_text("--arch roberta\n", encoding="utf-8")
    data.mkdir(parents=True)
    (data / "preprocess.json").write_text('{"splits": {"train": {"rows": 64}}}', encoding="utf-8")
    job = {"SLURM_JOB_ID": 7, "SLURM_NNODES": 2, "SLURM_CPUS_PER_TASK": 5}
    places = {"SMOKE_ENCODER": encoder, "OUT": tmp_path / "out"}
    done = recipe("workers/slurm.sh", SMOKE=1, PORT=29501, **places, **job)
    assert done.code == 0, done.errors
    calls = [parse_training(call) for call in done.calls if call[0] == "fairseq-train"]
    assert [parsed.distributed_rank for parsed in calls] == [0, 1]
    for parsed in calls:
        assert (parsed.cpu, parsed.distributed_no_spawn) == (True, True)
        assert (parsed.distributed_world_size, parsed.distributed_backend) == (2, "gloo")
        assert parsed.distributed_init_method == "tcp://node-a:29501"
        assert parsed.ddp_backend == "legacy_ddp"
    assert "contrast set: 32 examples" in done.output
    assert (tmp_path / "calls.cores").read_text("utf-8") == "5\n"


def as_slurm_task(monkeypatch, tmp_path, parsed, node, gpus):
    """What fairseq makes of its options in a task of a job of two nodes."""
    names = tmp_path / "scontrol"
    names.write_text("#!/bin/sh\nprintf 'node-a\\nnode-b\\n'\n", encoding="utf-8")
    names.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for key, value in {
        "SLURM_STEP_NODELIST": "node-[a-b]",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NODEID": str(node),
    }.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    config = convert_namespace_to_omegaconf(argparse.Namespace(**vars(parsed)))
    distributed.infer_init_method(config.distributed_training)
    return config.distributed_training


def test_slurm(launched, monkeypatch, tmp_path):
    done, options, parsed = launched("slurm.sh", "srun", **SLURM)
    assert options == ["--ntasks-per-node=1"]
    assert_recipe(parsed)
    assert "contrast set: 128 examples" in done.output
    assert "gpus8-batch16" in parsed.save_dir
    for node in (0, 1):
        found = as_slurm_task(monkeypatch, tmp_path, parsed, node, 4)
        assert found.distributed_init_method == "tcp://node-a:29500"
        assert (found.distributed_rank, found.distributed_world_size) == (4 * node, 8)
        assert found.distributed_num_procs == 4
        assert not found.distributed_no_spawn


def test_what_sbatch_copies_finds_the_clone(recipe, gpt2_data, tmp_path):
    copy = tmp_path / "spool" / "slurm_script"
    copy.parent.mkdir()
    copy.write_bytes((EXAMPLES / "workers" / "slurm.sh").read_bytes())
    copy.chmod(0o755)
    data = gpt2_data / "SST-2-bin"
    for place in ({"SLURM_SUBMIT_DIR": runs.ROOT}, {"CLONE": runs.ROOT, "SLURM_SUBMIT_DIR": "/"}):
        done = recipe(copy, DATA=data, **SLURM, **place)
        assert done.code == 0, done.errors
        assert [call[0] for call in done.calls] == ["srun", "fairseq-validate"]


def test_the_test_set_is_tried_on_one_node_of_a_job(recipe, gpt2_data, tmp_path):
    """With the job's node list fairseq would want a GPU for each of the job's workers."""
    seen = tmp_path / "seen"
    spy = tmp_path / "tools" / "fairseq-validate"
    spy.write_text(f'#!/bin/sh\necho "${{SLURM_JOB_NODELIST-none}}" > {seen}\n', encoding="utf-8")
    data = gpt2_data / "SST-2-bin"
    recipe("workers/slurm.sh", DATA=data, SLURM_JOB_NODELIST="node-[a-b]", **SLURM)
    assert seen.read_text() == "none\n"


def test_outside_of_a_job(recipe):
    assert "this is no Slurm job" in refusal(recipe("workers/slurm.sh"))
    known = {**SLURM, "SLURM_GPUS_ON_NODE": ""}
    assert "GPUS_PER_NODE=, expected a whole" in refusal(recipe("workers/slurm.sh", **known))


def test_processes_on_a_cpu(recipe, gpt2_data):
    data = gpt2_data / "SST-2-bin"
    done = recipe("workers/cpu.sh", DATA=data, WORKERS=3, BATCH=4)
    assert done.code == 0, done.errors
    calls = [parse_training(call) for call in done.calls if call[0] == "fairseq-train"]
    assert sorted(parsed.distributed_rank for parsed in calls) == [0, 1, 2]
    assert len({parsed.distributed_init_method for parsed in calls}) == 1
    for parsed in calls:
        assert (parsed.cpu, parsed.fp16, parsed.distributed_no_spawn) == (True, False, True)
        assert (parsed.distributed_world_size, parsed.distributed_backend) == (3, "gloo")
        assert parsed.ddp_backend == "legacy_ddp"
        assert parsed.distributed_init_method.startswith("tcp://127.0.0.1:")
    assert "contrast set: 12 examples" in done.output


def test_a_number_of_processes_is_expected(recipe, gpt2_data):
    done = recipe("workers/cpu.sh", DATA=gpt2_data / "SST-2-bin", WORKERS="two")
    assert "WORKERS=two, expected a whole number from 1 on" in refusal(done)


@pytest.mark.parametrize("failing", [0, 1])
def test_one_failing_process_ends_all(recipe, gpt2_data, tmp_path, failing):
    worker = tmp_path / "tools" / "fairseq-train"
    lines = f'case "$*" in *"--distributed-rank {failing}"*) exit 3 ;; esac\nexec sleep 600\n'
    worker.write_text(f"#!/usr/bin/env bash\n{lines}", encoding="utf-8")
    done = recipe("workers/cpu.sh", DATA=gpt2_data / "SST-2-bin")  # in less than 60 s
    assert done.code == 3


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_all(gpt2_data, tmp_path, recipe, interrupt):
    alive = tmp_path / "alive"
    alive.mkdir()
    tools = tmp_path / "tools"
    (tools / "fairseq-train").write_text(
        f"#!/usr/bin/env bash\ntouch {alive}/$$\nexec sleep 600\n", encoding="utf-8"
    )
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    environment |= {"DATA": str(gpt2_data / "SST-2-bin"), "ROBERTA": str(tmp_path / "model.pt")}
    command = [EXAMPLES / "workers" / "cpu.sh"]
    how = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, **how)
    deadline = time.monotonic() + 600
    while len(list(alive.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(interrupt)
    process.communicate(timeout=600)  # until the last one that could write errors is gone
    assert process.returncode == 128 + interrupt


@pytest.mark.parametrize(
    ("file", "batch"), [("few_shot/train.sh", 16), ("batch_size/train.sh", 64)]
)
def test_gpus_share_a_batch_of_fixed_size(recipe, gpt2_data, file, batch):
    data = gpt2_data / "SST-2-bin"
    done = recipe(file, DATA=data, BATCH=batch, GPUS=4)
    (call,) = (call for call in done.calls if call[0] == "fairseq-train")
    parsed = parse_training(call)
    assert (parsed.distributed_world_size, parsed.batch_size) == (4, batch // 4)
    assert parsed.find_unused_parameters
    assert f"contrast set: {batch} examples" in done.output
    one = recipe(file, DATA=data, BATCH=batch)
    (call,) = (call for call in one.calls if call[0] == "fairseq-train")
    assert parse_training(call).total_num_update == parsed.total_num_update
    line = refusal(recipe(file, DATA=data, BATCH=batch, GPUS=3))
    assert f"GPUS=3 cannot share a batch of {batch} evenly" in line


def test_batches_beyond_the_paper(recipe, gpt2_data):
    done = recipe("batch_size/train.sh", DATA=gpt2_data / "CoLA-bin", TASK="CoLA", BATCH=4096)
    (call,) = (call for call in done.calls if call[0] == "fairseq-train")
    parsed = parse_training(call)
    assert (parsed.batch_size, parsed.scl_chunk_size) == (4096, 256)
    assert "contrast set: 4096 examples" in done.output
