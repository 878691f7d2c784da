"""Tables of one's own come back as the texts that were written, in every dialect."""

import csv
import gzip
import io
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scl_fairseq.data import blocks, dialects
from scl_fairseq.data.blocks import read_blocks
from scl_fairseq.data.records import parse, read_rows
from scl_fairseq.data.sources import open_source
from scl_fairseq.data.tasks import TASKS, custom_task

MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.sampled_from('ab"",;\t\n\r\\ \'é漢\u2028'), max_size=14)
ROWS = st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["0", "1"])), min_size=1, max_size=12)
HEADER = ("first", "second", "label")
PAIRS = custom_task(("0", "1"), sentence_columns=HEADER[:2])


def one_line(text):
    """What a reader of lines can make of a field."""
    return re.sub("\r\n|\r|\n", " ", text.strip())


def expected(rows):
    return [(int(label), (one_line(first), one_line(second))) for first, second, label in rows]


def read(path, task=PAIRS, size=1 << 19, monkeypatch=None):
    if monkeypatch:
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        monkeypatch.setattr(dialects, "CHUNK_BYTES", size)
    found = []
    for block in read_blocks(open_source(task, path)):
        records = parse(block)
        assert records.rows == list(range(len(found), len(found) + len(records.rows)))
        # A lone CR of unquoted text stays, as in official files; of a field in CSV it is a break.
        texts = [tuple(text.replace("\r", " ") for text in of_row) for of_row in records.sentences]
        found += zip(records.labels, texts, strict=True)
    return found


def write_csv(path, rows, header=HEADER, **dialect):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, **dialect).writerows([header, *rows] if header else rows)
    data = buffer.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_pandas(path, rows, **options):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(rows, columns=HEADER).astype({"label": int})
    table.to_csv(path, **options)


def write_r(path, rows, delimiter, inner, row_names=False):
    """R's write.table: texts and names in quotes, numbers bare; a header has none of row names."""

    def wrapped(text):
        return '"' + text.replace('"', inner) + '"'

    lines = [delimiter.join(map(wrapped, HEADER))]
    for number, (first, second, label) in enumerate(rows, start=1):
        names = [wrapped(str(number))] if row_names else []
        lines.append(delimiter.join([*names, wrapped(first), wrapped(second), label]))
    path.write_bytes("".join(line + "\n" for line in lines).encode())


@MANY
@given(rows=ROWS, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
       end=st.sampled_from(["\n", "\r\n"]), size=st.integers(1, 60),
       name=st.sampled_from(["train.csv", "train.tsv", "train.csv.gz", "train.tsv.gz"]),
       mark=st.sampled_from(",;"))  # fmt: skip
def test_the_csv_module(rows, quoting, end, size, name, mark, tmp_path, monkeypatch):
    mark = mark if ".csv" in name else "\t"
    write_csv(tmp_path / name, rows, delimiter=mark, quoting=quoting, lineterminator=end)
    found = read(tmp_path / name, size=size, monkeypatch=monkeypatch)
    assert found == expected(rows)


@MANY
@given(rows=ROWS, size=st.integers(1, 60), index=st.booleans(),
       quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
       name=st.sampled_from(["train.csv", "train.tsv", "train.tsv.gz"]))  # fmt: skip
def test_pandas(rows, size, index, quoting, name, tmp_path, monkeypatch):
    mark = "," if ".csv" in name else "\t"
    write_pandas(tmp_path / name, rows, sep=mark, index=index, quoting=quoting)
    assert read(tmp_path / name, size=size, monkeypatch=monkeypatch) == expected(rows)


@MANY
@given(rows=ROWS, size=st.integers(1, 60), inner=st.sampled_from(['""', '\\"']),
       name=st.sampled_from(["train.csv", "train.tsv"]), row_names=st.booleans())  # fmt: skip
def test_r(rows, size, inner, name, row_names, tmp_path, monkeypatch):
    r"""A last backslash before the quote looks like a quote inside; R itself cannot read it."""
    rows = [(a.rstrip("\\"), b.rstrip("\\"), label) for a, b, label in rows]
    row_names = row_names and ".tsv" in name  # R's CSV names that column too: ""
    write_r(tmp_path / name, rows, "," if ".csv" in name else "\t", inner, row_names)
    assert read(tmp_path / name, size=size, monkeypatch=monkeypatch) == expected(rows)


@MANY
@given(rows=ROWS, size=st.integers(1, 60), ascii_only=st.booleans(), numbers=st.booleans(),
       name=st.sampled_from(["train.jsonl", "train.jsonl.gz"]))  # fmt: skip
def test_json_lines(rows, size, ascii_only, numbers, name, tmp_path, monkeypatch):
    lines = [
        json.dumps(
            {"more": [1, {}], "label": int(label) if numbers else label, "second": b, "first": a},
            ensure_ascii=ascii_only,
        )
        for a, b, label in rows
    ]
    data = "".join(line + "\n" for line in lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if ".gz" in name else data)
    assert read(tmp_path / name, size=size, monkeypatch=monkeypatch) == expected(rows)


@MANY
@given(rows=ROWS, size=st.integers(1, 60))
def test_text_without_quoting_is_left_alone(rows, size, tmp_path, monkeypatch):
    """By hand: whatever has no tab and no line break, a field in needless quotes among it."""
    flat = [(re.sub("[\t\n\r]", " ", a), re.sub("[\t\n\r]", " ", b), c) for a, b, c in rows]
    flat.append(('"a film"', "fine", "1"))
    lines = ["\t".join(row) for row in (HEADER, *flat)]
    (tmp_path / "train.tsv").write_bytes("".join(line + "\n" for line in lines).encode())
    found = read(tmp_path / "train.tsv", size=size, monkeypatch=monkeypatch)
    assert found == [(int(c), (a.strip(), b.strip())) for a, b, c in flat]


@MANY
@given(rows=ROWS, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_quoting_that_is_told(rows, quoting, tmp_path):
    path = tmp_path / "train.tsv"
    write_csv(path, rows, header=None, delimiter="\t", quoting=quoting, lineterminator="\n")
    task = custom_task(("0", "1"), "label", HEADER[:2], HEADER, "csv")
    assert read(path, task) == expected(rows)


SENTENCE = custom_task(("0", "1"))
H = "sentence\tlabel\n"
WRAPPED = '"he said ""fine film"" twice"\t1\n'
DECISIONS = {
    # name: (content, how it is read, the first text)
    "a doubled quote": (H + WRAPPED, "csv", 'he said "fine film" twice'),
    "a quote with a backslash": (H + r'"he said \"fine\""' + "\t1\n", "csv", 'he said "fine"'),
    "a tab": (H + '"a\tb"\t1\n', "csv", "a\tb"),
    "a line break": (H + '"a\nb"\t1\n', "csv", "a b"),
    "all in quotes": ('"sentence"\t"label"\n"a film"\t"1"\n', "csv", "a film"),
    "all but numbers": ('"sentence"\t"label"\n"a film"\t1\n"b"\t0\n', "csv", "a film"),
    "all, and empty": ('"sentence"\t"label"\n""\t"1"\n', "csv", ""),
    "bare quotes beside": (H + 'a 5" tv\t1\n' + WRAPPED, "csv", 'a 5" tv'),
    "rows but not the header": (H + '"a film"\t"1"\n', "refused", "unknown label '\"1\"'"),
    "the header alone": ('"sentence"\t"label"\na film\t1\n', "refused", "takes the quotes off"),
    "needless quotes": (H + '"a film"\t1\n', "text", '"a film"'),
    "one needless among others": (H + '"a film"\t1\n' + WRAPPED, "text", '"a film"'),
    "quotes inside that are not doubled": (H + '"a "fine" film"\t1\n', "text", '"a "fine" film"'),
    "half in quotes": (H + '"fine" film\t1\n' + WRAPPED, "text", '"fine" film'),
    "never closed": (H + '"fine film\t1\n', "text", '"fine film'),
    "opened in one row and closed in another": (
        H + '"I love it\t1\nnot bad\t0\nso good"\t1\n', "text", '"I love it'),
    "no quotes": (H + "a film\t1\n", "text", "a film"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(DECISIONS))
def test_how_a_tsv_is_read(case, tmp_path):
    content, kind, first = DECISIONS[case]
    path = tmp_path / "train.tsv"
    path.write_text(content, encoding="utf-8", newline="")
    if kind == "refused":
        with pytest.raises(ValueError, match=re.escape(first)):
            read_rows(SENTENCE, path)
        return
    source = open_source(SENTENCE, path)
    assert source.format == {"csv": "csv", "text": "tsv"}[kind]
    assert read_rows(SENTENCE, path)[0].sentences == (first,)


def test_official_files_have_no_quoting(tmp_path):
    (tmp_path / "train.tsv").write_text(H + WRAPPED)
    assert read_rows(TASKS["SST-2"], tmp_path / "train.tsv")[0].sentences[0] == WRAPPED[:-3]


def test_a_samples_quotes_are_text(tmp_path):
    (tmp_path / "train.tsv").write_text('id\tlabel\tsentence1\n7\t1\t"he said ""fine"""\n')
    assert read_rows(SENTENCE, tmp_path / "train.tsv")[0].sentences[0] == '"he said ""fine"""'


@pytest.mark.parametrize("name", ["train", "dev"])
def test_the_official_mrpc_and_what_pandas_makes_of_it(name, shared_data, tmp_path):
    """Its thousands of bare quotes are text; written by pandas they come back the same."""
    path = shared_data / "glue" / "MRPC" / f"{name}.tsv"
    if not path.exists():
        pytest.skip("no official MRPC here")
    task = custom_task(("0", "1"), "Quality", ("#1 String", "#2 String"))
    rows = read_rows(TASKS["MRPC"], path)
    assert read_rows(task, path) == rows
    lines = path.read_bytes().decode("utf-8-sig").splitlines()
    header, *table = [line.split("\t") for line in lines]
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        out = tmp_path / "train.tsv"
        write_csv(out, table, header, dialect="excel-tab", quoting=quoting)
        assert read_rows(task, out) == rows
