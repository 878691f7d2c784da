"""scl-predict and scl-embed take the tables that scl-preprocess takes; lines stay lines."""

import csv
import gzip
import io
import json
import sys

import numpy as np
import pytest

from scl_fairseq.cli import embed, predict

TEXTS = ['a "fine" film', "bad", "good\tfilm", "a film,\nbad", "so; bad", "über 😀 film", "3"]
FLAT = [text.replace("\n", " ") for text in TEXTS]


def as_csv(header, rows, **dialect):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n", **dialect).writerows(
        [*([header] if header else []), *rows]
    )
    return buffer.getvalue().encode()


def rows_of(texts):
    return [(place, text, "x") for place, text in enumerate(texts)]


QUOTED = as_csv(("id", "sentence", "remark"), rows_of(TEXTS), delimiter="\t", quoting=csv.QUOTE_ALL)
JSON = b"".join(json.dumps({"text": text, "n": 1}).encode() + b"\n" for text in TEXTS)
OWN = ("id", "sentence", "remark")
OTHER = ("id", "review", "remark")
NAMED = ["--sentence-columns", "review"]
TABLES = {
    # name: (file name, content, options)
    "csv": ("in.csv", as_csv(OWN, rows_of(TEXTS)), []),
    "semicolons": ("in.csv", as_csv(OWN, rows_of(TEXTS), delimiter=";"), []),
    "quoted tsv": ("in.tsv", as_csv(OWN, rows_of(TEXTS), delimiter="\t"), []),
    "all in quotes": ("in.tsv", QUOTED, []),
    "packed": ("in.tsv.gz", gzip.compress(as_csv(OWN, rows_of(TEXTS), delimiter="\t")), []),
    "json lines": ("in.jsonl", JSON, []),
    "another name": ("in.csv", as_csv(OTHER, rows_of(TEXTS)), NAMED),
    "another name, tsv": ("in.tsv", as_csv(OTHER, rows_of(TEXTS), delimiter="\t"), NAMED),
    "no header": ("in.csv.gz", gzip.compress(as_csv(None, rows_of(TEXTS))),
                  [*NAMED, "--columns", *OTHER]),
    "no header, tsv": ("in.tsv", as_csv(None, rows_of(TEXTS), delimiter="\t"),
                       [*NAMED, "--columns", *OTHER]),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(classifier):
    import scl_fairseq

    return scl_fairseq.load(classifier)


def run(main, *arguments):
    return main(list(map(str, arguments)))


@pytest.mark.parametrize("case", list(TABLES))
def test_tables_are_predicted_as_their_texts_are(case, classifier, model, tmp_path, capsys):
    name, content, options = TABLES[case]
    (tmp_path / name).write_bytes(content)
    assert run(predict.main, classifier, "--input", tmp_path / name, *options) == 0
    captured = capsys.readouterr()
    found = [line.split("\t") for line in captured.out.splitlines()[1:]]
    expected = model.predict(FLAT)
    assert [label for label, *_ in found] == expected.labels
    for (_, *values), row in zip(found, expected.probabilities.tolist(), strict=True):
        assert list(map(float, values)) == pytest.approx(row, abs=1e-5)
    assert "1 line break inside fields became a space" in captured.err
    assert ("has CSV quoting" in captured.err) == (".tsv" in name)


def test_a_table_is_embedded(classifier, model, tmp_path, capsys):
    (tmp_path / "in.csv").write_bytes(TABLES["csv"][1])
    out = tmp_path / "vectors.npy"
    assert run(embed.main, classifier, "--input", tmp_path / "in.csv", "--output", out) == 0
    expected = model.embed(FLAT).numpy()
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-4, atol=1e-5)
    pairs = as_csv(("question", "answer"), [("a fine film", "bad"), ("bad", "film")])
    (tmp_path / "pairs.csv").write_bytes(pairs)
    named = ["--sentence-columns", "answer", "question"]
    assert (
        run(embed.main, classifier, "--input", tmp_path / "pairs.csv", "--output", out, *named) == 0
    )
    expected = model.embed([("bad", "a fine film"), ("film", "bad")]).numpy()
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-4, atol=1e-5)


def test_the_columns_of_the_training_are_known(classifier):
    """The sample that it was trained on has this one."""
    about = json.loads((classifier / "text.json").read_text("utf-8"))
    assert about["sentence_columns"] == ["sentence1"]


LINES = {
    # name: (file name, lines): read as before, whatever quotes they have
    "text": ("in.txt", ['"a ""fine"" film"', "bad, film"]),
    "no ending": ("in", ['"a fine film"', "sentence"]),
    "packed": ("in.txt.gz", ["a fine film", '"bad"']),
    "tsv": ("in.tsv", ["a fine film", '"bad"']),
}  # fmt: skip


@pytest.mark.parametrize("case", list(LINES))
def test_lines_are_lines(case, classifier, model, tmp_path, capsys):
    name, lines = LINES[case]
    data = "".join(f"{line}\n" for line in lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert run(predict.main, classifier, "--input", tmp_path / name) == 0
    captured = capsys.readouterr()
    assert [line.split("\t")[0] for line in captured.out.splitlines()[1:]] == model.predict(
        lines
    ).labels
    assert captured.err == ""


def test_pairs_of_a_tsv_and_lines_of_standard_input(
    classifier, model, tmp_path, capsys, monkeypatch
):
    (tmp_path / "in.tsv").write_text("a fine film\tbad\nbad\tfilm\n")
    out = tmp_path / "vectors.npy"
    assert run(embed.main, classifier, "--input", tmp_path / "in.tsv", "--output", out) == 0
    expected = model.embed([("a fine film", "bad"), ("bad", "film")]).numpy()
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-4, atol=1e-5)
    (tmp_path / "lines").write_bytes(b'"a ""fine"" film"\n')
    with (tmp_path / "lines").open() as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        assert run(predict.main, classifier) == 0
    (row,) = model.predict(['"a ""fine"" film"']).probabilities.tolist()
    values = capsys.readouterr().out.splitlines()[1].split("\t")[1:]
    assert list(map(float, values)) == pytest.approx(row, abs=1e-5)


REFUSED = {
    "unknown columns": ("in.csv", as_csv(OTHER, rows_of(TEXTS)), [],
                        "in.csv:1: the columns are 'id', 'review', 'remark'; --sentence-columns"),
    "unknown keys": ("in.jsonl", b'{"review": "a"}\n', [], "the columns are 'review'"),
    "a column that is not there": ("in.csv", as_csv(OWN, rows_of(TEXTS)), NAMED, "missing: review"),
    "two for one": ("in.csv", as_csv(OWN, rows_of(TEXTS)), ["--sentence-columns", "id", "sentence"],
                    "expected 1, as in training"),
    "the same twice": ("in.csv", as_csv(OWN, []), ["--sentence-columns", "id", "id"], "expected 1"),
    "options of lines": ("in.txt", b"a\n", ["--quoting", "csv"], "no columns and no quoting"),
    "a quote that never closes": ("in.csv", as_csv(OWN, []) + b'1,"a\n', [], "in.csv:2: malformed"),
    "a row with more": ("in.csv", as_csv(OWN, [(1, "a", "b", "c")]), [], "in.csv:2: 4 fields"),
    "no object": ("in.jsonl", b'{"text": "a"}\n[]\n', [], "in.jsonl:2: a list, expected a JSON"),
    "half a gzip": ("in.csv.gz", gzip.compress(QUOTED)[:-9], [], "no whole gzip"),
    "half a text": ("in.txt.gz", gzip.compress(b"a\n" * 99)[:-9], [], "no whole gzip"),
    "gzip without its name": ("in.csv", gzip.compress(QUOTED), [], "a gzip file"),
    "empty": ("in.csv", b"", [], "in.csv:1: empty file"),
    "a tsv with other names": ("in.tsv", as_csv(OTHER, rows_of(["a"]), delimiter="\t"), [],
                               "--sentence-columns reads a table with a header"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(REFUSED))
def test_bad_tables_are_one_line(case, classifier, tmp_path, capsys):
    name, content, options, message = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    assert run(predict.main, classifier, "--input", tmp_path / name, *options) == 2
    captured = capsys.readouterr()
    assert captured.out in ("", "label\t0\t1\n")
    (line,) = captured.err.splitlines()
    assert message in line


def test_options_of_tables_need_a_file(classifier, capsys):
    for options in (NAMED, ["--columns", "a"], ["--quoting", "csv"]):
        assert run(predict.main, classifier, *options) == 2
        assert f"{options[0]} goes with a table" in capsys.readouterr().err
