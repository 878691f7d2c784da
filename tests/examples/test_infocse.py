"""The recipe of sentence embeddings: its text, its lines, and which checkpoint it takes."""

import json
import shutil
import subprocess
import sys

import pytest

from examples.infocse import text
from scl_fairseq.inference.sts_files import read_sts
from tests.examples.conftest import EXAMPLES, parse_training

BEST = EXAMPLES / "infocse" / "best.py"


@pytest.fixture
def glue(tmp_path):
    """SST-2 and RTE with a sentence in both, a short one, and one twice with other spaces."""
    long = [f"sentence number {n} of the set" for n in range(1100)]
    (tmp_path / "SST-2").mkdir()
    rows = [
        *(f"{line} \t1" for line in long[:600]),
        "too short\t0",
        f"{long[3].replace(' ', '  ')}\t0",
    ]
    (tmp_path / "SST-2" / "train.tsv").write_text("sentence\tlabel\n" + "\n".join(rows) + "\n")
    (tmp_path / "RTE").mkdir()
    rows = [f"{n}\t{long[n]}\t{long[n + 1]}\tentailment" for n in range(599, 1099)]
    header = "index\tsentence1\tsentence2\tlabel\n"
    (tmp_path / "RTE" / "train.tsv").write_text(header + "\n".join(rows) + "\n")
    return tmp_path


def test_lines_of_glue_are_different_and_always_the_same(glue, tmp_path):
    lines = text.of_glue(glue, 100)
    assert len(lines) == len(set(lines)) == 1100
    assert "too short" not in lines
    assert lines == text.of_glue(glue, 100)
    assert lines != sorted(lines)
    text.write_lines(tmp_path / "out", lines, 100)
    assert (tmp_path / "out" / "train.txt").read_text().splitlines() == lines[:100]
    assert (tmp_path / "out" / "valid.txt").read_text().splitlines() == lines[100:]
    with pytest.raises(ValueError, match="1100 different sentences, fewer than 1101"):
        text.of_glue(glue, 101)


def test_generated_text_and_its_benchmark(tmp_path):
    text.write_smoke(tmp_path)
    assert len((tmp_path / "train.txt").read_text().splitlines()) == 96
    found, _ = read_sts(tmp_path / "sts")
    assert [(one.name, len(one.pairs)) for one in found] == [("STS-B", 20), ("STS-B dev", 20)]
    assert len(set(found[0].scores)) > 5


def test_the_best_checkpoint_is_that_of_the_dev_set(tmp_path):
    checkpoints = [
        {"path": f"{place}.pt", "embedding": kind, "spearman": {"STS-B": test, "STS-B dev": dev}}
        for place, kind, test, dev in (
            (1, "cls", 90.0, 70.0),
            (2, "cls", 60.0, 80.0),
            (3, "cls", 70.0, 75.0),
            (1, "mean", 1.0, 99.0),
        )
    ]
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"checkpoints": checkpoints}))
    for kind, expected in (("cls", "2.pt"), ("mean", "1.pt")):
        done = subprocess.run(
            [sys.executable, BEST, scores, kind], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
    done = subprocess.run(
        [sys.executable, BEST, scores, "pooled"], capture_output=True, text=True, check=False
    )
    assert "no pooled scores on STS-B dev" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("stage", "gpus", "expected"),
    [
        ("simcse", 1, {"criterion": "simcse", "lr": [3e-5], "batch_size": 64, "max_epoch": 1}),
        ("2", 2, {"criterion": "infocse", "infocse_lambda": 0.005, "lr": [3e-5], "batch_size": 32}),
        (
            "1",
            4,
            {
                **{"criterion": "infocse", "infocse_lambda": 1, "infocse_contrast": 0},
                **{"infocse_mlm": 1, "lr": [1e-4], "batch_size": 128, "update_freq": [2]},
                **{"max_epoch": 8, "total_num_update": "8", "keep_interval_updates": 1},
            },
        ),
    ],
)
def test_hyper_parameters(recipe, tiny, lines, tmp_path, stage, gpus, expected):
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "model.pt").touch()
    (encoder / "options").write_text(" ".join(map(str, tiny.flags)) + "\n")
    given = {"STAGE": stage, "GPUS": gpus, "DATA": lines.data, "ENCODER": encoder}
    done = recipe("infocse/train.sh", "--mask-rate", "0.15", **given)
    assert done.code == 0, done.errors
    (call,) = done.calls
    parsed = vars(parse_training(call))
    common = {"task": "sentence_embedding", "max_length": 32, "mask_rate": 0.15, "fp16": True}
    common |= {"scl_temperature": 0.05, "distributed_world_size": gpus, "optimizer": "adam"}
    common |= {"no_save_optimizer_state": False}  # without it an interrupted training begins anew
    for name, value in {**common, **expected}.items():
        assert parsed[name] == value, name


@pytest.fixture
def table(recipe, glue, lines, tmp_path):
    """``table(*options, **environment)``: the whole recipe on stand-ins."""
    (tmp_path / "sts" / "STSBenchmark").mkdir(parents=True)
    (tmp_path / "sts" / "STSBenchmark" / "sts-dev.csv").touch()
    shutil.copytree(lines.data, tmp_path / "outputs" / "infocse" / "text-bin")

    def run(*options, **environment):
        given = {"GLUE": glue, "NUM_LINES": 100, "HUGGINGFACE": "bert", "STS": tmp_path / "sts"}
        return recipe("infocse/run.sh", *options, **{**given, **environment})

    return run


def trainings(done):
    """By the names of their folders."""
    assert done.code == 0, done.errors
    parsed = [parse_training(call) for call in done.calls if call[0] == "fairseq-train"]
    return {one.save_dir.removeprefix("outputs/infocse/runs/"): one for one in parsed}


def test_the_trainings_of_the_table(table):
    found = trainings(table("--dropout", "0.2", ABLATIONS=1))
    rates = (10, 15, 20, 25, 30, 35, 45)
    first = "outputs/infocse/runs/stage-1/checkpoint_last.pt"
    before = "outputs/infocse/encoder/model.pt"
    # What tells a training from stage 2, and where it starts.
    changes = {
        "simcse": (before, {"criterion": "simcse"}),
        "stage-1": (before, {"infocse_contrast": 0, "infocse_lambda": 1, "infocse_mlm": 1}),
        "stage-2": (first, {}),
        "without-stage-1": (before, {}),
        "without-detach": (first, {"infocse_no_detach": True}),
        "without-mlm": (first, {"infocse_lambda": 0}),
        "without-contrast": (first, {"infocse_contrast": 0}),
        "rtd": (first, {"infocse_lambda": 0, "infocse_rtd": 0.005}),
        "rtd-and-mlm": (first, {"infocse_rtd": 0.005}),
        **{f"mask-rate-{rate}": (first, {"mask_rate": rate / 100}) for rate in rates},
    }
    assert [*found] == [*changes]
    stage_2 = {"criterion": "infocse", "mask_rate": 0.4, "dropout": 0.2, "seed": 1}
    stage_2 |= {"infocse_lambda": 0.005, "infocse_contrast": 1, "infocse_mlm": 0, "infocse_rtd": 0}
    stage_2 |= {"infocse_no_detach": False}
    for name, (start, change) in changes.items():
        parsed = vars(found[name])
        assert parsed["finetune_from_model"] == start, name
        for option, value in {**stage_2, **change}.items():
            assert parsed.get(option, value) == value, (name, option)


def test_each_stage_gets_the_options_that_it_knows(table):
    """Fairseq itself parses every line: an option that a stage does not know would end this."""
    options = ["--infocse-states", "frozen", "--infocse-layers=3", "--simcse-mlp", "none"]
    found = trainings(table(*options, "--scl-temperature", "0.1", "--dropout", "0.2"))
    assert [*found] == ["simcse", "stage-1", "stage-2"]
    for name, parsed in found.items():
        assert (parsed.simcse_mlp, parsed.scl_temperature, parsed.dropout) == ("none", 0.1, 0.2)
        states = (getattr(parsed, "infocse_states", None), getattr(parsed, "infocse_layers", None))
        assert states == ((None, None) if name == "simcse" else ("frozen", 3)), name


def test_an_option_that_no_stage_knows_is_left_to_fairseq(table):
    done = table("--infocse-state", "frozen")
    calls = [call for call in done.calls if call[0] == "fairseq-train"]
    assert ["--infocse-state" in call for call in calls] == [False, True, True]


def test_what_was_made_stays_and_is_not_taken_for_another(table, tmp_path):
    done = table()
    assert [*trainings(done)] == ["simcse", "stage-1", "stage-2"]
    named = [call for call in done.calls if call[0] == "scl-evaluate" and "--name" in call]
    assert [call[call.index("--name") + 1 :][:3] for call in named] == [
        ["no training", "SimCSE", "InfoCSE"]
    ]
    again = table()
    assert not {"scl-convert", "scl-preprocess", "fairseq-train"} & {c[0] for c in again.calls}
    others = [{"SEED": 2}, {"LAMBDA": 1}, {"NUM_LINES": 99}, {"HUGGINGFACE": "roberta"}]
    others += [{"STAGE_1_EPOCHS": 1}, {"EPOCHS": 2}, {"TEXT": "elsewhere"}]
    for other in others:
        done = table(**other)
        assert (done.code, done.calls) == (2, [])
        assert "outputs/infocse is of encoder bert, 100 sentences of GLUE, seed 1" in done.errors
        assert done.errors.count("\n") == 1
    assert table("--dropout", "0.2").code == 2
    (tmp_path / "outputs" / "infocse" / "made-as").unlink()
    done = table()
    assert (done.code, done.calls) == (2, [])
    assert "has trainings, and no made-as that says of what" in done.errors


def test_without_a_dev_set_nothing_is_trained(table, tmp_path):
    done = table(STS="nowhere")
    assert (done.code, done.calls) == (2, [])
    assert "nowhere has no STSBenchmark/sts-dev.csv" in done.errors
    (tmp_path / "up").mkdir()
    (tmp_path / "sts").rename(tmp_path / "up" / "STS")
    assert table(STS=tmp_path / "up").code == 0


def test_too_few_sentences_are_told_and_more_are_taken(table):
    done = table(NUM_LINES=101)
    assert done.code == 2
    assert "1100 different sentences, fewer than 1101" in done.errors
    assert done.errors.count("\n") == 1
    assert table().code == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"STAGE": "3"}, "STAGE=3, expected simcse, 1 or 2"),
        ({"DATA": "nowhere"}, "nowhere holds no binarised lines"),
        ({"FROM": "nowhere.pt"}, "nowhere.pt is missing"),
    ],
)
def test_what_is_missing_is_one_line(recipe, lines, given, message):
    done = recipe("infocse/train.sh", **{"DATA": lines.data, **given})
    assert done.code == 2
    assert message in done.errors
    assert not done.calls
