"""Tables of one's own through the commands: CSV, JSON lines, quoted TSV, packed or not."""

import csv
import gzip
import hashlib
import io
import json
import random
import re

import pytest

from scl_fairseq.cli import preprocess, sample
from tests.cli.test_bad_input import assert_refused, snapshot, write

TEXTS = ['he said ""fine film"" twice', 'a "good", short film', "tab\there", "two\nlines", "bad",
         "so; so", "3.50", 'ends with a quote"', "über 漢"]  # fmt: skip
ROWS = [(f"{text} {i}", i % 2) for i, text in enumerate(TEXTS * 3)]
FLAT = [(text.replace("\n", " "), label) for text, label in ROWS]
EASY = [("a fine film", 1), ("bad", 0), ("so good", 1)]


def as_csv(rows, header=("sentence", "label"), **dialect):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n", **dialect).writerows(
        [*([header] if header else []), *rows]
    )
    return buffer.getvalue().encode()


def as_json(rows):
    objects = ({"sentence": text, "label": label} for text, label in rows)
    return "".join(json.dumps(one) + "\n" for one in objects).encode()


def plain(rows, header="sentence\tlabel"):
    return "".join(f"{line}\n" for line in (header, *(f"{a}\t{b}" for a, b in rows))).encode()


KINDS = {
    "csv": ("csv", as_csv(ROWS)),
    "semicolons": ("csv", as_csv(ROWS, delimiter=";")),
    "packed csv": ("csv.gz", gzip.compress(as_csv(ROWS))),
    "quoted tsv": ("tsv", as_csv(ROWS, delimiter="\t")),
    "all quoted": ("tsv.gz", gzip.compress(as_csv(ROWS, delimiter="\t", quoting=csv.QUOTE_ALL))),
    "json lines": ("jsonl", as_json(ROWS)),
    "packed json": ("jsonl.gz", gzip.compress(as_json(ROWS))),
    "byte order mark": ("csv", b"\xef\xbb\xbf" + as_csv(ROWS)),
    "CR LF": ("csv", as_csv(ROWS).replace(b"\n", b"\r\n")),
}


@pytest.fixture
def run(gpt2_files, tmp_path, capsys):
    """``run(data, *options)``: preprocess into ``out``; returns what was printed."""

    def of(data, *options, out="out", task="custom", labels=("0", "1")):
        words = ["--task", task, "--data-dir", data, "--destdir", tmp_path / out, "--workers", 1]
        words += ["--bpe", "gpt2", "--bpe-dir", gpt2_files, *options]
        words += ["--labels", *labels] if task == "custom" else []
        code = preprocess.main(list(map(str, words)))
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return of


@pytest.fixture
def refused(gpt2_files, tmp_path, capsys):
    """``refused(message, data, *options)``: it is, in a line, and nothing is written."""

    def of(message, data, *options, task="custom", labels=("0", "1"), main=preprocess.main):
        out = ["--out"] if main is sample.main else ["--workers", 1, "--bpe", "gpt2", "--bpe-dir",
                                                     gpt2_files, "--destdir"]  # fmt: skip
        words = ["--task", task, "--data-dir", data, *out, tmp_path / "none", *options]
        words += ["--labels", *labels] if task == "custom" else []
        before = snapshot(tmp_path)
        assert_refused(main, words, message, capsys)
        assert snapshot(tmp_path) == before

    return of


def binarised(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".bin", ".idx")
    }


def report_of(folder):
    return json.loads((folder / "preprocess.json").read_text("utf-8"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_becomes_the_same_data(kind, run, tmp_path):
    """As the same texts in line-aligned files do, which have no quoting at all."""
    ending, content = KINDS[kind]
    for split in ("train", "dev"):
        write(tmp_path / "own", {f"{split}.{ending}": content})
        write(tmp_path / "aligned", {
            f"{split}.input0": "".join(f"{text}\n" for text, _ in FLAT).encode(),
            f"{split}.label": "".join(f"{label}\n" for _, label in FLAT).encode(),
        })  # fmt: skip
    run(tmp_path / "aligned", out="expected")
    said = run(tmp_path / "own")
    assert binarised(tmp_path / "out") == binarised(tmp_path / "expected")
    assert f"train.{ending}: 3 line breaks inside fields became spaces" in said
    assert ("has CSV quoting" in said) == ("quoted" in kind)
    found = report_of(tmp_path / "out")["files"][f"train.{ending}"]
    assert found["sha256"] == {f"train.{ending}": hashlib.sha256(content).hexdigest()}
    assert found["columns"] == ["label", "sentence"]
    assert found["format"] == ("jsonl" if "json" in kind else "csv")
    assert found["delimiter"] == {"csv": ",", "tsv": "\t", "jsonl": ""}[ending.split(".")[0]] or (
        kind == "semicolons" and found["delimiter"] == ";"
    )


def test_quotes_that_are_text_are_counted(run, tmp_path):
    rows = [('"a film"', 0), ('"fine"', 1), ('he said "fine"', 1), ('a 5" tv', 0)]
    write(tmp_path / "own", dict.fromkeys(("train.tsv", "dev.tsv"), plain(rows)))
    said = run(tmp_path / "own")
    assert "train.tsv: 2 fields in quotes that are text" in said
    assert report_of(tmp_path / "out")["files"]["train.tsv"]["looks_quoted"] == 2
    assert "field" not in run(tmp_path / "own", "--quoting", "csv", out="csv")
    assert binarised(tmp_path / "csv") != binarised(tmp_path / "out")
    assert "looks" not in run(tmp_path / "own", "--quoting", "text", out="text")
    assert binarised(tmp_path / "text") == binarised(tmp_path / "out")


def test_tables_without_a_header(run, refused, tmp_path):
    write(tmp_path / "own", dict.fromkeys(("train.csv", "dev.csv"), as_csv(ROWS, None)))
    write(tmp_path / "turned", dict.fromkeys(("train.csv", "dev.csv"), as_csv(
        [(label, "x", text) for text, label in ROWS], None, delimiter=";")))  # fmt: skip
    write(tmp_path / "named", dict.fromkeys(("train.csv", "dev.csv"), as_csv(ROWS)))
    run(tmp_path / "named", out="expected")
    run(tmp_path / "own", "--columns", "sentence", "label")
    assert binarised(tmp_path / "out") == binarised(tmp_path / "expected")
    named = ["--columns", "y", "other", "text", "--label-column", "y", "--sentence-columns", "text"]
    run(tmp_path / "turned", *named)
    assert binarised(tmp_path / "out") == binarised(tmp_path / "expected")
    refused("train.csv:1: wrong header .* --columns names the fields", tmp_path / "own")
    refused("'label' is not among them; --label-column names", tmp_path / "own", "--columns", "a")
    refused("a name is there twice", tmp_path / "own", "--columns", "a", "a")
    names = ["--columns", "sentence", "label"]
    refused("the first line has the names of --columns", tmp_path / "named", *names)
    refused("--columns goes with --task custom", tmp_path / "own", "--columns", "a", task="SST-2")


def test_dev_is_drawn_from_one_file(run, refused, tmp_path, capsys):
    rows = [(f"text {i}", "no" if i % 4 else "yes") for i in range(101)]
    write(tmp_path, {"reviews.csv": as_csv(rows)})
    path, labels = tmp_path / "reviews.csv", ("no", "yes")
    refused("reviews.csv is train alone; --dev-share", path, labels=labels)
    drawn = {}
    for name, options in {"one": [], "again": [], "other": ["--seed", 5]}.items():
        said = run(path, "--dev-share", "0.2", *options, out=name, labels=labels)
        assert re.search(r"train: 81 rows \(no 60, yes 21\)", said), said
        assert re.search(r"valid: 20 rows \(no 15, yes 5\)", said), said
        drawn[name] = binarised(tmp_path / name)
    assert drawn["one"] == drawn["again"] != drawn["other"]
    report = report_of(tmp_path / "other")
    assert (report["dev_share"], report["seed"]) == (0.2, 5)
    for share in ("0", "1", "x", "-0.5"):
        refused("expected a number between 0 and 1", path, "--dev-share", share, labels=labels)
    write(tmp_path / "both", {"train.csv": as_csv(rows), "dev.csv": as_csv(rows)})
    refused("dev.csv is there; --dev-share", tmp_path / "both", "--dev-share", "0.2", labels=labels)
    refused("--split paper takes dev as test", path, "--dev-share", "0.2", "--split", "paper",
            labels=labels)  # fmt: skip
    lone = as_csv([*rows, ("x", "maybe")])
    write(tmp_path, {"lone.csv": lone})
    refused(r"lone\.csv: 1 rows of class maybe", tmp_path / "lone.csv", "--dev-share", "0.2",
            labels=("no", "yes", "maybe"))  # fmt: skip
    write(tmp_path, {"reviews.parquet": b"PAR1"})
    refused("unknown kind of file, expected .tsv, .csv or .jsonl", tmp_path / "reviews.parquet",
            labels=labels)  # fmt: skip


def test_rows_that_stand_in_train_too(run, tmp_path):
    draw = random.Random(0)
    texts = [f"text {draw.randrange(60)}" for _ in range(80)]
    rows = [(text, i % 2) for i, text in enumerate(texts)]
    write(tmp_path / "own", {"train.csv": as_csv(rows[:50]), "dev.jsonl": as_json(rows[50:])})
    count = sum(text in set(texts[:50]) for text in texts[50:])
    assert f"{count} rows of dev stand in train too" in run(tmp_path / "own")
    assert report_of(tmp_path / "out")["repeated"] == {"valid": count}
    write(tmp_path / "sst", dict.fromkeys(("train.tsv", "dev.tsv"), plain(EASY)))
    assert "stand in" not in run(tmp_path / "sst", task="SST-2")


NAMES = {
    # files: what is said of them
    ("train.tsv", "train.csv", "dev.csv"): "has train.tsv and train.csv, expected one file",
    ("train.csv", "train.csv.gz", "dev.csv"): "has train.csv and train.csv.gz, expected one file",
    ("train.csv", "train.input0", "dev.csv"): "has train.csv and train.input0, expected one file",
    ("train.parquet", "dev.csv"): r"has no train\.tsv, .* but train.parquet",
    ("train.json", "dev.csv"): r"has no train\.tsv, .* but train.json$",
    ("train.txt.gz", "dev.csv"): r"has no train\.tsv, .* but train.txt.gz",
    ("Train.CSV", "dev.csv"): r"has no train\.tsv, .* but Train.CSV",
    ("train.csv", "validation.csv"): r"has no dev\.tsv, .* but validation.csv; --dev-share",
    ("train.csv", "val.tsv", "dev.xlsx"): r"has no dev\.tsv, .* but dev.xlsx, val.tsv; --dev-share",
    ("train.csv",): r"has no dev\.tsv, \.csv or \.jsonl .*; --dev-share",
}


@pytest.mark.parametrize("names", list(NAMES), ids="+".join)
def test_what_is_there_is_named(names, refused, tmp_path):
    write(tmp_path / "own", dict.fromkeys(names, as_csv(ROWS)))
    refused(NAMES[names], tmp_path / "own")


def test_official_files_under_other_endings_are_named(run, refused, tmp_path):
    good = plain(EASY)
    write(tmp_path / "own", {"train.csv": good, "dev.tsv": good})
    refused(r"has no train\.tsv, but train\.csv$", tmp_path / "own", task="SST-2")
    write(tmp_path / "packed", {"train.tsv": gzip.compress(good), "dev.tsv": good})
    refused(r"train\.tsv: a gzip file", tmp_path / "packed", task="SST-2")
    write(tmp_path / "test", {"train.tsv": good, "dev.tsv": good, "test.json": b""})
    assert "has no test.tsv, but test.json" in run(tmp_path / "test", task="SST-2")


UNLABELLED = {
    "SST-2": {"test.tsv": plain([("fine", -1), ("bad", -1)])},
    "csv": {"test.csv": as_csv([("fine", -1), ("bad", -1)])},
    "empty": {"test.csv": as_csv([("fine", ""), ("bad", "")])},
    "json": {"test.jsonl": as_json([("fine", -1), ("bad", -1)])},
    "null": {"test.jsonl": as_json([("fine", None), ("bad", -1)])},
    "no key": {"test.jsonl": b'{"sentence": "fine"}\n{"sentence": "bad"}\n'},
    "aligned": {"test.input0": b"fine\nbad\n", "test.label": b"-1\n-1\n"},
    "quoted": {"test.tsv": as_csv([('"fine"', -1), ("bad", -1)], delimiter="\t")},
}


@pytest.mark.parametrize("case", list(UNLABELLED))
def test_minus_one_in_a_test_set_is_no_label(case, run, tmp_path):
    task = "SST-2" if case == "SST-2" else "custom"
    good = dict.fromkeys(("train.tsv", "dev.tsv"), plain(EASY))
    write(tmp_path / "own", {**good, **UNLABELLED[case]})
    said = run(tmp_path / "own", task=task)
    assert "test: 2 rows (no labels)" in said
    assert ("every label is -1 or empty" in said) == (case != "no key")
    assert not (tmp_path / "out" / "label" / "test.bin").exists()


MIXED = {
    "label behind none": ({"test.tsv": plain([("a", -1), ("b", 1)])},
                          r"test\.tsv:3: a label, '1', expected none \(-1\)"),
    "none behind a label": ({"test.tsv": plain([("a", 1), ("b", -1)])},
                            r"test\.tsv:3: unknown label '-1', .* first row .* has a label"),
    "json": ({"test.jsonl": as_json([("a", 1), ("b", None)])}, r"test\.jsonl:2: no label"),
    "aligned": ({"test.input0": b"a\nb\n", "test.label": b"-1\n0\n"}, r"test\.label:2: a label"),
    "dev": ({"dev.tsv": plain([("a", 0), ("b", -1)])}, r"dev\.tsv:3: unknown label '-1'"),
    "train": ({"train.tsv": plain([("a", -1)])}, r"train\.tsv:2: unknown label '-1'"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(MIXED))
def test_minus_one_elsewhere_is_refused(case, refused, run, tmp_path):
    files, message = MIXED[case]
    good = dict.fromkeys(("train.tsv", "dev.tsv"), plain(EASY))
    write(tmp_path / "own", {**good, **files})
    refused(message, tmp_path / "own")


def test_minus_one_as_a_label_of_ones_own(run, tmp_path):
    rows = plain([("bad", -1), ("fine", 1)])
    write(tmp_path / "own", dict.fromkeys(("train.tsv", "dev.tsv", "test.tsv"), rows))
    assert "test: 2 rows (-1 1, 1 1)" in run(tmp_path / "own", labels=("-1", "1"))


BAD = {
    "no JSON": ({"train.jsonl": b"fine\n"}, r"train\.jsonl:1: .*expected a JSON object"),
    "a list": ({"train.jsonl": as_json(ROWS) + b"[1]\n"}, r"train\.jsonl:28: a list, expected"),
    "cut": ({"train.jsonl": as_json(ROWS)[:-5]}, r"train\.jsonl:27: .* expected a JSON object"),
    "a blank line": ({"train.jsonl": as_json(ROWS) + b"\n"}, r"train\.jsonl:28: blank line"),
    "no such key": ({"train.jsonl": b'{"text": "a", "label": 0}\n'},
                    r"train\.jsonl:1: no 'sentence' among the keys text, label"),
    "a key that is missing later": ({"train.jsonl": as_json(ROWS) + b'{"label": 0}\n'},
                                    r"train\.jsonl:28: nothing as 'sentence', expected text"),
    "null": ({"train.jsonl": b'{"sentence": null, "label": 0}\n'}, r"1: null as 'sentence'"),
    "nested": ({"train.jsonl": b'{"sentence": ["a"], "label": 0}\n'}, r"1: a list as 'sentence'"),
    "a nested label": ({"train.jsonl": b'{"sentence": "a", "label": [0]}\n'}, r"1: a list as 'l"),
    "true": ({"train.jsonl": b'{"sentence": "a", "label": true}\n'}, r"1: unknown label 'True'"),
    "half": ({"train.jsonl": b'{"sentence": "a", "label": 0.5}\n'}, r"1: unknown label '0.5'"),
    "NaN": ({"train.jsonl": b'{"sentence": "a", "label": NaN}\n'}, r"1: NaN is no JSON"),
    "a key twice": ({"train.jsonl": b'{"sentence": "a", "sentence": "b", "label": 0}\n'},
                    r"1: the key 'sentence' is there twice"),
    "deep": ({"train.jsonl": b"[" * 100_000}, r"train\.jsonl:1: .*expected a JSON object"),
    "half a surrogate": ({"train.jsonl": b'{"sentence": "\\ud800", "label": 0}\n'}, r"surrogate"),
    "NUL": ({"train.jsonl": b'{"sentence": "\\u0000", "label": 0}\n'}, r"1: a NUL byte"),
    "no gzip": ({"train.csv.gz": as_csv(ROWS)}, r"train\.csv\.gz: no whole gzip file"),
    "half a gzip": ({"train.csv.gz": gzip.compress(as_csv(ROWS))[:-20]}, r"no whole gzip file"),
    "gzip without its name": ({"train.csv": gzip.compress(as_csv(ROWS))},
                              r"train\.csv: a gzip file, expected a name that ends in \.gz"),
    "a quote that never closes": ({"train.csv": as_csv(ROWS) + b'"fine,1\n'},
                                  r"train\.csv:32: malformed CSV"),
    "text behind a quote": ({"train.csv": as_csv(ROWS) + b'"a "fine" film",1\n'},
                            r"train\.csv:32: malformed CSV"),
    "an extra field": ({"train.csv": as_csv(ROWS) + b"a,b,1\n"},
                       r"train\.csv:32: 3 fields, expected 2"),
    "latin-1": ({"train.csv": as_csv(ROWS) + "\u00fc,1\n".encode("latin-1")},
                r"train\.csv:32: not UTF-8"),
    "UTF-16": ({"train.csv": as_csv(ROWS).decode().encode("utf-16")}, r"train\.csv:1: "),
    "empty": ({"train.csv": b""}, r"train\.csv:1: empty file"),
    "text in a csv": ({"train.csv": as_csv(ROWS)}, r"a \.csv is CSV", "--quoting", "text"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_bad_tables_are_refused(case, refused, tmp_path):
    files, message, *options = BAD[case]
    write(tmp_path / "own", {"dev.csv": as_csv(ROWS), **files})
    refused(message, tmp_path / "own", *options)


def test_numbers_and_truth_as_labels(run, tmp_path):
    rows = [("a", 0), ("b", 1.0), ("c", "1")]
    write(tmp_path / "own", dict.fromkeys(("train.jsonl", "dev.jsonl"), as_json(rows)))
    assert "train: 3 rows (0 1, 1 2)" in run(tmp_path / "own")
    rows = [("a", True), ("b", False), (3, True)]
    write(tmp_path / "own", dict.fromkeys(("train.jsonl", "dev.jsonl"), as_json(rows)))
    assert "train: 3 rows (false 1, true 2)" in run(tmp_path / "own", labels=("false", "true"))


def sampled(data, out, *options):
    words = ["--data-dir", data, "--out", out, *options]
    return sample.main(list(map(str, words)))


def test_samples_of_tables(tmp_path, capsys, refused):
    rows = [(f"{text} {i}", i % 2) for i, (text, _) in enumerate(ROWS * 4)]
    write(tmp_path, {"reviews.csv": as_csv(rows, None, delimiter=";")})
    path = tmp_path / "reviews.csv"
    own = ["--task", "custom", "--labels", 0, 1, "--columns", "sentence", "label"]
    draw = [*own, "--dev-share", 0.3, "--num-examples", 8, "--num-samples", 2, "--seed", 3]
    assert sampled(path, tmp_path / "out", *draw) == 0
    said = capsys.readouterr().out
    assert "reviews.csv: 12 line breaks inside fields became spaces" in said
    assert "reviews.csv: 12 rows with tabs, in samples they are spaces" in said
    texts = [re.sub("[\n\t]", " ", text) for text, _ in rows]
    parts = {}
    for name in ("train", "dev", "test"):
        lines = (tmp_path / "out" / "sample1" / f"{name}.tsv").read_text("utf-8").splitlines()
        found = [line.split("\t") for line in lines[1:]]
        parts[name] = {int(row) for row, *_ in found}
        assert all(texts[int(row)] == text for row, _, text in found)
        assert all(str(rows[int(row)][1]) == label for row, label, _ in found)
    assert len(parts["train"] | parts["dev"] | parts["test"]) == sum(map(len, parts.values()))
    assert len(parts["dev"]) + len(parts["test"]) == round(0.3 * len(rows))
    manifest = tmp_path / "out" / "sample1" / "manifest.json"
    assert json.loads(manifest.read_text())["reading"] == {
        "columns": ["sentence", "label"], "quoting": "auto", "dev_share": 0.3}  # fmt: skip
    assert sampled(path, tmp_path / "again", "--from-manifest", manifest) == 0
    assert snapshot(tmp_path / "again") == snapshot(tmp_path / "out" / "sample1")
    named = ["--num-examples", 8, "--columns", "sentence", "label"]
    refused("reviews.csv is train alone; --dev-share", path, *named, main=sample.main)


def test_a_manifest_of_an_earlier_version_reads_quotes_as_text(tmp_path):
    """It knew no quoting: its sample has the quotes."""
    rows = [('he said "fine"', i % 2) for i in range(12)]
    write(tmp_path / "own", dict.fromkeys(("train.tsv", "dev.tsv"), as_csv(rows, delimiter="\t")))
    draw = ["--task", "custom", "--labels", 0, 1, "--num-examples", 4, "--num-samples", 1]
    assert sampled(tmp_path / "own", tmp_path / "out", *draw) == 0
    manifest = tmp_path / "out" / "sample0" / "manifest.json"
    values = json.loads(manifest.read_text("utf-8"))
    del values["reading"], values["sha256"]
    manifest.write_text(json.dumps(values), encoding="utf-8")
    again = ["--from-manifest", manifest]
    assert sampled(tmp_path / "own", tmp_path / "again", *again) == 0
    assert '"he said ""fine"""' in (tmp_path / "again" / "train.tsv").read_text("utf-8")
    assert '\the said "fine"\n' in (tmp_path / "out" / "sample0" / "train.tsv").read_text("utf-8")
