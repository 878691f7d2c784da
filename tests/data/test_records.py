"""Rows come out the same however a file falls into blocks."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scl_fairseq.data import blocks
from scl_fairseq.data.blocks import read_blocks
from scl_fairseq.data.records import parse, read_rows
from scl_fairseq.data.sources import open_source
from scl_fairseq.data.tasks import TASKS, custom_task

ONE_FILE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.sampled_from('ab"\n,\\ é漢\r'), max_size=12)


def rows_of(source, size, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
    monkeypatch.setattr(blocks, "LINES_AT_ONCE", max(1, size // 8))
    found, read = [], b""

    def on_bytes(path, data):
        nonlocal read
        read += data

    for block in read_blocks(source, on_bytes):
        records = parse(block)
        found += zip(records.rows, records.lines, records.labels, records.sentences, strict=True)
    assert source.format == "lines" or read == source.path.read_bytes()
    return found


@ONE_FILE
@given(rows=st.lists(st.tuples(st.sampled_from("12"), TEXT), min_size=1, max_size=12),
       size=st.integers(1, 60), last_newline=st.booleans())  # fmt: skip
def test_csv_with_line_breaks_and_quotes(rows, size, last_newline, tmp_path, monkeypatch):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    text = buffer.getvalue() if last_newline else buffer.getvalue().removesuffix("\n")
    path = tmp_path / "train.csv"
    path.write_text(text, encoding="utf-8", newline="")
    source = open_source(TASKS["Yelp-2"], path)
    found = rows_of(source, size, monkeypatch)
    assert [row for row, *_ in found] == list(range(len(rows)))
    assert found == rows_of(source, 1 << 20, monkeypatch)
    line = 1
    for (_, at, label, sentences), (raw_label, review) in zip(found, rows, strict=True):
        assert at == line
        line += 1 + review.count("\n")
        assert "12"[label] == raw_label
        plain = review.replace("\\n", " ").replace('\\"', '"')
        assert sentences[0].split() == plain.split()


@ONE_FILE
@given(rows=st.lists(st.tuples(TEXT, st.sampled_from("01")), min_size=1, max_size=12),
       size=st.integers(1, 60), end=st.sampled_from(["\n", "\r\n"]))  # fmt: skip
def test_tsv(rows, size, end, tmp_path, monkeypatch):
    rows = [(text.replace("\n", "").replace("\r", ""), label) for text, label in rows]
    path = tmp_path / "train.tsv"
    lines = ["sentence\tlabel", *("\t".join(row) for row in rows)]
    path.write_text(end.join(lines) + end, encoding="utf-8", newline="")
    found = rows_of(open_source(TASKS["SST-2"], path), size, monkeypatch)
    assert found == [
        (i, i + 2, int(label), (text.strip(),)) for i, (text, label) in enumerate(rows)
    ]


@ONE_FILE
@given(count=st.integers(1, 40), size=st.integers(1, 60))
def test_line_aligned_files(count, size, tmp_path, monkeypatch):
    task = custom_task(("no", "yes"), sentence_columns=("a", "b"))
    for split in ("train", "dev"):
        for end, lines in (
            ("label", [task.labels[i % 2] for i in range(count)]),
            ("input0", [f"first {i}" for i in range(count)]),
            ("input1", [f"second {i}" * (i % 5) for i in range(count)]),
        ):
            (tmp_path / f"{split}.{end}").write_text("\n".join(lines) + "\n")
    from scl_fairseq.data.folders import open_folder

    source = open_folder(task, tmp_path).sources["train"]
    assert rows_of(source, size, monkeypatch) == [
        (i, i + 1, i % 2, (f"first {i}", f"second {i}" * (i % 5))) for i in range(count)
    ]


def test_a_lone_carriage_return_and_unicode_separators_end_no_line(tmp_path):
    sentence = "one\rtwo\u2028three\x0bfour\x85five"
    (tmp_path / "train.tsv").write_text(f"sentence\tlabel\n{sentence}\t1\n", "utf-8", newline="")
    (row,) = read_rows(TASKS["SST-2"], tmp_path / "train.tsv")
    assert row.sentences == (sentence,)


def test_a_custom_file_that_looks_like_a_samples(tmp_path):
    """Its columns decide, unless a manifest lies beside it."""
    header, row = "id\tlabel\tsentence1\ttext\n", "7\tyes\tone\ttwo\n"
    (tmp_path / "train.tsv").write_text(header + row)
    task = custom_task(("no", "yes"), sentence_columns=("text",))
    assert read_rows(task, tmp_path / "train.tsv")[0].sentences == ("two",)
    (tmp_path / "manifest.json").write_text("{}")
    (found,) = read_rows(task, tmp_path / "train.tsv")
    assert (found.id, found.sentences) == (7, ("one",))


def test_a_record_that_never_ends_is_not_read_to_the_end_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    monkeypatch.setattr(blocks, "LONGEST_RECORD", 1000)
    path = tmp_path / "train.csv"
    path.write_text('"1","fine"\n"2","never closed\n' + "text\n" * 1000)
    with pytest.raises(ValueError, match=r"train\.csv:2: a row of over .* closing quote"):
        list(read_blocks(open_source(TASKS["Yelp-2"], path)))


def test_an_error_far_down_names_its_line(gpt2_files, tmp_path):
    """In a block that another process reads."""
    from scl_fairseq.data.encode import Settings
    from scl_fairseq.data.preprocess import preprocess

    rows = [f"sentence number {i}\t{i % 2}\n" for i in range(60_000)]
    rows[50_001] = "sentence\t2\n"
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
    with pytest.raises(ValueError, match=r"train\.tsv:50003: unknown label '2'"):
        preprocess(
            TASKS["SST-2"], tmp_path, tmp_path / "out", Settings("gpt2", gpt2_files), workers=2
        )
    assert not (tmp_path / "out").exists()
