"""Wrong usages of ``scl-train``: one line with cause and remedy, exit code 2, nothing written."""

import collections
import re
import shutil

import pytest

from scl_fairseq.cli import train
from scl_fairseq.experiments.result_files import exclusive

ROWS = [("a fine film", "good"), ("a bad film", "bad"), ("fine", "good"), ("bad", "bad")] * 3
OWN = ["--text", "review", "--label", "opinion"]


def table(rows=ROWS, header="review,opinion", extra=""):
    return header + "\n" + "".join(",".join(row) + "\n" for row in rows) + extra


def replaced(text, label, at=2):
    rows = list(ROWS)
    rows[at] = (text, label)
    return {"t.csv": table(rows)}


GOOD = {"t.csv": table()}
SPLIT = {"d/train.csv": table(), "d/dev.csv": table()}
PAIRS = {"t.csv": table([(a, b, c) for (a, c), (b, _) in zip(ROWS, ROWS, strict=True)],
                        "first,second,opinion")}  # fmt: skip
SCORES = [(f"film {i}", f"0.{i}1") for i in range(12)]

# name: (files, arguments, message); {tiny} is the encoder, {data} what is binarised for it.
CASES = {
    "no text column": (GOOD, ["t.csv", "--label", "opinion"],
                       r"--text is missing: .* the columns of t\.csv are 'review', 'opinion'"),
    "no label column": (GOOD, ["t.csv", "--text", "review"], r"--label is missing: .*'opinion'"),
    "misspelt text column": (GOOD, ["t.csv", "--text", "reveiw", "--label", "opinion"],
                             r"no column 'reveiw' \(--text\); did you mean 'review'\?"),
    "misspelt label column": (GOOD, ["t.csv", "--text", "review", "--label", "opinoin"],
                              r"no column 'opinoin' \(--label\); did you mean 'opinion'\?"),
    "label is the text": (GOOD, ["t.csv", "--text", "review", "--label", "review"],
                          r"--label review is a --text column too"),
    "label column of texts": ({"t.csv": table([(b, f"{a} {i}") for i, (a, b) in enumerate(ROWS)])},
                              ["t.csv", *OWN], r"12 different values in 12 rows; are the"),
    "scores as labels": ({"t.csv": table(SCORES)}, ["t.csv", *OWN], r"are these scores\?"),
    "three text columns": (GOOD, ["t.csv", "--text", "review", "a", "b", "--label", "opinion"],
                           r"expected one column, or two for pairs"),
    "a pair of one column": (GOOD, ["t.csv", "--text", "review", "review", "--label", "opinion"],
                             r"two different columns"),
    "one class": ({"t.csv": table([(a, "good") for a, _ in ROWS])}, ["t.csv", *OWN],
                  r"all 12 rows have the label 'good' in 'opinion'; .*two or more classes"),
    "a class of one row": (replaced("so so", "mixed"), ["t.csv", *OWN],
                           r"one row of class 'mixed', of which dev needs one"),
    "no text": (replaced("", "good"), ["t.csv", *OWN], r"t\.csv:4: no text in 'review'; fill it"),
    "blank text": (replaced("  ", "good"), ["t.csv", *OWN], r"t\.csv:4: no text in 'review'"),
    "no label": (replaced("fine", ""), ["t.csv", *OWN],
                 r"t\.csv:4: no label in 'opinion'; label the row, or drop it"),
    "NaN label": (replaced("fine", "NaN"), ["t.csv", *OWN], r"t\.csv:4: 'NaN', which stands for a"),
    "NaN text": (replaced("nan", "good"), ["t.csv", *OWN], r"t\.csv:4: 'nan' in 'review', which s"),
    "white space": (replaced("fine", " good"), ["t.csv", *OWN], r"t\.csv:4: white space around"),
    "label in angles": (replaced("fine", "<b>"), ["t.csv", *OWN], r"t\.csv:4: '<b>' .*cannot be a"),
    "too few fields": ({"t.csv": table(extra="fine\n")}, ["t.csv", *OWN],
                       r"t\.csv:14: 1 field, expected 2 \(review, opinion\)"),
    "a quote not closed": ({"t.csv": table(extra='"fine,good\n')}, ["t.csv", *OWN],
                           r"t\.csv:14: malformed CSV"),
    "not UTF-8": ({"t.csv": table().encode() + b"caf\xe9,good\n"}, ["t.csv", *OWN],
                  r"t\.csv:14: not UTF-8 \(byte 0xe9\)"),
    "empty file": ({"t.csv": ""}, ["t.csv", *OWN], r"t\.csv:1: empty file"),
    "header alone": ({"t.csv": "review,opinion\n"}, ["t.csv", *OWN], r"t\.csv: no rows"),
    "another kind": ({"t.xlsx": "PK"}, ["t.xlsx", *OWN], r"t\.xlsx: unknown kind of file, expecte"),
    "no such file": ({}, ["t.csv", *OWN], r"t\.csv: no such file or folder"),
    "JSON without a key": ({"t.jsonl": '{"review": "fine"}\n'}, ["t.jsonl", *OWN],
                           r"no column 'opinion' \(--label\); the columns are 'review'"),
    "no JSON": ({"t.jsonl": '{"review": "a", "opinion": "b"}\nfine\n'}, ["t.jsonl", *OWN],
                r"t\.jsonl:2: .*expected a JSON object, one a line"),
    "JSON with a list as text": ({"t.jsonl": '{"review": ["a"], "opinion": "b"}\n'},
                                 ["t.jsonl", *OWN], r"t\.jsonl:1: a list as 'review', expected t"),
    "null as label": ({"t.jsonl": '{"review": "a", "opinion": null}\n'}, ["t.jsonl", *OWN],
                      r"t\.jsonl:1: no label in 'opinion'"),
    "folder without train": ({"d/all.csv": table()}, ["d", *OWN],
                             r"d has no train\.tsv, .*; it holds all\.csv"),
    "validation of another name": ({"d/train.csv": table(), "d/valid.csv": table()}, ["d", *OWN],
                                   r"no dev set, but valid\.csv; name it dev"),
    "two tables of train": ({**SPLIT, "d/train.tsv": "x"}, ["d", *OWN],
                            r"d has train\.tsv and train\.csv, expected one"),
    "a class missing in dev": ({**SPLIT, "d/dev.csv": table(ROWS[:1])}, ["d", *OWN],
                               r"dev\.csv: no row of class bad, which train has; add some"),
    "a class of dev alone": ({**SPLIT, "d/dev.csv": table([*ROWS, ("so", "mixed")])}, ["d", *OWN],
                             r"dev\.csv: the label 'mixed' is in no row of train"),
    "a class of test alone": ({**SPLIT, "d/test.csv": table([("so", "mixed")])}, ["d", *OWN],
                              r"test\.csv: the label 'mixed' is in no row of train"),
    "a column missing in dev": ({**SPLIT, "d/dev.csv": table(header="text,opinion")}, ["d", *OWN],
                                r"dev\.csv has no column 'review'"),
    "dev is there": (SPLIT, ["d", *OWN, "--dev-share", "0.3"], r"--dev-share .*dev\.csv is there"),
    "dev share of 1": (GOOD, ["t.csv", *OWN, "--dev-share", "1"], r"--dev-share: '1', expected a "),
    "unknown task": (SPLIT, ["d", "--task", "SST-3"], r"unknown task 'SST-3', expected SST-2"),
    "a regression": (SPLIT, ["d", "--task", "STS-B"], r"STS-B is a regression task"),
    "task and columns": (SPLIT, ["d", "--task", "SST-2", *OWN], r"--text goes with tables of one'"),
    "task of a file": (GOOD, ["t.csv", "--task", "SST-2"], r"t\.csv is a file; --task SST-2 reads"),
    "binarised and columns": (GOOD, ["{data}", *OWN], r"--text: .* is binarised already"),
    "binarised and a length": (GOOD, ["{data}", "--max-length", "9"], r"--max-length: .*binarised"),
    "binarised for another": (GOOD, ["{other}"], r"was binarised for another encoder"),
    "no --out": (GOOD, ["t.csv", *OWN, "--out"], r"--out: expected one argument"),
    "no such encoder": (GOOD, ["t.csv", *OWN, "--encoder", "bert-base-uncased"],
                        r"--encoder bert-base-uncased: no such file or folder; nothing is downlo"),
    "an empty encoder": ({**GOOD, "e/readme": ""}, ["t.csv", *OWN, "--encoder", "e"],
                         r"--encoder e holds no encoder: neither model\.pt"),
    "an encoder of another kind": (
        {**GOOD, "e/config.json": '{"model_type": "gpt2"}', "e/model.safetensors": ""},
        ["t.csv", *OWN, "--encoder", "e"],
        r"config\.json: model_type is 'gpt2'; supported: bert, roberta, xlm-roberta"),
    "a damaged encoder": ({**GOOD, "e/model.pt": "PK"}, ["t.csv", *OWN, "--encoder", "e"],
                          r"e/model\.pt is no checkpoint, or damaged"),
    "an encoder without a vocabulary": (GOOD, ["t.csv", *OWN, "--encoder", "{bare}"],
                                        r"has no files of an encoding beside model\.pt"),
    "too long": (GOOD, ["t.csv", *OWN, "--max-length", "1000"],
                 r"--max-length 1000: the encoder has 64 positions"),
    "an option of a GPU": (GOOD, ["t.csv", *OWN, "--fp16"], r"--fp16 needs a GPU, and there is no"),
    "unknown option": (GOOD, ["t.csv", *OWN, "--max-epochs", "3"],
                       r"--max-epochs: neither scl-train nor fairseq-train .*mean --max-epoch\?"),
    "learning rate of letters": (GOOD, ["t.csv", *OWN, "--lr", "fast"], r"fairseq-train refuses i"),
    "epochs of letters": (GOOD, ["t.csv", *OWN, "--max-epoch", "x"], r"--max-epoch x: expected 1 "),
    "no epochs": (GOOD, ["t.csv", *OWN, "--max-epoch", "0"], r"--max-epoch 0: expected 1 or more"),
    "no batch": (GOOD, ["t.csv", *OWN, "--batch-size", "0"], r"--batch-size 0: expected 1 or more"),
    "no learning rate": (GOOD, ["t.csv", *OWN, "--lr", "nan"], r"--lr nan: expected more than 0"),
    "a term alone": (GOOD, ["t.csv", *OWN, "--scl-lambda", "1"], r"--scl-lambda 1: .*classifier"),
    "no temperature": (GOOD, ["t.csv", *OWN, "--scl-temperature", "0"], r"--scl-temperature 0: e"),
    "another architecture": (GOOD, ["t.csv", *OWN, "--arch", "roberta_large"],
                             r"--arch roberta_large contradicts roberta, which comes from the wei"),
    "other sizes": (GOOD, ["t.csv", *OWN, "--encoder-layers", "12"],
                    r"--encoder-layers 12 contradicts 2, which comes from the weights"),
    "other classes": (GOOD, ["t.csv", *OWN, "--num-classes", "3"],
                      r"--num-classes 3 contradicts 2, which comes from the data"),
    "another batch multiple": (GOOD, ["t.csv", *OWN, "--required-batch-size-multiple=8"],
                               r"--required-batch-size-multiple 8 contradicts 1"),
    "other tokens": (GOOD, ["t.csv", *OWN, "--separator-token", "2"], r"--separator-token 2 canno"),
    "another criterion": (GOOD, ["t.csv", *OWN, "--criterion", "sentence_prediction"],
                          r"--criterion sentence_prediction contradicts .*comes from --loss ce\+s"),
    "a term without its loss": (GOOD, ["t.csv", *OWN, "--loss", "ce", "--scl-lambda", "0.5"],
                                r"--scl-lambda 0\.5 contradicts 0, which comes from --loss ce"),
    "another folder": (GOOD, ["t.csv", *OWN, "--save-dir", "x"], r"--save-dir x contradicts .*--o"),
    "another start": (GOOD, ["t.csv", *OWN, "--restore-file", "x"], r"--restore-file x .*--encode"),
    "no validation": (GOOD, ["t.csv", *OWN, "--disable-validation"], r"--disable-validation canno"),
    "another pooling": (GOOD, ["t.csv", *OWN, "--encoder", "{mean}", "--head-pooling", "cls"],
                        r"--head-pooling cls contradicts mean, which comes from the weights"),
    "a stray word": (GOOD, ["t.csv", "good", *OWN], r"'good': expected an option"),
    "an option twice": (GOOD, ["t.csv", *OWN, "--lr", "1", "--lr", "2"], r"--lr is given twice"),
    "validated in vain": (GOOD, ["t.csv", *OWN, "--max-epoch", "5", "--validate-interval", "2"],
                          r"--validate-interval 2: the last of 5 epochs would not"),
    "no number of updates": (GOOD, ["t.csv", *OWN, "--max-tokens", "99"],
                             r"--max-tokens: .*not known; give --total-num-update too"),
    "one fold": (GOOD, ["t.csv", *OWN, "--folds", "1"], r"--folds: '1', expected a whole number f"),
    "folds of a small class": ({"t.csv": table([*ROWS, ("so", "mixed"), ("la", "mixed")])},
                               ["t.csv", *OWN, "--folds", "3"],
                               r"--folds 3: class 'mixed' has 2 rows, which leaves 1"),
    "folds of a task": (SPLIT, ["{data}", "--folds", "3"], r"--folds: goes with tables"),
    "pairs for SimCSE": (PAIRS, ["t.csv", "--text", "first", "second", "--label", "opinion",
                                 "--loss", "simcse"], r"--loss simcse contrasts single texts"),
    "unknown loss": (GOOD, ["t.csv", *OWN, "--loss", "scl"], r"--loss: invalid choice: 'scl'"),
    "no threads": (GOOD, ["t.csv", *OWN, "--threads", "0"], r"--threads: '0', expected a whole nu"),
    "a colon in the place": (GOOD, ["t.csv", *OWN, "--out", "a:b"], r"fairseq splits paths at ':'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(tiny, tmp_path_factory):
    """Folders that cases name."""
    from scl_fairseq.checkpoints.embedded import find_encoder
    from scl_fairseq.checkpoints.huggingface import convert

    folder = tmp_path_factory.mktemp("places")
    (folder / "bare").mkdir()
    shutil.copy(tiny.encoder / "model.pt", folder / "bare")
    convert(find_encoder(), folder / "mean")
    shutil.copytree(tiny.data, folder / "other")
    path = folder / "other" / "input0" / "dict.txt"
    path.write_text("".join(reversed(path.read_text("utf-8").splitlines(True))), "utf-8")
    names = {name: str(folder / name) for name in ("bare", "mean", "other")}
    return {**names, "data": str(tiny.data), "tiny": str(tiny.encoder)}


def refused(arguments, capsys):
    """The message of a call that is refused."""
    try:
        code = train.main(arguments)
    except SystemExit as error:
        code = error.code
    told = capsys.readouterr()
    assert code == 2, told
    lines = [line for line in told.err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, told.err
    assert lines[0].startswith("scl-train: error: ")
    assert "the same weights" not in told.out
    return lines[0]


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_usage_is_one_line(name, places, tmp_path, capsys, monkeypatch):
    files, arguments, message = CASES[name]
    monkeypatch.chdir(tmp_path)
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        content = content.encode() if isinstance(content, str) else content
        (tmp_path / path).write_bytes(content)
    own = [word.format(**places) if word.startswith("{") else word for word in arguments]
    if "--out" not in own:
        own += ["--out", "made/model"]
    if "--encoder" not in own:
        own += ["--encoder", places["tiny"]]
    if own[-3:-2] == ["--out"]:
        own = own[:-2]
    before = sorted(tmp_path.rglob("*"))
    assert re.search(message, refused(own, capsys))
    assert sorted(tmp_path.rglob("*")) == before


def call(tmp_path, places, out="model"):
    (tmp_path / "t.csv").write_text(table(), "utf-8")
    own = [str(tmp_path / "t.csv"), *OWN, "--encoder", places["tiny"]]
    return [*own, "--out", str(tmp_path / out), "--max-epoch", "1"]


def test_the_place_is_a_file(tmp_path, places, capsys):
    (tmp_path / "model").write_text("mine", "utf-8")
    assert "model is a file; name a new" in refused(call(tmp_path, places), capsys)
    assert (tmp_path / "model").read_text("utf-8") == "mine"
    told = refused(call(tmp_path, places, "model/below"), capsys)
    assert "Not a directory" in told


@pytest.mark.parametrize("name", ["thesis.txt", ".git/config", "data/mine.csv", ".data.new"])
def test_the_place_holds_something_else(tmp_path, places, capsys, name):
    mine = tmp_path / "model" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine", "utf-8")
    told = refused(call(tmp_path, places), capsys)
    assert f"holds something else ({name.split('/')[0]}); name a new" in told
    assert mine.read_text("utf-8") == "mine"
    assert len(list((tmp_path / "model").iterdir())) == 1


def test_two_at_once(tmp_path, places, capsys):
    (tmp_path / "model").mkdir()
    with exclusive(tmp_path / "model"):
        told = refused(call(tmp_path, places), capsys)
        assert "model is in use by another scl-train" in told
        assert (tmp_path / "model").exists()


def test_a_full_disk(tmp_path, places, capsys, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")(10, 10, 9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert re.search(
        r"needs about \d+ MB, and 0 MB are free", refused(call(tmp_path, places), capsys)
    )
    assert not (tmp_path / "model").exists()


def test_a_disk_that_is_full_in_the_end(tmp_path, places, capsys, monkeypatch):
    from fairseq.trainer import Trainer

    def save_checkpoint(self, filename, extra_state):
        raise OSError(28, "No space left on device", filename)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "save_checkpoint", save_checkpoint)
        assert train.main(call(tmp_path, places)) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "saving failed" in told
    assert "No space left" in told
    assert train.main(call(tmp_path, places)) == 0
    assert (tmp_path / "model" / "checkpoint_best.pt").is_file()


def test_training_that_diverges(tmp_path, places, capsys):
    assert train.main([*call(tmp_path, places), "--lr", "1e30", "--clip-norm", "1"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"diverged .*smaller --lr|not finite", told)
    assert train.main(call(tmp_path, places)) == 0  # in the same place


def test_what_only_the_criterion_refuses_leaves_the_place_free(tmp_path, places, capsys):
    assert train.main([*call(tmp_path, places), "--scl-momentum", "0.9"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "--scl-momentum makes the keys of a queue: it needs --scl-queue-size" in told
    assert not (tmp_path / "model").exists()


def test_an_interrupted_cache_is_made_again(tmp_path, monkeypatch, capsys):
    from scl_fairseq.training import encoders

    monkeypatch.setenv("SCL_FAIRSEQ_CACHE", str(tmp_path / "cache"))
    notes = []
    first = encoders.find("embedded", notes.append)
    whole = first.path.read_bytes()
    assert encoders.find("embedded", notes.append) == first
    assert len(notes) == 1
    first.path.write_bytes(whole[: len(whole) // 2])
    assert encoders.find("embedded", notes.append) == first
    assert first.path.read_bytes() == whole
    assert len(notes) == 2


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, capsys, places):
    (tmp_path / "cache").write_text("a file", "utf-8")
    monkeypatch.setenv("SCL_FAIRSEQ_CACHE", str(tmp_path / "cache"))
    own = call(tmp_path, places)
    own[own.index("--encoder") + 1] = "embedded"
    assert "SCL_FAIRSEQ_CACHE names another folder" in refused(own, capsys)
