"""What the README promises is there, and its commands are accepted word for word."""

import dataclasses
import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.training.commands import scl_train, write_csv

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_gpu_line_is_accepted_by_fairseq(monkeypatch):
    from fairseq import options

    import scl_fairseq  # noqa: F401 (registers the criterion)

    (block,) = (b for b in code_blocks("bash") if b.startswith("fairseq-train"))
    arguments = shlex.split(block.replace("\\\n", " "))[1:]
    at = arguments.index("--user-dir")
    assert arguments[at : at + 2] == ["--user-dir", "scl_fairseq"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["fairseq-train", *arguments])
    parser = options.get_training_parser()
    parsed = options.parse_args_and_arch(parser, arguments)
    assert parsed.fp16
    assert parsed.arch == "roberta_large"
    assert (parsed.scl_lambda, parsed.scl_temperature) == (0.9, 0.3)


def test_the_lines_of_both_stages_are_accepted_by_fairseq(monkeypatch):
    from fairseq import options

    (block,) = (b for b in code_blocks("bash") if "--criterion supcon" in b)
    lines = [line for line in block.replace("\\\n", " ").splitlines() if line[0] != "#"]
    assert len(lines) == 2
    monkeypatch.chdir(ROOT)
    parsed = []
    for line in lines:
        arguments = shlex.split(line)[1:]
        monkeypatch.setattr("sys.argv", ["fairseq-train", *arguments])
        parsed.append(options.parse_args_and_arch(options.get_training_parser(), arguments))
    first, second = parsed
    assert (first.criterion, first.supcon_views) == ("supcon", 2)
    assert second.freeze_encoder
    assert second.finetune_from_model.startswith(first.save_dir)


def test_the_lines_on_unlabelled_text_are_accepted(monkeypatch):
    from fairseq import options

    from scl_fairseq.cli import evaluate

    (block,) = (b for b in code_blocks("bash") if "--criterion simcse" in b)
    lines = {line.split()[0]: line for line in block.replace("\\\n", " ").splitlines()}
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(lines["fairseq-train"])[1:]
    monkeypatch.setattr("sys.argv", ["fairseq-train", *arguments])
    parsed = options.parse_args_and_arch(options.get_training_parser(), arguments)
    assert (parsed.criterion, parsed.task) == ("simcse", "sentence_embedding")
    assert parsed.scl_temperature == 0.05
    arguments = shlex.split(lines["scl-evaluate"])[1:]
    assert evaluate._parser().parse_args(arguments).embedding == ["cls", "mean"]


def test_every_option_is_described():
    from fairseq.criterions.sentence_prediction import SentencePredictionConfig

    from scl_fairseq.criterions.infocse import InfoCSEConfig
    from scl_fairseq.criterions.sentence_prediction_scl import SentencePredictionSCLConfig
    from scl_fairseq.criterions.supcon import SupConConfig
    from scl_fairseq.tasks.sentence_embedding import SentenceEmbeddingConfig

    stock = {field.name for field in dataclasses.fields(SentencePredictionConfig)}
    own = {field.name for field in dataclasses.fields(SentencePredictionSCLConfig)} - stock
    assert {"scl_lambda", "scl_temperature", "scl_reduction", "scl_embedding"} <= own
    own |= {field.name for field in dataclasses.fields(SupConConfig)} - stock
    own |= {field.name for field in dataclasses.fields(InfoCSEConfig)} - stock
    task = {"text_columns", "max_length", "mask_rate", "mask_views"}
    assert task <= {field.name for field in dataclasses.fields(SentenceEmbeddingConfig)}
    own |= task
    for name in own | {"report_mcc", "report_acc_and_f1"}:
        assert f"`--{name.replace('_', '-')}`" in README


def test_the_defaults_of_the_readme_are_those_of_the_code():
    from scl_fairseq.criterions.infocse import InfoCSEConfig
    from scl_fairseq.criterions.sentence_prediction_scl import SentencePredictionSCLConfig
    from scl_fairseq.criterions.supcon import SupConConfig
    from scl_fairseq.tasks.sentence_embedding import SentenceEmbeddingConfig

    said = re.findall(r"(?m)^\| `--([a-z-]+)` \| ([^|]+) \|", README)
    # The temperature is told twice: for the supervised criterions, and for SimCSE.
    assert [value for name, value in said if name == "scl-temperature"] == ["0.3", "0.05"]
    assert SentencePredictionSCLConfig.scl_temperature == SupConConfig.scl_temperature == 0.3
    assert InfoCSEConfig.scl_temperature == 0.05

    def told(default):
        if isinstance(default, (bool, float)):
            return "off" if default is False else f"{default:g}"
        return str(default)

    configs = [SentencePredictionSCLConfig, SupConConfig, InfoCSEConfig, SentenceEmbeddingConfig]
    checked = 0
    for name, value in said:
        for config in configs:
            key = name.replace("-", "_")
            if key != "scl_temperature" and hasattr(config, key):
                assert value == told(getattr(config, key)), (name, config)
                checked += 1
    assert checked >= 30


@pytest.mark.parametrize("block", [block for block in code_blocks("yaml") if "grid:" in block])
def test_the_sweeps_of_the_readme_have_the_trials_they_say(tmp_path, block):
    from scl_fairseq.experiments.settings import settings
    from scl_fairseq.experiments.sweep_config import read_config

    (tmp_path / "sweep.yaml").write_text(block, encoding="utf-8")
    said = re.search(r"= (\d+) trials", block)
    assert len(settings(read_config(tmp_path / "sweep.yaml"))) == int(said[1])


def test_the_loss_example_runs():
    import torch

    (block,) = (b for b in code_blocks("python") if "supervised_contrastive_loss" in b)
    scope = {"embeddings": torch.randn(4, 3), "labels": torch.tensor([0, 1, 0, 1])}
    exec(block, scope)
    assert scope["loss"] > 0


def test_the_first_run_of_a_newcomer(tmp_path, monkeypatch, capsys):
    """The two commands and the five lines, on 150 rows with all that a table may hold."""
    import json

    (block,) = (b for b in code_blocks("bash") if "scl-train reviews.csv" in b)
    training, predicting = (shlex.split(line) for line in block.splitlines())
    write_reviews(tmp_path)
    monkeypatch.chdir(tmp_path)
    timed = "import atexit, time; atexit.register(lambda: print('CPU', time.process_time()))"
    done = scl_train(*training[1:], before=timed)
    assert done.returncode == 0, done.stdout
    # What the clock says depends on what else runs.
    assert float(done.stdout.split("CPU ")[1]) < 90  # 45 seconds on two cores
    predict = importlib.import_module("scl_fairseq.cli.predict")
    assert predict.main(predicting[1:]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 2
    assert [one["label"] for one in told] == ["good", "bad"]
    for one in told:
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)

    (block,) = (b for b in code_blocks("python") if "SCLClassifier" in b)
    assert len(block.split("\n")) - block.count("\n\n") - 1 == 5
    scope = {}
    exec(block, scope)
    assert list(scope["model"].classes_) == ["bad", "good", "so so"]


def write_reviews(folder):
    """Two tables, with commas, quotes, newlines, duplicates and other scripts."""
    words = {
        "good": ["lovely", "a great, moving film", 'they call it "superb"', "とても良い, great"],
        "bad": ["awful", "a boring, dull film", 'they call it "a mess"', "ужасный, terrible"],
        "so so": ["average", "an average, ordinary film", 'they call it "okay"', "普通, ordinary"],
    }
    rows = []
    for number in range(50):
        for label, texts in words.items():
            text = f"{texts[number % 4]},\nsaid {number % 7} of them"
            rows.append([number, text, label])
    write_csv(folder / "reviews.csv", rows)
    new = [["a great, lovely film,\ntruly"], ["awful, boring and dull"]]
    write_csv(folder / "new.csv", new, ["review"])


JOINED = README.replace("\\\n", " ")
COMMANDS = r"(?:scl-augment|scl-preprocess|scl-sample|scl-sweep|scl-report|scl-plot|scl-train)"
OWN = sorted(set(re.findall(rf"(?m)(?:^|`)({COMMANDS} [^`#\n…]+)(?:[`#]|$)", JOINED)))


@pytest.mark.parametrize("line", OWN)
def test_own_commands_are_accepted(line):
    name, *arguments = shlex.split(line)
    module = importlib.import_module(f"scl_fairseq.cli.{name.removeprefix('scl-')}")
    module._parser().parse_args(arguments)


def test_own_commands_were_found():
    assert len(OWN) >= 5


@pytest.mark.parametrize("script", sorted(set(re.findall(r"scripts/\w+\.sh", README))))
def test_scripts_exist_and_say_how_they_are_called(script):
    done = subprocess.run([ROOT / script, "--help"], capture_output=True, text=True, check=True)
    assert "example:" in done.stdout


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?m)(?:`|^)make ([a-z-]+)", README))))
def test_make_targets_exist(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#][^)]*)\)", README)
    local = [link for link in links if not link.startswith("http")]
    assert local
    for link in local:
        assert (ROOT / link).exists(), link
