"""scl-sweep from the command line: whole sweeps of the tiny encoder in real processes."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from scl_fairseq.cli.sweep import main
from tests import runs

ABSENT = object()
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def data(tiny, tmp_path_factory):
    """Binarised samples ``SST-2/0`` and ``SST-2/1``."""
    from scl_fairseq.data import sampling, synthetic
    from scl_fairseq.data.encode import Settings
    from scl_fairseq.data.preprocess import preprocess
    from scl_fairseq.data.tasks import TASKS

    folder = tmp_path_factory.mktemp("sweep-data")
    task = TASKS["SST-2"]
    synthetic.write_corpus(folder / "corpus", num_train=200, num_dev=60)
    written = sampling.write_samples(
        task, folder / "corpus", folder / "samples", sampling.Size(16), 2, seed=0
    )
    for sample in written.folders:
        number = sample.name.removeprefix("sample")
        preprocess(task, sample, folder / "SST-2" / number, Settings("wordpiece", tiny.encoder))
    return folder


@pytest.fixture
def config(tiny, data, tmp_path):
    """``config(**changes)``: writes a configuration of 2 samples x (CE, CE+SCL), returns it."""

    def write(name="sweep.yaml", **changes):
        values = {
            "name": "tiny",
            "data": f"{data}/{{task}}/{{sample}}",
            "warmup-ratio": 0.1,
            "grid": {"task": ["SST-2"], "sample": [0, 1], "scl-lambda": [0, 0.9]},
            "options": {
                "finetune-from-model": str(tiny.encoder / "model.pt"),
                "scl-temperature": 0.3,
                "seed": 3,
                "batch-size": 8,
                "lr": 1e-3,
                "max-epoch": 2,
            },
        }
        for key, value in changes.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) else value
        values["options"] = {k: v for k, v in values["options"].items() if v is not ABSENT}
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
        return path

    return write


def sweep(*arguments, **kwargs):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "scl_fairseq.cli.sweep", *map(str, arguments), "--cpu"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=runs.ENVIRONMENT,
        start_new_session=True,
        **kwargs,
    )


def finished(*arguments, code=0):
    process = sweep(*arguments)
    out, err = process.communicate()
    assert process.returncode == code, out + err
    return out, err


def results(out):
    lines = (out / "results.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def whole(tiny, data, tmp_path_factory):
    """A sweep that ran in one go: configuration, folder, what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "sweep.yaml"
    values = {
        "data": f"{data}/{{task}}/{{sample}}",
        "grid": {"task": ["SST-2"], "sample": [0, 1], "scl-lambda": [0, 0.9]},
        "options": {
            "finetune-from-model": str(tiny.encoder / "model.pt"),
            "batch-size": 8,
            "lr": 1e-3,
            "seed": 3,
            "max-epoch": 3,
            "lr-scheduler": "fixed",
        },
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    said = finished(path, "--out", folder / "out", "--workers", 2, "--threads", 1, "--keep", "best")
    return path, folder / "out", said


def test_every_trial_leaves_one_line_with_all_that_matters(whole, tiny):
    _, out, (stdout, stderr) = whole
    found = results(out)
    assert "4 of 4 trials have a result" in stdout
    assert "4 done, 0 failed, 0 left" in stderr
    assert {(r["setting"]["sample"], r["setting"]["scl-lambda"]) for r in found} == {
        (0, 0),
        (0, 0.9),
        (1, 0),
        (1, 0.9),
    }
    for record in found:
        assert len(record["valid_accuracy"]) == 3
        assert record["best_valid_accuracy"] == max(record["valid_accuracy"])
        assert record["num_updates"] == 3 * 2
        assert record["encoder_sha256"]
        assert record["data"]["sha256"]
        assert {"torch", "python", "scl-fairseq"} < set(record["versions"])
        assert {"fairseq", "fairseq-fixed"} & set(record["versions"])
        assert record["device"].startswith("cpu: ")
        assert record["device"].endswith("1 thread")
        assert record["updates_per_second"] > 0
        assert record["wall_seconds"] > 0
        lines = (out / record["predictions"]).read_text("utf-8").splitlines()
        assert lines[0].split("\t") == ["index", "label", "prediction", "correct", "0", "1"]
        rows = [line.split("\t") for line in lines[1:]]
        assert len(rows) == record["num_test"]
        right = sum(label == prediction for _, label, prediction, *_ in rows)
        assert record["test_accuracy"] == pytest.approx(100 * right / len(rows))


def test_the_recorded_command_gives_the_recorded_result(whole, tmp_path, tiny):
    _, out, _ = whole
    record = next(r for r in results(out) if r["setting"]["scl-lambda"] == 0.9)
    command = shlex.split(record["command"])
    command[0] = runs.FAIRSEQ_TRAIN
    command[command.index("--save-dir") + 1] = str(tmp_path / "again")
    done = runs.train(command, cwd=ROOT)
    accuracies = [
        float(json.loads(line.partition("| INFO | valid | ")[2])["valid_accuracy"])
        for line in done.stdout.splitlines()
        if "| INFO | valid | {" in line
    ]
    assert accuracies == record["valid_accuracy"]
    runs.assert_same_weights(out / record["checkpoint"], tmp_path / "again" / "checkpoint_best.pt")


def test_restarting_runs_nothing_twice(whole):
    path, out, _ = whole
    before = (out / "results.jsonl").read_bytes()
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("trials/*/*")}
    stdout, _ = finished(path, "--out", out, "--workers", 2)
    assert "4 of 4" in stdout
    assert (out / "results.jsonl").read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in out.glob("trials/*/*")} == stamps


def test_killed_at_any_moment_every_trial_is_there_once(config, tmp_path):
    """The sweep, a worker or their server is killed at three random moments, then begun again."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    path, out = config(), tmp_path / "out"
    for attempt in range(3):
        process = sweep(path, "--out", out, "--workers", 2, "--threads", 1)
        time.sleep(chance.uniform(2, 14))
        targets = [process.pid] if attempt % 2 == 0 else _workers(process.pid)
        if targets:
            os.kill(chance.choice(targets), signal.SIGKILL)
        process.communicate()
    finished(path, "--out", out, "--workers", 2, "--threads", 1)
    found = [record["trial"] for record in results(out)]
    assert len(found) == len(set(found)) == 4, f"seed {seed}"
    for record in results(out):
        rows = (out / record["predictions"]).read_text("utf-8").splitlines()[1:]
        right = sum(int(row.split("\t")[3]) for row in rows)
        assert len(rows) == record["num_test"]
        assert record["test_accuracy"] == pytest.approx(100 * right / len(rows))


def _workers(parent):
    """A sweep's workers, or a server and the workers that are its copies."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if f"PPid:\t{parent}\n" in text and b"experiments.worker" in command:
            number = int(status.parent.name)
            found += [number, *_workers(number)]
    return found


@pytest.mark.parametrize("copied", [False, True])
def test_no_worker_outlives_a_killed_sweep(config, tmp_path, copied):
    how = ["--workers", 2, "--threads", 1 if copied else 2]
    process = sweep(config(options={"max-epoch": 500}), "--out", tmp_path / "out", *how)
    deadline = time.monotonic() + 600
    wanted = 3 if copied else 2  # a server and its copies
    while len(workers := _workers(process.pid)) < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(workers) == wanted
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    while any(Path(f"/proc/{one}").exists() for one in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(Path(f"/proc/{one}").exists() for one in workers)


def test_a_torn_line_is_run_again_and_the_rest_is_kept(whole, tmp_path):
    path, out, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    lines = (copy / "results.jsonl").read_bytes().splitlines(keepends=True)
    lost = json.loads(lines[-1])["trial"]
    (copy / "results.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    (copy / "trials" / lost / "result.json").unlink()
    _, err = finished(path, "--out", copy)
    assert "3 of 4 trials have a result already" in err
    assert (copy / "results.jsonl").read_bytes().splitlines(keepends=True)[:3] == lines[:3]
    assert json.loads((copy / "results.jsonl").read_bytes().splitlines()[3])["trial"] == lost


def test_a_result_that_was_not_written_down_is_taken_up(whole, tmp_path):
    path, out, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    lines = (copy / "results.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "results.jsonl").write_bytes(b"".join(lines[:2]))
    finished(path, "--out", copy)
    assert sorted(r["trial"] for r in results(copy)) == sorted(r["trial"] for r in results(out))
    assert [r["finished"] for r in results(copy)[:2]] == [r["finished"] for r in results(out)[:2]]


def test_failures_are_reported_and_tried_again(config, tmp_path):
    out = tmp_path / "out"
    # A rate of 1e30 ends in a NaN; the other trials are not touched by it.
    grid = {"sample": [0], "scl-lambda": [0.9], "lr": [1e-3, 1e30]}
    path = config(grid=grid, options={"lr": ABSENT})
    stdout, err = finished(path, "--out", out, code=1)
    assert "1 of 2 trials have a result" in stdout
    assert "1 done, 1 failed, 0 left" in err
    assert "FAILED, FloatingPointError" in err
    failures = [json.loads(x) for x in (out / "failures.jsonl").read_text().splitlines()]
    assert {f["setting"]["lr"] for f in failures} == {1e30}
    assert all((out / f["log"]).is_file() for f in failures)
    assert not list(out.glob("trials/*/crash.pt"))
    _, err = finished(path, "--out", out, code=1)
    assert "1 of 2 trials have a result already" in err
    assert len((out / "failures.jsonl").read_text().splitlines()) == 2
    assert len(results(out)) == 1


@pytest.mark.slow
def test_collapsed_trials_say_so(config, tmp_path, tiny):
    # Nothing is learned at this rate; labels of the data say what one class for all would reach.
    from collections import Counter

    from scl_fairseq.data.records import read_rows
    from scl_fairseq.data.tasks import TASKS

    out = tmp_path / "out"
    path = config(grid={"sample": [0], "scl-lambda": [0, 0.9]}, options={"lr": 1e-12, "seed": 5})
    data = Path(yaml.safe_load(path.read_text())["data"]).parent.parent
    _, err = finished(path, "--out", out)
    rows = read_rows(TASKS["SST-2"], data / "samples" / "sample0" / "dev.tsv")
    most = max(Counter(row.label for row in rows).values())
    for record in results(out):
        right = round(record["best_valid_accuracy"] * len(rows) / 100)
        assert record["majority_share"] == pytest.approx(100 * most / len(rows))
        assert record["collapsed"] is (right <= most)
    assert err.count("no better than one class") == sum(r["collapsed"] for r in results(out))


@pytest.mark.slow
def test_data_loaders_of_their_own(config, tmp_path):
    out = tmp_path / "out"
    grid = {"sample": [0], "scl-lambda": [0.9]}
    process = sweep(config(grid=grid, options={"num-workers": 1}), "--out", out)
    try:
        process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("the sweep hangs")
    assert len(results(out)) == 1


def test_jobs_of_a_cluster_give_the_same_results(whole, tmp_path):
    pytest.importorskip("submitit")
    path, out, _ = whole
    jobs = tmp_path / "out"
    how = ["--cluster", "local", "--trials-per-job", 2, "--threads", 1, "--array-size", 2]
    finished(path, "--out", jobs, *how)
    by_id = {record["trial"]: record for record in results(out)}
    found = results(jobs)
    assert {record["trial"] for record in found} == set(by_id)
    assert len(found) == 4
    for record in found:
        for key in ("valid_accuracy", "test_accuracy", "best_epoch"):
            assert record[key] == by_id[record["trial"]][key]
    assert len(list((jobs / "cluster").glob("*_submitted.pkl"))) == 2


@pytest.mark.slow
def test_a_restart_waits_for_jobs_that_still_run(config, tmp_path):
    pytest.importorskip("submitit")
    path, out = config(options={"max-epoch": 500}), tmp_path / "out"
    process = sweep(path, "--out", out, "--cluster", "local", "--threads", 1)
    deadline = time.monotonic() + 600
    while not (out / "cluster" / "jobs.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()  # its pipes stay open in the job
    (job,) = json.loads((out / "cluster" / "jobs.json").read_text())
    try:
        _, err = finished(path, "--out", out, "--cluster", "local", code=2)
        assert f"jobs of an earlier sweep into {out} still run ({job})" in err
    finally:
        os.killpg(os.getpgid(int(job)), signal.SIGKILL)


def test_gpus_of_a_job_are_those_the_cluster_names(monkeypatch, tmp_path):
    from scl_fairseq.experiments.cluster import Resources

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    resources = Resources("slurm", tmp_path, None, 2, 8, 1, 1, 1, workers=4, threads=None)
    assert [slot.gpu for slot in resources.slots()] == ["3", "5", "3", "5"]
    assert resources.slots()[1].environment()["CUDA_VISIBLE_DEVICES"] == "5"


def test_each_gpu_of_a_job_has_several_workers(monkeypatch, tmp_path):
    from scl_fairseq.experiments.cluster import Resources

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    how = (tmp_path, None, 2, 8, 1, 1, 1, None, None)
    assert [s.gpu for s in Resources("slurm", *how, 2).slots()] == ["3", "5", "3", "5"]
    # As many as cores, of which each waits for the first one's memory.
    assert [s.gpu for s in Resources("slurm", *how, "auto").slots()] == ["3", "5"] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers-per-gpu", "2"], "--workers-per-gpu needs a GPU"),
        (["--workers-per-gpu", "auto"], "--workers-per-gpu needs a GPU"),
        (["--workers-per-gpu", "2", "--cluster", "slurm"], "--workers-per-gpu needs a GPU"),
        (["--workers-per-gpu", "2", "--cluster", "local"], "--workers-per-gpu needs a GPU"),
        (["--workers-per-gpu", "2", "--workers", "2"], "--workers-per-gpu and --workers"),
        (["--workers-per-gpu", "0"], "'0', expected a whole number from 1 on"),
        (["--workers-per-gpu", "many"], "'many', expected a whole number from 1 on"),
    ],
)
def test_workers_per_gpu_are_refused(config, tmp_path, capsys, options, message):
    arguments = [str(config()), "--out", str(tmp_path / "out"), "--cpu", *options]
    try:
        code = main(arguments)
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


BAD = {
    "no end": ({"options": {"max-epoch": ABSENT}, "warmup-ratio": None}, "max-epoch, max-update"),
    "no size": ({"options": {"batch-size": ABSENT}, "warmup-ratio": None}, "batch-size, max-sent"),
    "fp16 on a CPU": ({"options": {"fp16": True}}, "options.fp16"),
    "a list of update-freq": ({"options": {"update-freq": "4,2"}}, "options.update-freq"),
    "a placeholder of nothing": (
        {"options": {"finetune-from-model": "{size}.pt"}},
        "options.finetune-from-model: {size} is no key",
    ),
    "an unknown option": ({"options": {"learning-rate": 1}}, "--learning-rate"),
    "an unknown option in the grid": ({"grid": {"sgl-lambda": [1]}}, "--sgl-lambda"),
    "a value fairseq refuses": ({"options": {"lr-scheduler": "steps"}}, "lr-scheduler"),
    "an empty grid": ({"grid": {"sample": []}}, "grid.sample"),
    "missing data": ({"grid": {"sample": [0, 7]}}, "data: "),
    "a key that is none": ({"data": "x/{size}"}, "data: {size} is no key"),
    "no checkpoint": ({"options": {"finetune-from-model": "no.pt"}}, "finetune-from-model: no.pt"),
    "a duplicate trial": ({"grid": {"sample": [0, 0]}}, "grid.sample: 0 is listed twice"),
    "warm-up twice": ({"options": {"warmup-updates": 3}}, "options.warmup-updates"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_configurations_are_refused_before_anything_is_written(config, tmp_path, capsys, name):
    changes, message = BAD[name]
    path = config(**changes)
    assert main([str(path), "--out", str(tmp_path / "out"), "--cpu"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_same_data_under_two_samples_makes_duplicates(config, data, tmp_path, capsys):
    path = config(data=f"{data}/SST-2/0")
    assert main([str(path), "--out", str(tmp_path / "out"), "--cpu"]) == 2
    err = capsys.readouterr().err
    assert "data: " in err
    assert "duplicates: " in err
    assert "sample=0" in err
    assert "sample=1" in err


def test_changed_data_is_not_mixed_in(whole, data, tmp_path, capsys):
    path, out, _ = whole
    copy, moved = tmp_path / "out", tmp_path / "data"
    shutil.copytree(out, copy)
    shutil.copytree(data, moved)
    binarised = moved / "SST-2" / "0" / "input0" / "train.bin"
    runs.change_a_token(binarised)
    values = yaml.safe_load(path.read_text())
    values["data"] = f"{moved}/{{task}}/{{sample}}"
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(values, sort_keys=False))
    before = (copy / "results.jsonl").read_bytes()
    assert main([str(changed), "--out", str(copy), "--cpu"]) == 2
    assert "has changed since" in capsys.readouterr().err
    assert (copy / "results.jsonl").read_bytes() == before


def test_other_settings_in_the_same_folder_are_other_trials(whole, tmp_path, capsys):
    """None is taken for done, none is lost, and the report sets none beside another."""
    from scl_fairseq.cli import report

    path, out, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    how = ["--workers", 2, "--threads", 1, "--set", "options.max-epoch=1"]
    stdout, err = finished(path, "--out", copy, *how, "--set", "grid.scl-lambda=[0]")
    assert "2 of 2 trials have a result" in stdout
    assert "have a result already" not in err
    assert "has 4 results of other settings outside the grid (max-epoch): they stay" in err
    assert sorted(r["setting"]["max-epoch"] for r in results(copy)) == [1, 1, 3, 3, 3, 3]
    assert report.main([str(copy), "--resamples", "10", "--format", "csv"]) == 0
    said = capsys.readouterr().out
    assert "Settings outside the grid differ (max-epoch 1; max-epoch 3)" in said
    means = {
        epochs: [r["test_accuracy"] for r in results(copy) if r["setting"]["max-epoch"] == epochs
                 and r["setting"]["scl-lambda"] == 0]
        for epochs in (1, 3)
    }  # fmt: skip
    for epochs, found in means.items():
        (line,) = [x for x in said.splitlines() if f"max-epoch {epochs}," in x][:1]
        assert f"{sum(found) / len(found):g}"[:5] in line


@pytest.mark.parametrize("changes", [["options.max-epoch=1"], ["options.lr=0.5"]])
def test_changed_data_is_refused_whatever_else_changes(changes, whole, data, tmp_path, capsys):
    path, out, _ = whole
    copy, moved = tmp_path / "out", tmp_path / "data"
    shutil.copytree(out, copy)
    shutil.copytree(data, moved)
    binarised = moved / "SST-2" / "0" / "input0" / "train.bin"
    runs.change_a_token(binarised)
    changes = [*changes, f"data={moved}/{{task}}/{{sample}}"]
    sets = [word for change in changes for word in ("--set", change)]
    assert main([str(path), "--out", str(copy), "--cpu", *sets]) == 2
    assert "has changed since" in capsys.readouterr().err
    assert len(results(copy)) == 4


def test_another_encoder_is_refused_whatever_else_changes(whole, tiny, tmp_path, capsys):
    import torch

    path, out, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    state = torch.load(tiny.encoder / "model.pt", weights_only=False)
    next(iter(state["model"].values())).mul_(2)
    torch.save(state, tmp_path / "other.pt")
    sets = ["--set", f"options.finetune-from-model={tmp_path}/other.pt"]
    sets += ["--set", "options.max-epoch=1"]
    assert main([str(path), "--out", str(copy), "--cpu", *sets]) == 2
    assert "the pre-trained checkpoint has changed since" in capsys.readouterr().err


def test_moved_data_is_the_same_data(whole, data, tmp_path):
    path, out, _ = whole
    shutil.copytree(data, tmp_path / "data")
    values = yaml.safe_load(path.read_text())
    values["data"] = f"{tmp_path}/data/{{task}}/{{sample}}"
    moved = tmp_path / "moved.yaml"
    moved.write_text(yaml.safe_dump(values, sort_keys=False))
    _, err = finished(moved, "--out", out)
    assert "4 of 4 trials have a result already" in err


def test_a_folder_of_something_else_is_left_alone(config, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    assert main([str(config()), "--out", str(out), "--cpu"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_two_sweeps_do_not_share_a_folder(whole, capsys):
    from scl_fairseq.experiments.result_files import exclusive

    path, out, _ = whole
    with exclusive(out):
        _, err = finished(path, "--out", out, code=2)
    assert "in use by another" in err


def test_options_of_a_cluster_need_one(config, tmp_path, capsys):
    assert main([str(config()), "--out", str(tmp_path / "o"), "--partition", "gpu"]) == 2
    assert "--partition is for --cluster" in capsys.readouterr().err


def test_a_dry_run_lists_the_trials(config, tmp_path, capsys):
    assert main([str(config()), "--out", str(tmp_path / "out"), "--cpu", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "task=SST-2 sample=0 scl-lambda=0" in lines[0]
    assert not (tmp_path / "out").exists()
