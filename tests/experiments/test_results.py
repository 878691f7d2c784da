"""Reading a sweep's folder; the lines of sweeps that the tests of reports make up."""

import json
import shutil

import pytest

from scl_fairseq.experiments import results
from scl_fairseq.experiments.results import read_predictions, read_results

OPTIONS = {"lr": 5e-05, "batch-size": 16, "max-epoch": 2}
CONFIG = """\
name: few-shot
published: few-shot
data: few-shot/{task}/{N}/bin/sample{sample}
encoder: embedded
grid:
  task: [SST-2]
  N: [20]
  sample: [0, 1, 2, 3]
  seed: [1]
  scl-lambda: [0, 0.9, 0.5]
  scl-temperature: [0.3]
options: {lr: 5e-5, batch-size: 16, max-epoch: 2}
"""


def setting(scl_lambda, tau=0.3, sample=0, seed=1, task="SST-2", N=20, **options):
    """A trial's setting; ``batch_size=64`` is its option ``batch-size``; None leaves a key out."""
    options = {key.replace("_", "-"): value for key, value in options.items()}
    named = {"task": task, "N": N, "sample": sample, "seed": seed, "scl-lambda": scl_lambda}
    temperature = {"scl-temperature": tau} if scl_lambda else {}
    found = {**named, **temperature, **OPTIONS, **options}
    return {key: value for key, value in found.items() if value is not None}


def line(trial, of, valid, test, **changes):
    """A line of results.jsonl: ``of`` is its setting, ``valid`` and ``test`` are accuracies."""
    names = ("task", "N", "sample")
    place = "/".join(str(of[key]) for key in names if key in of)
    return {
        "trial": trial,
        "setting": of,
        "grid_keys": [key for key in of if key not in OPTIONS],
        "valid_accuracy": [min(valid, 40.0), valid],
        "valid_epochs": [1, 2],
        "train_loss": [0.9, 0.5],
        "best_epoch": 2,
        "best_valid_accuracy": valid,
        "test_accuracy": test,
        "num_test": 100,
        "majority_share": 50.9,
        "collapsed": valid <= 50.9,
        "num_updates": 4,
        "updates_per_second": 2.5,
        "wall_seconds": 3.0,
        "peak_memory_bytes": None,
        "epoch_metrics": {"valid": [], "train": []},
        "data": {"path": f"bin/{place}", "sha256": f"sha of {place}"},
        "encoder_sha256": "53aa51172d14",
        "versions": {"scl-fairseq": "0.1.0", "torch": "2.1"},
        "device": "cpu: one, 1 thread",
        "predictions": f"trials/{trial}/predictions.tsv",
        "checkpoint": None,
        "command": "fairseq-train bin",
        "finished": "2026-11-21T17:30:25+00:00",
        **changes,
    }


def failure(trial, of, error="out of memory"):
    """A line of failures.jsonl."""
    log = f"trials/{trial}/train.log"
    return {"trial": trial, "setting": of, "error": error, "log": log, "finished": "2026-11-21"}


def write_sweep(folder, lines, failures=(), config=CONFIG):
    """A folder as scl-sweep writes it, without predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in (("results.jsonl", lines), ("failures.jsonl", failures)):
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in found), "utf-8")
    if config is not None:
        (folder / "config.yaml").write_text(config, "utf-8")
    return folder


def write_predictions(folder, trial, labels, correct):
    """A trial's predictions.tsv, two classes."""
    other = {"0": "1", "1": "0"}
    rows = ["index\tlabel\tprediction\tcorrect\t0\t1"]
    for index, (label, is_correct) in enumerate(zip(labels, correct, strict=True)):
        prediction = label if is_correct else other[label]
        rows.append(f"{index}\t{label}\t{prediction}\t{int(is_correct)}\t-0.5\t-0.9")
    file = folder / "trials" / trial / "predictions.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(rows) + "\n", "utf-8")
    return file


CE = line("ce", setting(0), 60.0, 50.0)
SCL = line("scl", setting(0.9), 66.0, 60.0)


def test_a_folder_and_its_file_are_the_same(tmp_path):
    folder = write_sweep(tmp_path / "out", [CE, SCL], [failure("f", setting(0.5))])
    read = read_results(folder)
    assert read == read_results(folder / "results.jsonl")
    assert [one.trial for one in read.results] == ["ce", "scl"]
    assert [one.loss for one in read.results] == ["CE", "CE+SCL"]
    assert [one.loss for one in read.failures] == ["CE+SCL"]
    assert read.config.name == "few-shot"
    assert read.results[1].predictions_path == folder / "trials/scl/predictions.tsv"
    assert read.results[1].log_path == folder / "trials/scl/train.log"
    assert read.failures[0].log_path == folder / "trials/f/train.log"


def test_what_is_not_needed_may_be_absent(tmp_path):
    folder = write_sweep(tmp_path, [{**CE, "new": 1}], config=None)
    (folder / "failures.jsonl").unlink()
    read = read_results(folder)
    assert (read.failures, read.config) == ((), None)


def test_a_torn_last_line_is_left_out(tmp_path):
    write_sweep(tmp_path, [CE, SCL], [failure("f", setting(0.5))])
    for name in ("results.jsonl", "failures.jsonl"):
        whole = (tmp_path / name).read_bytes()
        last = whole.splitlines(keepends=True)[-1]
        for kept in (1, len(last) // 2, len(last) - 1):
            (tmp_path / name).write_bytes(whole[: len(whole) - len(last) + kept])
            read = read_results(tmp_path)
            found = read.results if name == "results.jsonl" else read.failures
            assert len(found) == len(whole.splitlines()) - 1
        (tmp_path / name).write_bytes(whole)


def test_a_line_torn_inside_a_character(tmp_path):
    write_sweep(tmp_path, [CE])
    with open(tmp_path / "results.jsonl", "ab") as file:
        file.write('{"device": "é'.encode()[:-1])
    assert len(read_results(tmp_path).results) == 1


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("", r"results\.jsonl:1: no JSON object"),
        ("[1]", r"results\.jsonl:1: no JSON object"),
        ('{"trial": ', r"results\.jsonl:1: no JSON object"),
        ({"trial": "x"}, r"results\.jsonl:1: missing setting, grid_keys"),
        ({**CE, "test_accuracy": float("nan")}, r"1: test_accuracy is nan, expected a number"),
        ({**CE, "test_accuracy": 101}, "1: test_accuracy is 101, expected a number from 0 to 100"),
        ({**CE, "best_valid_accuracy": "60"}, "1: best_valid_accuracy is '60'"),
        ({**CE, "setting": {"scl-lambda": "much"}}, "1: setting is .* number for scl-lambda"),
        ({**CE, "data": {"path": "x"}}, "1: data is .* path and sha256"),
        ({**CE, "collapsed": 0}, "1: collapsed is 0, expected true or false"),
    ],
)
def test_another_malformed_line_is_named(tmp_path, broken, message):
    write_sweep(tmp_path, [])
    text = broken if isinstance(broken, str) else json.dumps(broken)
    (tmp_path / "results.jsonl").write_text(f"{text}\n{json.dumps(SCL)}\n", "utf-8")
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path)


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(b"\xff\n" + json.dumps(SCL).encode() + b"\n")
    with pytest.raises(ValueError, match=r"results\.jsonl:1: no JSON object"):
        read_results(tmp_path)


def test_a_malformed_failure_and_config_are_named(tmp_path):
    write_sweep(tmp_path, [CE], [{"trial": "f"}])
    with pytest.raises(ValueError, match=r"failures\.jsonl:1: missing setting, error, log"):
        read_results(tmp_path)
    write_sweep(tmp_path, [CE], config="grid: [")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_results(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results\.jsonl does not exist"):
        read_results(tmp_path)


def test_a_trial_twice(tmp_path):
    write_sweep(tmp_path, [CE, SCL, CE])
    with pytest.raises(ValueError, match="trial ce is there twice"):
        read_results(tmp_path)
    write_sweep(tmp_path, [CE])
    shutil.copytree(tmp_path, tmp_path / "again")
    parts = [read_results(tmp_path), read_results(tmp_path / "again")]
    with pytest.raises(ValueError, match=r"twice, in .* and in .*again"):
        results.join(parts)


def test_a_setting_twice_however_its_numbers_are_written(tmp_path):
    again = {**CE, "trial": "again", "setting": {**CE["setting"], "scl-lambda": 0.0, "N": 20.0}}
    write_sweep(tmp_path, [CE, again])
    with pytest.raises(ValueError, match="trials ce and again have the same setting"):
        read_results(tmp_path)


def test_two_data_sets_for_one_setting(tmp_path):
    other = {**SCL, "data": {"path": "elsewhere", "sha256": "0123456789abcdef"}}
    for config in (CONFIG, None):
        (tmp_path / "config.yaml").unlink(missing_ok=True)
        write_sweep(tmp_path, [CE, other], config=config)
        with pytest.raises(ValueError, match=r"two different data sets for task SST-2, N 20, samp"):
            read_results(tmp_path)
    same_trial = {**other, "trial": "again", "setting": CE["setting"]}  # other data, other trial id
    write_sweep(tmp_path, [CE, same_trial])
    with pytest.raises(ValueError, match="two different data sets"):
        read_results(tmp_path)


def test_another_key_may_name_the_data(tmp_path):
    noisy = setting(0, noise=0.9)
    lines = [CE, line("noisy", noisy, 60.0, 50.0, data={"path": "noisy", "sha256": "other"})]
    config = CONFIG.replace("few-shot/{task}", "few-shot/{noise}/{task}")
    config = config.replace("  seed: [1]", "  seed: [1]\n  noise: [0.9]")
    assert len(read_results(write_sweep(tmp_path, lines, config=config)).results) == 2


def test_two_encoders_in_one_place(tmp_path):
    write_sweep(tmp_path, [CE, {**SCL, "encoder_sha256": "another"}])
    with pytest.raises(ValueError, match="two different encoders for task SST-2, N 20 "):
        read_results(tmp_path)
    elsewhere = line("scl", setting(0.9, N=100), 66.0, 60.0, encoder_sha256="another")
    assert len(read_results(write_sweep(tmp_path, [CE, elsewhere])).results) == 2


def test_failures_that_succeeded_later_are_dropped(tmp_path):
    other = setting(0.5)
    attempts = [
        failure("ce", CE["setting"]),
        failure("f", other, "first"),
        failure("f", other, "last"),
    ]
    read = read_results(write_sweep(tmp_path, [CE], attempts))
    assert [(one.trial, one.error) for one in read.failures] == [("f", "last")]
    # The same where the result stands in another folder.
    elsewhere = line("f", other, 66.0, 60.0)
    second = read_results(write_sweep(tmp_path / "second", [elsewhere]))
    assert results.join([read, second])[1] == ()


def test_predictions(tmp_path):
    write_sweep(tmp_path, [{**CE, "num_test": 4, "test_accuracy": 75.0}])
    file = write_predictions(tmp_path, "ce", "0110", [1, 1, 0, 1])
    read = read_predictions(file)
    assert read.labels == ("0", "1", "1", "0")
    assert read.correct == (1, 1, 0, 1)
    (result,) = read_results(tmp_path).results
    assert results.predictions_of(result) == read


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("index\t", "number\t", r"predictions\.tsv:1: expected the columns index"),
        ("\n1\t", "\n2\t", r"predictions\.tsv:3: expected 6 fields: index 1"),
        ("\t-0.9\n2", "\n2", r"predictions\.tsv:3: expected 6 fields"),
        ("3\t0\t0\t1", "3\t0\t0\t0", r"predictions\.tsv:5: .* correct 1 where they agree"),
        ("3\t0\t0\t1", "3\t0\t1\t0", r"4 predictions, 50.00 % .* has 4 and 75.00 %"),
        ("\n3\t0\t0\t1\t-0.5\t-0.9", "", r"3 predictions, 66.67 % .* has 4 and 75.00 %"),
    ],
)
def test_malformed_predictions(tmp_path, old, new, message):
    write_sweep(tmp_path, [{**CE, "num_test": 4, "test_accuracy": 75.0}])
    file = write_predictions(tmp_path, "ce", "0110", [1, 1, 0, 1])
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    (result,) = read_results(tmp_path).results
    with pytest.raises(ValueError, match=message):
        results.predictions_of(result)
