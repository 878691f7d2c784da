"""``scl-train``: a table in, a classifier out, by the very ``fairseq-train`` that it prints."""

import csv
import gzip
import io
import json
import os
import re
import shlex
import subprocess
from types import SimpleNamespace

import pytest

import scl_fairseq
from scl_fairseq.cli import convert, embed, evaluate, predict, train
from tests import runs
from tests.training.commands import (
    CTRL_C,
    KILL,
    line_of,
    reviews,
    scl_train,
    stopped,
    write_csv,
)

OPTIONS = ["--max-epoch", 3, "--batch-size", 8, "--lr", "1e-3"]


@pytest.fixture(scope="module")
def table(tiny, tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("table") / "reviews.csv", reviews(tiny))


def command(table, tiny, out, *options):
    columns = ["--text", "review", "--label", "opinion"]
    return [table, *columns, "--out", out, "--encoder", tiny.encoder, *options]


@pytest.fixture(scope="module")
def model(table, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "a model"
    done = scl_train(*command(table, tiny, out, *OPTIONS))
    assert done.returncode == 0, done.stdout
    return SimpleNamespace(out=out, output=done.stdout)


def test_it_tells_data_recipe_line_and_scores(model):
    output = model.output
    assert "2 classes (bad, really, gut); train 49, valid 12" in output
    assert re.search(r"recipe: max-epoch \d+, .*then as told: --max-epoch 3", output)
    assert "scl_fairseq/training/recipes.py" in output
    assert "scores on dev" in output
    assert re.search(r"\| accuracy \(%\) +\| +[\d.]+ \|", output)
    assert "| 95 % interval" in output
    assert "1 row of dev stands in train too" in output or "rows of dev" not in output
    assert "scl-predict" in output


def test_the_folder_holds_what_is_needed_and_no_more(model):
    names = {path.name for path in model.out.iterdir()}
    assert {"checkpoint_best.pt", "data", "train.json", "train.log", "text.json"} <= names
    assert not {"checkpoint_last.pt", "first-stage", "crash.pt"} & names
    record = json.loads((model.out / "train.json").read_text("utf-8"))
    assert record["labels"] == ["bad, really", "gut"]
    assert record["lines"] == line_of(model.output)


def test_the_printed_line_gives_the_same_weights_from_another_folder(model, tmp_path):
    (line,) = line_of(model.output)
    again = line.replace(f"--save-dir '{model.out}'", f"--save-dir {tmp_path}/again")
    assert again != line
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    subprocess.run(again, shell=True, cwd=tmp_path, env=environment, check=True,
                   capture_output=True)  # fmt: skip
    runs.assert_same_weights(
        model.out / "checkpoint_best.pt", tmp_path / "again/checkpoint_best.pt"
    )


@pytest.mark.parametrize(("do", "code"), [(KILL, -9), (CTRL_C, 130)])
def test_the_same_command_goes_on(model, table, tiny, tmp_path, do, code):
    out = tmp_path / "model"
    own = command(table, tiny, out, *OPTIONS)
    done = scl_train(*own, before=stopped(10, do))
    assert done.returncode == code, done.stdout
    assert (out / "checkpoint_last.pt").exists()
    done = scl_train(*own)
    assert done.returncode == 0, done.stdout
    log = (out / "train.log").read_text("utf-8")
    assert re.search(r"Loaded checkpoint .*checkpoint_last.pt \(epoch 2 @ \d+ updates\)", log)
    runs.assert_same_weights(model.out / "checkpoint_best.pt", out / "checkpoint_best.pt")
    assert not (out / "checkpoint_last.pt").exists()
    # Once more: nothing is left to do.
    before = (out / "checkpoint_best.pt").stat().st_mtime_ns
    again = scl_train(*own)
    assert "was trained by an earlier call" in again.stdout
    assert (out / "checkpoint_best.pt").stat().st_mtime_ns == before
    table_of = re.compile(r"\| accuracy.*")
    assert table_of.search(again.stdout)[0] == table_of.search(done.stdout)[0]


def test_other_options_or_data_are_refused_and_nothing_is_lost(model, table, tiny, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in model.out.rglob("*") if path.is_file()}
    other = write_csv(tmp_path / "other.csv", reviews(tiny, 40))
    for arguments, message in (
        (command(table, tiny, model.out, *OPTIONS, "--seed", 2), "another --seed"),
        (command(table, tiny, model.out, *OPTIONS[:-1], "2e-3"), "another --further options"),
        (command(other, tiny, model.out, *OPTIONS), "a training on other data"),
    ):
        done = scl_train(*arguments)
        assert done.returncode == 2
        assert message in done.stdout.splitlines()[-1]
    after = {path: path.stat().st_mtime_ns for path in model.out.rglob("*") if path.is_file()}
    assert {k: v for k, v in after.items() if k.name != ".lock"} == {
        k: v for k, v in before.items() if k.name != ".lock"
    }


def test_all_commands_take_the_folder(model, table, tmp_path, capsys):
    texts = ['a fine film, "really"', "a bad film"]
    write_csv(tmp_path / "new.csv", [(text,) for text in texts], ["review"])
    own = [str(model.out), "--input", str(tmp_path / "new.csv"), "--device", "cpu"]
    assert predict.main([*own, "--format", "jsonl"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    loaded = scl_fairseq.load(model.out, device="cpu").predict(texts)
    assert [one["label"] for one in told] == loaded.labels
    assert list(told[0]["probabilities"]) == ["bad, really", "gut"]
    assert embed.main([*own, "--output", str(tmp_path / "vectors.npy")]) == 0
    assert evaluate.main([str(model.out), "--data", str(model.out / "data")]) == 0
    scored = capsys.readouterr().out
    accuracy = re.search(r"accuracy \(%\) +\| +([\d.]+)", model.output)[1]
    assert f" {accuracy} |" in scored
    target = ["--to", "huggingface", str(model.out), str(tmp_path / "exported")]
    assert convert.main(target) == 0
    from fairseq.models.roberta import RobertaModel

    hub = RobertaModel.from_pretrained(str(model.out), "checkpoint_best.pt", str(model.out))
    hub.eval()
    best = hub.predict("sentence_classification_head", hub.encode(texts[1])).argmax().item()
    assert loaded.class_names[best] == loaded.labels[1]


def test_a_dry_run_tells_the_line_and_writes_nothing(model, table, tiny, tmp_path):
    out = tmp_path / "made" / "a model"
    done = scl_train(*command(table, tiny, out, *OPTIONS, "--dry-run"))
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "made").exists()
    (line,), (expected,) = line_of(done.stdout), line_of(model.output)
    assert line.replace(str(out), str(model.out)) == expected


FORMS = {
    "all in quotes": ("t.csv", {"quoting": csv.QUOTE_ALL}, "utf-8"),
    "with a byte order mark": ("t.csv", {"lineterminator": "\r\n"}, "utf-8-sig"),
    "semicolons": ("t.csv", {"delimiter": ";"}, "utf-8"),
    "tabs": ("t.tsv", {"delimiter": "\t", "quoting": csv.QUOTE_ALL}, "utf-8"),
    "packed": ("t.csv.gz", {}, "utf-8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_of_any_form_is_read_alike(table, tiny, tmp_path, capsys, form):
    name, how, encoding = FORMS[form]
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    text = io.StringIO(newline="")
    csv.writer(text, **how).writerows(rows)
    content = text.getvalue().encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    told = []
    for path in (table, tmp_path / name):
        own = command(path, tiny, tmp_path / "model", "--dry-run")
        assert train.main(list(map(str, own))) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "2 classes (bad, really, gut); train 49, valid 12" in told[0]


def test_killed_while_it_prepares_it_begins_again(table, tiny, tmp_path):
    out = tmp_path / "model"
    killed = """
from scl_fairseq.data import preprocess
preprocess.keep_files = lambda *told: os.kill(os.getpid(), 9)
"""
    own = command(table, tiny, out, "--max-epoch", 1)
    assert scl_train(*own, before=killed).returncode == -9
    assert any(path.name.startswith(".data.") for path in out.iterdir())
    done = scl_train(*own)
    assert done.returncode == 0, done.stdout


def test_a_folder_of_pairs_with_a_test_set(tiny, tmp_path, capsys):
    rows = reviews(tiny)
    folder = tmp_path / "tables"
    folder.mkdir()
    parts = {"train": rows[:40], "dev": rows[40:50], "test": rows[50:]}
    for name, part in parts.items():
        lines = [
            json.dumps({"first": text, "second": text[::-1], "fits": label == "gut"})
            for _, text, label in part
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    out = tmp_path / "model"
    columns = ["--text", "first", "second", "--label", "fits", "--encoder", tiny.encoder]
    done = scl_train(folder, *columns, "--out", out, "--loss", "ce", "--max-epoch", 1)
    assert done.returncode == 0, done.stdout
    assert "data: pairs of 2 classes (False, True); train 40, valid 10, test 11" in done.stdout
    assert "data, test: 11 examples" in done.stdout
    assert "scores on dev" not in done.stdout
    assert predict.main([str(out), "--input", str(folder / "test.jsonl"), "--device", "cpu"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12


def test_binarised_data_and_a_folder_of_hugging_face(tiny, tmp_path, cache):
    source = tiny.encoder.parent / "huggingface"
    out = tmp_path / "model"
    own = [tiny.data, "--out", out, "--encoder", source, "--max-epoch", 1]
    done = scl_train(*own)
    assert done.returncode == 0, done.stdout
    assert "converting" in done.stdout
    (line,) = line_of(done.stdout)
    assert f"fairseq-train {tiny.data} " in line
    start = re.search(r"--finetune-from-model (\S+)", line)[1]
    assert start.startswith(str(cache))
    assert runs.weights(start).keys() == runs.weights(tiny.encoder / "model.pt").keys()
    assert not (out / "data").exists()
    again = scl_train(*own[:2], tmp_path / "again", *own[3:])
    assert "converting" not in again.stdout
    best = "checkpoint_best.pt"
    runs.assert_same_weights(out / best, tmp_path / "again" / best)


def test_of_glue_it_equals_the_three_commands(tiny, tmp_path):
    from scl_fairseq.cli import preprocess

    glue, out = tmp_path / "glue", tmp_path / "model"
    glue.mkdir()
    for name in ("train", "dev"):
        rows = (tiny.sample / f"{name}.tsv").read_text("utf-8").splitlines()[1:]
        cells = [row.split("\t") for row in rows]
        lines = ["sentence\tlabel", *(f"{text}\t{label}" for _, label, text in cells)]
        (glue / f"{name}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    own = [glue, "--task", "SST-2", "--encoder", tiny.encoder, "--out", out]
    done = scl_train(*own, *OPTIONS, "--loss", "ce")
    assert done.returncode == 0, done.stdout
    data = tmp_path / "data"
    bpe = ["--bpe", "wordpiece", "--bpe-dir", tiny.encoder, "--max-positions", 64]
    assert not preprocess.main(
        [*map(str, ["--task", "SST-2", "--data-dir", glue, "--destdir", data, *bpe])]
    )
    names = ("input0/train.bin", "input0/valid.bin", "label/train.bin", "label/dict.txt")
    for name in names:
        assert (data / name).read_bytes() == (out / "data" / name).read_bytes()
    (line,) = line_of(done.stdout)
    words = shlex.split(line)[1:]
    words[1] = str(data)
    words[words.index("--save-dir") + 1] = str(tmp_path / "again")
    runs.train(words)
    runs.assert_same_weights(out / "checkpoint_best.pt", tmp_path / "again/checkpoint_best.pt")


@pytest.mark.parametrize("loss", ["supcon", "simcse", "infocse"])
def test_other_losses_end_in_a_classifier_too(table, tiny, tmp_path, loss):
    out = tmp_path / "model"
    done = scl_train(*command(table, tiny, out, "--loss", loss, "--max-epoch", 1))
    assert done.returncode == 0, done.stdout
    assert len(line_of(done.stdout)) == 2
    assert f"--criterion {loss}" in line_of(done.stdout)[0]
    assert "--freeze-encoder" in line_of(done.stdout)[1]
    assert not (out / "first-stage").exists()
    assert scl_fairseq.load(out, device="cpu").predict(["a fine film"]).labels


def test_folds_score_every_row_once(table, tiny, tmp_path):
    out = tmp_path / "model"
    own = command(table, tiny, out, "--folds", 3, "--max-epoch", 1)
    done = scl_train(*own)
    assert done.returncode == 0, done.stdout
    assert "cross-validation in 3 folds: accuracy" in done.stdout
    record = json.loads((out / "train.json").read_text("utf-8"))
    found = record["folds_summary"]
    assert found["num_examples"] == 61
    assert [one["num_examples"] for one in record["folds"]] == [21, 20, 20]
    right = [one["accuracy"] * one["num_examples"] / 100 for one in record["folds"]]
    assert found["accuracy"] == pytest.approx(100 * sum(right) / 61)
    assert not (out / "folds").exists()
