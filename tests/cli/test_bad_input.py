"""Every kind of bad input ends with exit code 2, one line that says where, and nothing changed."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from scl_fairseq.cli import preprocess, sample

GOOD = b"sentence\tlabel\nfine film\t1\nbad film\t0\nso good\t1\nso bad\t0\n"
RTE = "index\tsentence1\tsentence2\tlabel\n{}\ta\tb\tentailment\n{}\tc\td\tnot_entailment\n"
QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t1\t2\ta\tb\t0\n2\t1\t2\tc\td\t1\n"
REVIEW = b'"1","bad film"\n"2","good film"\n'

# name: (task, files beside a good SST-2's, further options, message)
CASES = {
    "missing column": ("SST-2", {"train.tsv": b"sentence\nfine\n"}, [],
                       r"train\.tsv:1: wrong header 'sentence', expected the columns label, "
                       r"sentence; missing: label"),
    "wrong header": ("SST-2", {"dev.tsv": GOOD.replace(b"sentence", b"text")}, [],
                     r"dev\.tsv:1: wrong header .*missing: sentence"),
    "no header": ("SST-2", {"train.tsv": GOOD.split(b"\n", 1)[1]}, [],
                  r"train\.tsv:1: wrong header 'fine film | 1'"),
    "extra tab": ("SST-2", {"train.tsv": GOOD + b"fine\tfilm\t1\n"}, [],
                  r"train\.tsv:6: 3 fields, expected 2 \(sentence, label\): an extra tab\?"),
    "missing field": ("SST-2", {"train.tsv": GOOD + b"fine film 1\n"}, [],
                      r"train\.tsv:6: 1 field, expected 2"),
    "unknown label": ("SST-2", {"train.tsv": GOOD + b"fine\t2\n"}, [],
                      r"train\.tsv:6: unknown label '2', expected one of 0, 1"),
    "label with a space": ("SST-2", {"train.tsv": GOOD + b"fine\t1 \n"}, [],
                           r"train\.tsv:6: unknown label '1 '"),
    "blank line": ("SST-2", {"train.tsv": GOOD + b"\nfine\t1\n"}, [],
                   r"train\.tsv:6: blank line, expected 2 fields \(sentence, label\)"),
    "blank last line": ("SST-2", {"dev.tsv": GOOD + b"\n"}, [], r"dev\.tsv:6: blank line"),
    "not UTF-8": ("SST-2", {"train.tsv": GOOD + b"caf\xe9\t1\n"}, [],
                  r"train\.tsv:6: not UTF-8 \(byte 0xe9\), expected UTF-8"),
    "UTF-16": ("SST-2", {"train.tsv": GOOD.decode().encode("utf-16")}, [],
               r"train\.tsv:1: (not UTF-8|a NUL byte)"),
    "NUL byte": ("SST-2", {"train.tsv": GOOD + b"fi\0ne\t1\n"}, [],
                 r"train\.tsv:6: a NUL byte, expected UTF-8 text"),
    "NUL in the header": ("SST-2", {"train.tsv": b"\0" + GOOD}, [], r"train\.tsv:1: a NUL byte"),
    "empty file": ("SST-2", {"train.tsv": b""}, [],
                   r"train\.tsv:1: empty file, expected the rows of SST-2 train"),
    "byte order mark alone": ("SST-2", {"dev.tsv": b"\xef\xbb\xbf"}, [], r"dev\.tsv:1: empty file"),
    "header alone": ("SST-2", {"train.tsv": b"sentence\tlabel\n"}, [],
                     r"train\.tsv:2: no rows, expected the rows of SST-2 train"),
    "class without rows": ("SST-2", {"train.tsv": b"sentence\tlabel\nfine\t1\n"}, [],
                           r"train\.tsv: no row of class 0"),
    "malformed optional file": ("SST-2", {"test.tsv": b"index\tsentence\n0\tfine\tx\n"}, [],
                                r"test\.tsv:2: 3 fields, expected 2"),
    "no train": ("SST-2", {"train.tsv": None}, [], r"has no train\.tsv"),
    "no dev": ("SST-2", {"dev.tsv": None}, [], r"has no dev\.tsv"),
    "CoLA with a header": ("CoLA", {"train.tsv": GOOD}, [],
                           r"train\.tsv:1: 2 fields, expected 4 \(source, label, mark, sentence\)"),
    "id that is no number": ("RTE", {"train.tsv": RTE.format("x", 1).encode()}, [],
                             r"train\.tsv:2: id 'x', expected a row number"),
    "QQP, strict": ("QQP", {"train.tsv": QQP.encode() + b"3\tbroken\n", "dev.tsv": QQP.encode()},
                    ["--strict"], r"train\.tsv:4: 2 fields, expected 6"),
    "unquoted quote": ("Yelp-2", {"train.csv": REVIEW + b'"1","a "bad" film"\n',
                                  "test.csv": REVIEW}, [], r"train\.csv:3: a quote inside a field"),
    "quote that never closes": ("Yelp-2", {"train.csv": REVIEW + b'"1","a bad film\n',
                                           "test.csv": REVIEW}, [], r"train\.csv:3: malformed CSV"),
    "review without a label": ("Yelp-2", {"train.csv": REVIEW + b'"a bad film"\n',
                                          "test.csv": REVIEW}, [],
                               r"train\.csv:3: 1 field, expected 2 \(label, text\)"),
    "review with three stars": ("Yelp-2", {"train.csv": REVIEW + b'"3","film"\n',
                                           "test.csv": REVIEW}, [],
                                r"train\.csv:3: unknown label '3', expected one of 1, 2"),
    "long row": ("SST-2", {"train.tsv": GOOD + b"a b c d e f g h i\t1\n"},
                 ["--max-positions", "9", "--on-long", "error"],
                 r"train\.tsv:6: \d+ positions, expected at most 9"),
    "regression": ("STS-B", {}, [], r"STS-B is a regression task"),
    "column twice": ("SST-2", {"train.tsv": GOOD.replace(b"label", b"label\tsentence")}, [],
                     r"train\.tsv:1: column 'sentence' is there twice"),
    "pairs for a task of one": ("SST-2", {"train.tsv": b"id\tlabel\tsentence1\tsentence2\n"}, [],
                                r"train\.tsv:1: 2 sentences in a row, expected 1 for SST-2"),
    "stray quote": ("Yelp-2", {"train.csv": b'1,fine\n2,a 5" tv\n', "test.csv": REVIEW}, [],
                    r"train\.csv:2: a quote inside a field"),
    "columns of another's task": ("RTE", {}, ["--sentence-columns", "a"],
                                  r"--sentence-columns goes with --task custom"),
    "unknown task": ("SST2", {}, [], r"unknown task 'SST2', expected SST-2, .*, lines or custom"),
    "labels of another's task": ("SST-2", {}, ["--labels", "a", "b"], r"--labels goes with"),
    "custom without labels": ("custom", {}, [], r"--task custom needs --labels"),
    "the same label twice": ("custom", {}, ["--labels", "0", "0"], r"two or more different labels"),
    "no such bpe-dir": ("SST-2", {}, ["--bpe-dir", "nowhere"], r"--bpe-dir nowhere is no folder"),
    "bad number": ("SST-2", {}, ["--workers", "0"], r"--workers: '0', expected a whole number"),
    "few positions": ("SST-2", {}, ["--max-positions", "2"], r"expected a whole number from 8 on"),
}  # fmt: skip
ALIGNED = {"label": b"yes\nno\n", "input0": b"a\nb\n", "input1": b"c\nd\n"}
ALIGNED_CASES = {
    "fewer labels": ({"train.label": b"yes\n"}, r"train\.label:2: no such line, .* train\.input0"),
    "fewer first": ({"train.input0": b"a\n"}, r"train\.input0:2: no such line"),
    "fewer second": ({"dev.input1": b"c\n"}, r"dev\.input1:2: no such line, .* dev\.input0"),
    "no labels": ({"dev.label": None}, r"dev\.input0 is there, but dev\.label is not"),
    "unknown label": ({"train.label": b"yes\nmaybe\n"}, r"train\.label:2: unknown label 'maybe'"),
    "a third input": ({"train.input2": b"e\nf\n"}, r"train\.input2 is there too; for pairs"),
    "empty": ({"train.input1": b""}, r"train\.input1:1: empty file"),
}


def write(folder, files):
    folder.mkdir(exist_ok=True, parents=True)
    for name, data in files.items():
        if data is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_bytes(data)


def snapshot(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def assert_refused(main, arguments, message, capsys):
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2
    assert len(error.splitlines()) == 1, error
    assert re.search(message, error), error


def run_refused(main, arguments, message, capsys, tmp_path, destination):
    """Both where there is no result yet and where there is an old one."""
    for old in (False, True):
        before = snapshot(tmp_path)
        assert_refused(main, arguments, message, capsys)
        assert snapshot(tmp_path) == before
        if not old:
            (destination / "label").mkdir(parents=True, exist_ok=True)
            (destination / "label" / "dict.txt").write_text("old\n")
            (destination / "preprocess.json").write_text("{}\n")


@pytest.fixture
def arguments(gpt2_files, tmp_path):
    def make(task, *further):
        out = tmp_path / "some" / "out"
        named = ["--task", task, "--data-dir", tmp_path / "data", "--destdir", out]
        return [*named, "--bpe", "gpt2", "--bpe-dir", gpt2_files, *further]

    return make


@pytest.mark.parametrize("case", list(CASES))
def test_refused_before_anything_is_written(case, arguments, tmp_path, capsys):
    task, files, further, message = CASES[case]
    good = {"train.tsv": GOOD, "dev.tsv": GOOD}
    if task == "RTE":
        good = dict.fromkeys(good, RTE.format(0, 1).encode())
    write(tmp_path / "data", {**good, **files})
    named = arguments(task, *further)
    run_refused(preprocess.main, named, message, capsys, tmp_path, tmp_path / "some" / "out")


@pytest.mark.parametrize("case", list(ALIGNED_CASES))
def test_line_aligned_files_that_do_not_fit(case, arguments, tmp_path, capsys):
    files, message = ALIGNED_CASES[case]
    good = {f"{split}.{end}": data for split in ("train", "dev") for end, data in ALIGNED.items()}
    write(tmp_path / "data", good)
    write(tmp_path / "data", files)
    named = arguments("custom", "--labels", "yes", "no", "--sentence-columns", "a", "b")
    run_refused(preprocess.main, named, message, capsys, tmp_path, tmp_path / "some" / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 1\n2\n", r"dict\.txt:2: '2', expected a symbol and its count"),
        ("1 1\n1 1\n", r"dict\.txt:2: '1' is in the dictionary twice"),
        ("1 1\n</s> 1\n", r"dict\.txt:2: '</s>' is in the dictionary twice"),
    ],
)
def test_malformed_dictionaries(content, message, arguments, gpt2_files, tmp_path, capsys):
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    write(tmp_path / "bpe", {"dict.txt": content.encode()})
    named = [*arguments("SST-2"), "--bpe-dir", tmp_path / "bpe"]
    run_refused(preprocess.main, named, message, capsys, tmp_path, tmp_path / "some" / "out")


@pytest.mark.parametrize("bpe", ["gpt2", "wordpiece", "sentencepiece", "fastbpe"])
def test_missing_and_malformed_bpe_files(bpe, arguments, tmp_path, capsys):
    names = {"gpt2": "encoder.json", "wordpiece": "vocab.txt",
             "sentencepiece": "sentencepiece.bpe.model", "fastbpe": "bpecodes"}  # fmt: skip
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    if bpe == "fastbpe":
        pytest.importorskip("fastBPE")
    write(tmp_path / "missing", {"dict.txt": b"a 1\n"})
    named = [*arguments("SST-2"), "--bpe", bpe, "--bpe-dir", tmp_path / "missing"]
    out = tmp_path / "some" / "out"
    run_refused(preprocess.main, named, names[bpe], capsys, tmp_path, out)
    merges = b"#version: 0.2\nnonsense\n"
    files = {"dict.txt": b"a 1\n", names[bpe]: b"nonsense\n", "vocab.bpe": merges}
    write(tmp_path / "malformed", files)
    named = [*arguments("SST-2"), "--bpe", bpe, "--bpe-dir", tmp_path / "malformed"]
    run_refused(preprocess.main, named, names[bpe], capsys, tmp_path, out)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vocab.bpe", lambda data: data.split(b"\n", 1)[1], r"vocab\.bpe:1: expected a line '#ver"),
        ("vocab.bpe", lambda data: data.rstrip(), r"vocab\.bpe:\d+: no newline at the end"),
        (
            "encoder.json",
            lambda data: data.replace(b'"!": ', b'"!!!!": '),
            r"no token for the byte",
        ),
    ],
)
def test_gpt2_files_that_fairseq_reads_otherwise(
    name, change, message, arguments, gpt2_files, tmp_path, capsys
):
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    bpe = shutil.copytree(gpt2_files, tmp_path / "bpe")
    (bpe / name).write_bytes(change((bpe / name).read_bytes()))
    named = [*arguments("SST-2"), "--bpe-dir", bpe]
    run_refused(preprocess.main, named, message, capsys, tmp_path, tmp_path / "some" / "out")


def test_a_dictionary_of_another_encoding(arguments, gpt2_files, tmp_path, capsys):
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    bpe = shutil.copytree(gpt2_files, tmp_path / "bpe")
    (bpe / "dict.txt").write_text("the 1\nfilm 1\n")
    out = tmp_path / "some" / "out"
    named = [*arguments("SST-2"), "--bpe-dir", bpe]
    message = r"dict\.txt lacks \d+% of the tokens of train"
    run_refused(preprocess.main, named, message, capsys, tmp_path, out)


def test_what_is_printed_is_what_training_needs(arguments, tmp_path, capsys):
    write(tmp_path / "data", dict.fromkeys(("train.tsv", "dev.tsv"), RTE.format(0, 1).encode()))
    for begin in ("wrote", "replaced"):
        assert preprocess.main(list(map(str, arguments("RTE")))) == 0
        *_, said, flags = capsys.readouterr().out.splitlines()
        assert said.startswith(f"{begin} {tmp_path / 'some' / 'out'} in ")
        assert flags.split()[1:] == [
            "--task", "sentence_prediction", "--num-classes", "2", "--init-token", "0",
            "--separator-token", "2", "--required-batch-size-multiple", "1",
        ]  # fmt: skip


@pytest.mark.parametrize("text", ["[]", '{"do_lower_case": "yes"}', "{"])
def test_malformed_settings_of_wordpiece(text, arguments, tmp_path, capsys):
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    files = {"dict.txt": b"a 1\n", "vocab.txt": b"[UNK]\na\n"}
    write(tmp_path / "bpe", {**files, "tokenizer_config.json": text.encode()})
    named = [*arguments("SST-2"), "--bpe", "wordpiece", "--bpe-dir", tmp_path / "bpe"]
    out = tmp_path / "some" / "out"
    run_refused(preprocess.main, named, r"tokenizer_config\.json", capsys, tmp_path, out)


def test_a_folder_with_something_else_is_not_replaced(arguments, tmp_path, capsys):
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    write(tmp_path / "annotations" / "label", {"deep.json": b"{}"})
    write(tmp_path / "fairseqs" / "input0", {"dict.txt": b"a 1\n"})
    write(tmp_path / "lone" / "input0", {"mine.txt": b""})
    write(tmp_path / "lone", {"preprocess.json": b"{}"})
    for folder in (tmp_path / name for name in ("data", "annotations", "fairseqs", "lone", "")):
        before = snapshot(tmp_path)
        named = [*arguments("SST-2"), "--destdir", folder]
        assert preprocess.main(list(map(str, named))) == 2
        assert "holds something else" in capsys.readouterr().err
        assert snapshot(tmp_path) == before
    write(tmp_path / "mine" / "sample_data", {"train.tsv": GOOD})
    write(tmp_path / "also" / "sample0", {"train.tsv": GOOD, "dev.tsv": GOOD, "test.tsv": GOOD})
    sampled = ["--task", "SST-2", "--data-dir", tmp_path / "data", "--num-examples", 2]
    for folder in (tmp_path / "mine", tmp_path / "also"):
        before = snapshot(tmp_path)
        assert sample.main(list(map(str, [*sampled, "--out", folder]))) == 2
        assert "holds something else" in capsys.readouterr().err
        assert snapshot(tmp_path) == before


def test_what_is_read_is_not_replaced(tmp_path, capsys):
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    draw = ["--task", "SST-2", "--num-examples", 2, "--num-samples", 2]
    named = [*draw, "--data-dir", tmp_path / "data", "--out", tmp_path / "out"]
    assert sample.main(list(map(str, named))) == 0
    before = snapshot(tmp_path)
    first = tmp_path / "out" / "sample0"
    for source, out in ((first, tmp_path / "out"), (first, first)):
        assert sample.main(list(map(str, [*draw, "--data-dir", source, "--out", out]))) == 2
        assert "holds --data-dir" in capsys.readouterr().err
    again = ["--from-manifest", first / "manifest.json", "--data-dir", tmp_path / "data", "--out"]
    for out in (tmp_path / "data", tmp_path):
        assert sample.main(list(map(str, [*again, out]))) == 2
    assert snapshot(tmp_path) == before
    assert sample.main(list(map(str, [*again, first]))) == 0  # a sample may take its own place
    assert snapshot(tmp_path) == before


SAMPLE_CASES = {
    "fewer rows than N": ({}, ["--num-examples", 5],
                          r"train\.tsv: cannot draw 5 examples from 4 rows of 2 classes"),
    "fewer examples than classes": ({}, ["--num-examples", 1], r"train\.tsv: cannot draw 1 ex"),
    "fewer rows of a class": ({}, ["--per-class", 3],
                              r"train\.tsv: cannot draw 3 examples from 2 rows of class 0"),
    "class without rows": ({"train.tsv": b"sentence\tlabel\nfine\t1\n"}, ["--num-examples", 2],
                           r"train\.tsv: no row of class 0"),
    "small dev": ({"dev.tsv": b"sentence\tlabel\nfine\t1\nbad\t0\n"}, ["--num-examples", 2],
                  r"dev\.tsv: cannot draw 1 examples from 2 rows of 2 classes"),
    "blank line": ({"dev.tsv": GOOD + b"\n"}, ["--num-examples", 2], r"dev\.tsv:6: blank line"),
    "no size": ({}, [], r"one of --num-examples, --per-class and --from-manifest"),
    "two sizes": ({}, ["--num-examples", 2, "--per-class", 1], r"not allowed with"),
    "no samples": ({}, ["--num-examples", 2, "--num-samples", 0], r"expected a whole number"),
    "options of the manifest": ({}, ["--from-manifest", "manifest.json", "--seed", 7],
                                r"--seed is the manifest's with --from-manifest"),
    "no manifest": ({}, ["--from-manifest", "manifest.json"], r"manifest\.json"),
    "negative seed": ({}, ["--num-examples", 2, "--seed", -1], r"expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(SAMPLE_CASES))
def test_samples_that_cannot_be_drawn(case, tmp_path, capsys):
    files, further, message = SAMPLE_CASES[case]
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD, **files})
    named = ["--task", "SST-2", "--data-dir", tmp_path / "data", "--out", tmp_path / "some" / "out"]
    before = snapshot(tmp_path)
    assert_refused(sample.main, [*named, *further], message, capsys)
    assert snapshot(tmp_path) == before


def test_an_id_that_comes_twice(tmp_path, capsys):
    write(tmp_path / "data", dict.fromkeys(("train.tsv", "dev.tsv"), RTE.format(7, 7).encode()))
    named = ["--task", "RTE", "--data-dir", tmp_path / "data", "--out", tmp_path / "out"]
    assert sample.main(list(map(str, [*named, "--num-examples", 2]))) == 2
    assert "train.tsv:3: id 7 is on line 2 too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.replace(b"\n", b"\r\n"), "train.tsv has CR LF line ends"),
        (lambda data: b"\xef\xbb\xbf" + data, "train.tsv starts with a byte order mark"),
        (lambda data: data.removesuffix(b"\n"), ""),
        (lambda data: data + b"\t1\n", "train.tsv: 1 row with an empty sentence kept (line 6)"),
    ],
    ids=["CR LF", "byte order mark", "no last newline", "empty sentence"],
)
def test_accepted_and_said(change, said, arguments, tmp_path, capsys):
    from scl_fairseq.data.records import read_rows
    from scl_fairseq.data.tasks import TASKS

    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    expected = read_rows(TASKS["SST-2"], tmp_path / "data" / "train.tsv")
    write(tmp_path / "data", {"train.tsv": change(GOOD)})
    assert read_rows(TASKS["SST-2"], tmp_path / "data" / "train.tsv")[:4] == expected
    assert preprocess.main(list(map(str, arguments("SST-2")))) == 0
    assert said in capsys.readouterr().out
    assert os.path.exists(tmp_path / "some" / "out" / "input0" / "train.bin")


def test_help_in_a_locale_of_few_characters():
    for module in ("preprocess", "sample"):
        done = subprocess.run(
            [sys.executable, "-m", f"scl_fairseq.cli.{module}", "--help"],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
            check=True,
        )
        assert b"example:" in done.stdout


def test_output_that_nobody_reads(arguments, tmp_path):
    write(tmp_path / "data", {"train.tsv": GOOD, "dev.tsv": GOOD})
    words = [sys.executable, "-u", "-m", "scl_fairseq.cli.preprocess", *arguments("SST-2")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    assert (tmp_path / "some" / "out" / "preprocess.json").exists()
