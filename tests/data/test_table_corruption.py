"""Damaged tables end in one clear line, or in what an independent reader finds in them."""

import csv
import gzip
import io
import json
import random
import re
import shutil

import pytest

from scl_fairseq.cli import preprocess
from tests.cli.test_bad_input import snapshot

WORDS = ["fine", "bad", '"so"', "über", "a,b", '5"', "漢字", "tab\there", "two\nlines", "x"]
SEEDS = range(90)


def some_rows(draw):
    return [
        (" ".join(draw.choices(WORDS, k=draw.randint(1, 6))), str(place % 2))
        for place in range(draw.randint(6, 30))
    ]


def as_csv(rows, delimiter, quoting=csv.QUOTE_MINIMAL):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerows([("sentence", "label"), *rows])
    return buffer.getvalue().encode()


def as_json(rows):
    lines = (json.dumps({"sentence": text, "label": label}) for text, label in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def as_text(rows):
    rows = [(re.sub("[\t\n]", " ", text).replace('"', ""), label) for text, label in rows]
    return "".join("\t".join(row) + "\n" for row in [("sentence", "label"), *rows]).encode()


WRITERS = {
    "csv": lambda rows: as_csv(rows, ","),
    "tsv": lambda rows: as_csv(rows, "\t", csv.QUOTE_ALL),
    "jsonl": as_json,
    "text.tsv": as_text,
}
READERS = {
    "csv": lambda text: list(csv.reader(io.StringIO(text, newline=""), strict=True)),
    "tsv": lambda text: list(csv.reader(io.StringIO(text, newline=""), "excel-tab", strict=True)),
    "jsonl": lambda text: [
        ["sentence", "label"],
        *([one["sentence"], one["label"]] for one in map(json.loads, text.splitlines())),
    ],
    "text.tsv": lambda text: [line.split("\t") for line in text.removesuffix("\n").split("\n")],
}


def truncated(data, draw):
    return data[: draw.randrange(len(data))]


def in_another_encoding(data, draw):
    text = data.decode()
    return text.encode(draw.choice(["latin-1", "utf-16", "cp1252", "shift-jis"]), "replace")


def with_a_byte(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + draw.choice([b"\xff", b"\0", b'"', b"\t", b"\n", b",", b"}"]) + data[at:]


def without_a_byte(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + data[at + 1 :]


def with_a_line(data, draw):
    lines = data.split(b"\n")
    line = draw.choice([b"", b"lone", b"a\tb\tc", b"a,b,c", b'"', b"{}", lines[0]])
    lines.insert(draw.randrange(len(lines)), line)
    return b"\n".join(lines)


def without_a_line(data, draw):
    lines = data.split(b"\n")
    del lines[draw.randrange(len(lines))]
    return b"\n".join(lines)


def packed_in_part(data, draw):
    return truncated(gzip.compress(data), draw)


DAMAGES = [truncated, in_another_encoding, with_a_byte, without_a_byte, with_a_line,
           without_a_line, packed_in_part]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_table(seed, gpt2_files, tmp_path, capsys):
    draw = random.Random(seed)
    kind = list(WRITERS)[seed % len(WRITERS)]
    other = draw.choice(list(WRITERS))
    rows = some_rows(draw)
    damage = draw.choice([*DAMAGES, "swapped"])
    data = WRITERS[other](rows) if damage == "swapped" else damage(WRITERS[kind](rows), draw)
    name = "train." + kind.split(".")[-1] + (".gz" if damage is packed_in_part else "")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / name).write_bytes(data)
    (folder / "dev.tsv").write_bytes(as_text(some_rows(draw)))
    before = snapshot(tmp_path)
    words = ["--task", "custom", "--labels", "0", "1", "--bpe", "gpt2", "--workers", "1"]
    words += ["--data-dir", folder, "--bpe-dir", gpt2_files, "--destdir", tmp_path / "out"]
    code = preprocess.main(list(map(str, words)))
    captured = capsys.readouterr()
    if code:
        assert code == 2
        (line,) = captured.err.splitlines()
        assert re.match(rf"scl-preprocess: error: {re.escape(str(folder / name))}(:\d+)?: .+", line)
        assert snapshot(tmp_path) == before
        return
    assert damage is not packed_in_part
    header, *found = READERS[other if damage == "swapped" else kind](data.decode("utf-8-sig"))
    assert header == ["sentence", "label"]
    aligned = tmp_path / "aligned"
    aligned.mkdir()
    for place, ending in enumerate(("input0", "label")):
        lines = [re.sub("\r\n|\r|\n", " ", row[place].strip()) for row in found]
        (aligned / f"train.{ending}").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        shutil.copy(aligned / f"train.{ending}", aligned / f"dev.{ending}")
    words[words.index("--data-dir") + 1] = aligned
    words[words.index("--destdir") + 1] = tmp_path / "expected"
    assert preprocess.main(list(map(str, words))) == 0
    for path in ("input0/train.bin", "label/train.bin"):
        assert (tmp_path / "out" / path).read_bytes() == (tmp_path / "expected" / path).read_bytes()
