"""The benchmark of sweeps: what both sides are told on a CPU and on a GPU."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import sweep, sweep_sides


@pytest.fixture
def told(monkeypatch, tmp_path):
    """``told(*options)``: options, the sweep's arguments, its variables and its configuration."""
    monkeypatch.setattr(sweep, "_has_gpu", lambda: True)
    monkeypatch.setattr(sweep, "convert_encoder", lambda folder: None)
    monkeypatch.setattr(sweep, "write_binarised_samples", lambda *_: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")

    def run(*words):
        calls = []

        def called(arguments, **how):
            calls.append((list(map(str, arguments)), how))
            return SimpleNamespace(returncode=0)

        monkeypatch.setattr(sweep_sides.subprocess, "run", called)
        options = sweep.parse(list(map(str, words)))
        config = sweep.prepare(options, tmp_path, 20)
        sweep_sides.run_sweep(options, config, tmp_path / "out", ())
        ((arguments, how),) = calls
        return options, arguments, how["env"], json.loads(config.read_text("utf-8"))["options"]

    return run


def test_on_a_cpu(told):
    options, arguments, variables, trained = told("--workers", 3)
    assert "--cpu" in arguments
    assert arguments[arguments.index("--workers") + 1] == "3"
    assert variables["CUDA_VISIBLE_DEVICES"] == ""  # for the loop's evaluation as well
    assert not {"fp16", "bf16", "amp"} & set(trained)
    assert sweep.result_file("sweep", options.device).name == "sweep.md"


@pytest.mark.parametrize("precision", ["fp16", "bf16", "amp", "float32"])
def test_on_a_gpu(told, precision):
    how = ("--device", "cuda", "--precision", precision, "--workers", 8)
    options, arguments, variables, trained = told(*how)
    assert "--cpu" not in arguments
    assert arguments[arguments.index("--workers-per-gpu") + 1] == "8"
    assert variables["CUDA_VISIBLE_DEVICES"] == "4"  # both sides share one
    assert {"fp16", "bf16", "amp"} & set(trained) == {precision} - {"float32"}
    assert sweep.result_file("sweep", options.device).name == "sweep-cuda.md"


@pytest.mark.parametrize("words", [["--precision", "bf16"], ["--device", "cuda"]])
def test_what_needs_a_gpu_is_refused_without_one(words, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "_has_gpu", lambda: False)
    with pytest.raises(SystemExit) as exit:
        sweep.parse(words)
    assert exit.value.code == 2
    assert words[0] in capsys.readouterr().err
