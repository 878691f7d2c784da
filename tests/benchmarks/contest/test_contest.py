"""The contest: what it draws, runs, keeps, skips and says."""

import csv
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.contest import __main__ as contest
from benchmarks.contest import contenders, running, set_fit
from benchmarks.contest.records import Records
from benchmarks.contest.rows import Rows
from benchmarks.contest.samples import Draw, Entrant, sample_folders
from scl_fairseq.data.manifest import Manifest
from scl_fairseq.data.sampling import redraw
from scl_fairseq.data.tasks import custom_task

ROOT = Path(__file__).resolve().parents[3]
TOPICS = {
    "food": ["soup", "bread", "salad", "cheese", "dinner", "kitchen", "pepper", "lunch"],
    "sport": ["goal", "match", "team", "coach", "league", "player", "score", "stadium"],
}


def write_pairs(folder, rows=120, seed=0):
    """Question and answer of one topic or of two; as CSV, with commas and quotes in the text."""
    generator = random.Random(seed)
    folder.mkdir()
    for name, count in (("train", 2 * rows), ("dev", rows)):
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["verdict", "question", "answer"])
            for place in range(count):
                first = generator.choice(list(TOPICS))
                alike = place % 3 == 0
                second = first if alike else next(topic for topic in TOPICS if topic != first)
                words = [" ".join(generator.sample(TOPICS[topic], 3)) for topic in (first, second)]
                verdict = "same" if alike else "other"
                writer.writerow([verdict, f'what of "{words[0]}", {place}', f"{words[1]}, sure"])
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("own") / "topics")


OWN = ["--label-column", "verdict", "--sentence-columns", "question", "answer"]


def run(*words, **changes):
    """The command, as a user types it."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.contest", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **changes},
        check=False,
    )


@pytest.fixture(scope="module")
def finished(pairs, tmp_path_factory):
    """Two trials of one contender on own pairs: command line, folder and what was said."""
    out = tmp_path_factory.mktemp("contest") / "out"
    words = ["--data-dir", f"mine={pairs}", *OWN, "--out", out, "--num-examples", 12]
    words += ["--num-samples", 2, "--most-test", 30, "--contenders", "frozen"]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    return words, out, done.stdout


def lines_of(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]


def table(path):
    """Rows of a sample's table, read by the csv module."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_trial_is_a_line_and_its_predictions(finished):
    _, out, _ = finished
    records = lines_of(out)
    assert [(one["sample"], one["contender"]) for one in records] == [(0, "frozen"), (1, "frozen")]
    for one in records:
        sample = out / "samples" / "test30-seed1" / "mine" / "12" / f"sample{one['sample']}"
        labels = [row["label"] for row in table(sample / "test.tsv")]
        predictions = (out / "predictions" / f"{one['key']}.txt").read_text("utf-8").splitlines()
        assert len(labels) == one["test_rows"] == 30
        assert set(predictions) <= {"same", "other"}
        right = sum(a == b for a, b in zip(predictions, labels, strict=True))
        assert one["accuracy"] == right / 30
        assert one["cpu_seconds"] > 1  # it has imported torch
        assert one["found"]["C"] in one["settings"]["C"]
        assert one["machine"]["torch"]
    assert len(table(sample / "train.tsv")) == 12


def test_it_is_logistic_regression_on_mean_vectors(finished):
    """Predicted once more from transformers' own hidden states."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoModel, AutoTokenizer

    from scl_fairseq.checkpoints.embedded import find_encoder

    _, out, _ = finished
    one = lines_of(out)[1]
    sample = out / "samples" / "test30-seed1" / "mine" / "12" / "sample1"
    tokenizer = AutoTokenizer.from_pretrained(find_encoder())
    model = AutoModel.from_pretrained(find_encoder()).eval()

    @torch.no_grad()
    def vector(sentence):
        states = model(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0]
        return torch.nn.functional.normalize(states.mean(dim=0), dim=0).double().numpy()

    def features(rows):
        both = [(vector(row["sentence1"]), vector(row["sentence2"])) for row in rows]
        return np.array([np.concatenate([u, v, abs(u - v), u * v]) for u, v in both])

    train, dev, test = (table(sample / f"{name}.tsv") for name in ("train", "dev", "test"))
    classifier = LogisticRegression(C=one["found"]["C"], max_iter=1000)
    classifier.fit(features(train), [row["label"] for row in train])
    on_dev = classifier.predict(features(dev)) == [row["label"] for row in dev]
    assert one["found"]["dev_accuracy"] == pytest.approx(on_dev.mean())
    predictions = (out / "predictions" / f"{one['key']}.txt").read_text("utf-8").splitlines()
    assert list(classifier.predict(features(test))) == predictions


def rows_of(said):
    """Cells of the lines about the one contender, table by table."""
    lines = [line.split("|")[1:-1] for line in said.splitlines() if line.startswith("| logistic")]
    return [[cell.strip() for cell in line[1:]] for line in lines]


def test_what_is_said_is_what_was_found(finished):
    _, out, said = finished
    values = [100 * one["accuracy"] for one in lines_of(out)]
    mean = f"{statistics.mean(values):.1f}"
    accuracy, cost, _ = rows_of(said)
    assert accuracy == [f"{mean} ± {statistics.stdev(values):.1f}", mean]
    seconds = f"{statistics.mean(one['cpu_seconds'] for one in lines_of(out)):.0f}"
    assert cost == [seconds, seconds, "—"]


@pytest.mark.slow
def test_a_repeated_command_skips_what_is_done(finished, tmp_path):
    words, out, _ = finished
    copy = shutil.copytree(out, tmp_path / "copy")
    first, second = (copy / "results.jsonl").read_text("utf-8").splitlines()
    # Killed while it wrote the second line, whose predictions are there already.
    (copy / "results.jsonl").write_text(f"{first}\n{second[:40]}", encoding="utf-8")
    (copy / "predictions" / f"{json.loads(first)['key']}.txt").touch()
    words = [copy if word == out else word for word in words]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "2 trials, 1 of them done" in done.stdout
    again = lines_of(copy)
    assert json.dumps(again[0]) == first
    assert again[1]["accuracy"] == json.loads(second)["accuracy"]
    assert again[1]["key"] == json.loads(second)["key"]
    # Nothing is run where all is done, and more samples go on from there.
    done = run(*words, "--only-report", "--num-samples", "3")
    assert done.returncode == 0, done.stderr
    assert "(2)" in done.stdout
    assert len(lines_of(copy)) == 2


def test_costs_may_come_from_a_run_apart(finished, tmp_path):
    words, out, _ = finished
    record = {**lines_of(out)[0], "cpu_seconds": 12345.0}
    (tmp_path / "results.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    done = run(*words, "--only-report", "--costs-from", tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows_of(done.stdout)[1] == ["12345", "12345", "—"]
    assert "second run" in done.stdout


def test_test_rows_are_capped_and_the_sample_stays_valid(pairs, tmp_path):
    task = custom_task(["other", "same"], "verdict", ["question", "answer"])
    entrant = Entrant("mine", task, pairs)
    (whole,) = sample_folders(entrant, Draw(12, 1, 1, 1000), tmp_path)
    capped = sample_folders(entrant, Draw(12, 2, 1, 30), tmp_path)
    for name in ("train.tsv", "dev.tsv"):
        assert (whole / name).read_bytes() == (capped[0] / name).read_bytes()
    rows, kept = table(whole / "test.tsv"), table(capped[0] / "test.tsv")
    assert len(rows) == 60
    assert len(kept) == 30
    places = [rows.index(row) for row in kept]
    assert places == sorted(places)
    assert places != list(range(30))
    assert Counter(row["label"] for row in kept) == {"same": 10, "other": 20}
    assert table(capped[1] / "test.tsv") == kept
    # Its manifest draws the very same files again.
    manifest = Manifest.read(capped[0] / "manifest.json")
    again = redraw(manifest, pairs, tmp_path / "again")
    for name in ("train.tsv", "dev.tsv", "test.tsv", "manifest.json"):
        assert (again / name).read_bytes() == (capped[0] / name).read_bytes()


def test_more_samples_leave_the_first_as_they_were(pairs, tmp_path):
    task = custom_task(["other", "same"], "verdict", ["question", "answer"])
    entrant = Entrant("mine", task, pairs)
    before = {
        path.name: path.read_bytes()
        for path in sample_folders(entrant, Draw(12, 1, 1, 30), tmp_path)[0].iterdir()
    }
    first, *more = sample_folders(entrant, Draw(12, 3, 1, 30), tmp_path)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert len({(path / "train.tsv").read_bytes() for path in (first, *more)}) == 3


def test_cpu_seconds_are_those_of_a_process_and_its_children(tmp_path):
    burn = "import time\nwhile time.process_time() < 0.8: pass"
    nested = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {burn!r}])"
    cost = running.measured([sys.executable, "-c", nested], {})
    assert 0.8 < cost.cpu < 3
    idle = running.measured([sys.executable, "-c", "import time; time.sleep(1)"], {})
    assert idle.cpu < 0.5
    assert idle.wall > 1


@pytest.mark.slow
def test_one_that_fails_is_named_and_the_others_go_on(pairs, tmp_path, monkeypatch, capsys):
    broken = contenders.Contender("broken", "no_such_module", contenders.frozen)
    monkeypatch.setitem(contenders.CONTENDERS, "setfit", broken)
    words = ["--data-dir", str(pairs), *OWN, "--out", str(tmp_path / "out"), "--num-examples", "12"]
    words += ["--num-samples", "1", "--most-test", "30", "--contenders", "setfit", "frozen"]
    assert contest.main(words) == 1
    said = capsys.readouterr()
    assert "topics N=12 sample 0 setfit: failed" in said.out
    assert "1 failed" in said.err
    assert "no_such_module" in (tmp_path / "out" / "failures.log").read_text("utf-8")
    assert [one["contender"] for one in lines_of(tmp_path / "out")] == ["frozen"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--glue-dir"),
        (["--glue-dir", "nowhere"], "nowhere"),
        (["--yelp-dir", "nowhere"], "nowhere"),
        (["--data-dir", "nowhere"], "nowhere"),
        (["--data-dir", "{pairs}"], "label"),
        (["--data-dir", "{pairs}", "--label-column", "question"], "--labels"),
        (["--data-dir", "a={pairs}", "a={pairs}", *OWN], "NAME=DIR"),
        (["--data-dir", "{pairs}", *OWN, "--tasks", "SST-2"], "--tasks SST-2"),
        (["--data-dir", "{pairs}", *OWN, "--num-samples", "1", "2"], "--num-samples"),
        (["--data-dir", "{pairs}", *OWN, "--num-examples", "5000"], "5000"),
        (["--data-dir", "{pairs}", *OWN, "--contenders", "svm"], "svm"),
        (["--data-dir", "{pairs}", *OWN, "--costs-from", "nowhere"], "--costs-from nowhere"),
        (["--labels", "a", "b", "--glue-dir", "{pairs}"], "--labels"),
    ],
)
def test_bad_input_is_one_line(words, named, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [word.format(pairs=pairs) for word in words]
    if "--contenders" not in words:  # SetFit has an environment of its own
        words += ["--contenders", "frozen"]
    try:
        code = contest.main([*words, "--out", "out"])
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr().err
    assert code == 2
    assert named in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_without_setfit_the_way_to_it_is_named(pairs, tmp_path):
    words = ["--data-dir", pairs, *OWN, "--out", tmp_path / "out"]
    done = run(*words, SETFIT_ENV=str(tmp_path / "none"))
    assert done.returncode == 2
    assert "scripts/setup_setfit.sh" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("sizes", [(10, 10), (9, 11), (3, 30), (5, 6, 7), (1, 1)])
def test_steps_of_setfits_epoch(sizes):
    """Counted pair by pair: each once, with itself too; the rarer kind repeated."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    pairs = list(itertools.combinations_with_replacement(labels, 2))
    alike = sum(a == b for a, b in pairs)
    batches = (2 * max(alike, len(pairs) - alike) + 15) // 16
    assert set_fit.steps_of_an_epoch(labels, 16) == batches


def test_setfit_has_fewer_steps_where_texts_are_long():
    settings = {"batch_size": 16, "least_steps": 10, "most_steps": 60, "most_words": 3200}
    for words, steps in ((1, 60), (2, 50), (4, 25), (100, 10)):
        rows = Rows([0, 1], [("a " * words,), ("b " * words,)])
        assert set_fit.steps_allowed(rows, settings) == steps


def test_records_of_a_damaged_file_are_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"key": "a"}\nnonsense\n{"key": "b"}\n', "utf-8")
    with pytest.raises(ValueError, match=r"results\.jsonl, line 2"):
        Records(tmp_path).read()


@pytest.mark.slow
def test_all_contenders_run(pairs, tmp_path):
    out = tmp_path / "out"
    names = ["frozen", "huggingface", "ce", "scl"]
    if contenders.SETFIT_ENVIRONMENT.exists():
        names.append("setfit")
    words = ["--data-dir", f"mine={pairs}", *OWN, "--out", out, "--contenders", *names]
    done = run(*words, "--num-examples", 12, 300, "--num-samples", 2, 1, "--most-test", 30)
    assert done.returncode == 2  # there are 240 rows
    done = run(*words, "--num-examples", 60, "--num-samples", 2, "--most-test", 30)
    assert done.returncode == 0, done.stderr + done.stdout
    assert {(one["contender"], one["sample"]) for one in lines_of(out)} == {
        (name, sample) for name in names for sample in (0, 1)
    }
    assert "CE+SCL (this project) minus the others" in done.stdout
