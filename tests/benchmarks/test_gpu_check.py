"""The check on a GPU, as far as a CPU can say: what it writes, what it skips, when it ends."""

import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import device
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import fits, report, smoke
from benchmarks.gpu.check import Check
from benchmarks.gpu.trainings import parses
from scl_fairseq.kernels import choice
from tests import runs

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def check(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    now = time.time()
    return Check(
        tmp_path / "out", tmp_path / "work", True, now, now + 60, tmp_path / "glue", tmp_path / "b"
    )


def lines(check):
    return report.read(check.out / "results.jsonl")


def test_results_are_there_at_once_and_a_failure_is_one(check):
    check.add("one", value=1.5)
    assert [row["value"] for row in lines(check)] == [1.5]
    with check.part("two", of="it"):
        raise RuntimeError("no kernel image")
    assert not check.has_time("three", 1000, of="that")
    two, three = lines(check)[1:]
    assert two["ok"] is False
    assert "no kernel image" in two["failed"]
    assert "skipped" in three
    with open(check.out / "results.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "cut by a ki')
    assert [row["kind"] for row in lines(check)] == ["one", "two", "three"]
    said = report.summary(lines(check))
    assert "FAILED two" in said
    assert "three: 1 results, 1 skipped" in said


class Stages(gpu.Runner):
    """Stages that are other processes."""

    code = ""

    def _start(self, name, stop):
        words = [sys.executable, "-c", self.code]
        self._options.out.joinpath(f"{name}-stage.log").write_text("said")
        return subprocess.Popen(words, start_new_session=True)


def options(check, limit):
    return Namespace(
        out=check.out, dry=False, limit=limit, glue_dir=check.glue_dir, bpe_dir=check.bpe_dir
    )


@pytest.mark.parametrize(
    ("code", "budget", "expected"),
    [
        ("", 30, 0),
        ("raise SystemExit(3)", 30, 3),
        ("import os; os.abort()", 30, -6),
        ("import time; time.sleep(300)", 1, "its time was up"),
    ],
)
def test_a_stage_that_fails_or_hangs_ends_alone(check, code, budget, expected):
    runner = Stages(options(check, 60), check.work)
    runner.code = code
    runner.run({"first": budget})
    runner.code = ""
    runner.run({"second": 30})
    first, second = lines(check)
    assert first["code"] == expected
    assert first["ok"] == (expected == 0)
    assert second["ok"]


def test_without_time_a_stage_is_skipped_and_that_is_said(check):
    runner = Stages(options(check, 5), check.work)
    runner.run({"first": 30})
    assert lines(check)[0]["skipped"] == "no time was left"


def test_stages_fit_into_eight_minutes_side_by_side():
    # Those of speed come last: what is wrong is known by then.
    assert gpu.NAMES[:3] == ["prepare", "smoke", "marked"]
    least = sum(max(stages.values()) for stages in gpu.STAGES[:3])
    assert least < 480 / 2
    for name in gpu.NAMES:
        assert (ROOT / "benchmarks" / "gpu" / f"{name}.py").is_file()


@pytest.fixture
def configurations(check):
    (check.work / "flags.json").write_text(json.dumps(["--arch", "roberta"]), encoding="utf-8")
    return smoke.trainings(check)


def test_every_configuration_is_accepted_by_fairseq(configurations):
    """Each precision with each of the ways that the issue of a GPU touches."""
    for words in configurations.values():
        assert parses(words) == ""
    assert "unrecognized arguments: --no-such" in parses(
        [*configurations["plain-fp32"], "--no-such"]
    )
    for way in ("plain", "packed", "mean-head"):
        for precision in smoke.PRECISIONS:
            assert f"{way}-{precision}" in configurations
    said = " ".join(str(word) for words in configurations.values() for word in words)
    for option in ("fused_adamw", "--scl-queue-size", "--scl-chunk-size", "supcon", "simcse"):
        assert option in said
    assert "infocse" in said


def test_a_dry_run_has_no_half_precision(check, configurations):
    for words in configurations.values():
        found = smoke.on_device(check, words)
        assert not {"--fp16", "--bf16"} & set(found)
        assert "--cpu" in found


def test_without_a_gpu_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**runs.ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().endswith("there is no GPU here: --dry runs everything tiny on a CPU")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["no-such-stage"], ["--dry", "--record"]])
def test_bad_options_are_refused(words):
    with pytest.raises(SystemExit) as raised:
        gpu.parse(words)
    assert raised.value.code == 2


def test_records_go_to_files_of_a_gpu_and_to_the_choice_of_kernels(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "RESULTS", tmp_path)
    measured = tmp_path / "measured.json"
    old = {"card": "H", "products": "bf16", "torch_seconds": 1.0, "triton_seconds": 3.0}
    other = {**old, "card": "A"}
    measured.write_text(json.dumps([old, other]), encoding="utf-8")
    monkeypatch.setattr(report, "MEASURED", measured)
    monkeypatch.setattr(choice, "MEASURED", measured)
    rows = [
        {"kind": "packed", "at": 1.0, "size": "large", "update": 0.123456},
        {"kind": "kernel", "at": 2.0, "N": 9, "torch": "2.11", **old, "triton_seconds": 0.5},
        {"kind": "update", "at": 3.0, "skipped": "no time"},
    ]
    report.record(rows, "`the command`\n\nH, driver 1")
    assert {path.name for path in tmp_path.iterdir()} == {
        "packed-cuda-check.md", "contrast-cuda-check.md", "measured.json"
    }  # fmt: skip
    text = (tmp_path / "packed-cuda-check.md").read_text("utf-8")
    assert "`the command`" in text
    assert "H, driver 1" in text
    assert "0.1235" in text
    choice.is_faster.cache_clear()
    assert choice.is_faster("H", "bf16")
    assert not choice.is_faster("A", "bf16")
    choice.is_faster.cache_clear()


def test_readme_has_the_table_of_what_fits():
    assert fits.table().strip() in (ROOT / "README.md").read_text("utf-8")


def test_what_fits_is_worked_out_from_the_models_sizes():
    from benchmarks.roberta import make_model, make_task

    model = make_model(make_task(), "MiniLM")
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert fits.parameters("MiniLM") == pytest.approx(counted, rel=2e-3)
    # Bytes for a token of a layer in half precision, as published: 34 C + 5 a s.
    found = fits.sentence_bytes("large", "fp16 or bf16", 128) / fits.SPARE / 24 / 128
    assert found == pytest.approx(34 * 1024 + 5 * 16 * 128)
    for card in fits.CARDS[:-1]:
        for length in fits.LENGTHS:
            less = fits.most_sentences("base", "fp32", length, card)
            assert less <= fits.most_sentences("base", "fp32", length, 2 * card)
    assert fits.advised(0) == "—"
    assert (fits.advised(1), fits.advised(63), fits.advised(5000)) == ("1", "32", "256")


def test_an_encoder_that_travels_in_half_precision_is_wide_again(tmp_path):
    """To the rounding of half precision, the same; other weights are refused."""
    import torch
    from safetensors.torch import load_file

    from benchmarks.gpu.small_encoder import WEIGHTS, narrow, widen
    from scl_fairseq.checkpoints.embedded import find_encoder

    source = find_encoder()
    narrow(source, tmp_path / "small")
    widen(tmp_path / "small", tmp_path / "wide")
    size = (source / WEIGHTS).stat().st_size
    assert (tmp_path / "small" / WEIGHTS).stat().st_size < 0.52 * size
    assert (tmp_path / "wide" / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    expected, found = load_file(source / WEIGHTS), load_file(tmp_path / "wide" / WEIGHTS)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="other weights than the project's"):
        narrow(tmp_path / "wide", tmp_path / "again")
