"""What is written equals, byte by byte, what fairseq's own pipeline writes."""

import csv
import json
import random
import shutil

import pytest

from scl_fairseq.data import blocks
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import TASKS, custom_task
from tests import pipeline

ENDS = ("bin", "idx")
SPLITS = {"train": "train", "valid": "dev", "test": "test"}
# Columns of the official files, written down once more: labels, then sentences.
COLUMNS = {"SST-2": (1, [0]), "RTE": (3, [1, 2]), "MRPC": (0, [3, 4]), "QNLI": (3, [1, 2])}
TEST_COLUMNS = {"SST-2": [1], "RTE": [1, 2], "MRPC": [3, 4], "QNLI": [1, 2]}


def read_columns(path):
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return rows[1:]


def assert_equals_fairseqs(texts, labels, bpe_dir, dictionary, out, folder):
    """``texts`` maps (split, input) to sentences, ``labels`` a split to label names."""
    flat = [line for lines in texts.values() for line in lines]
    encoded = iter(pipeline.encode(flat, bpe_dir, folder))
    symbols = {key: [next(encoded) for _ in lines] for key, lines in texts.items()}
    for part in sorted({part for _, part in texts}):
        of_part = {split: lines for (split, p), lines in symbols.items() if p == part}
        pipeline.preprocess(of_part, dictionary, folder / f"input{part}")
        names = [f"{split}.{end}" for split in of_part for end in ENDS] + ["dict.txt"]
        pipeline.assert_same_files(out / f"input{part}", folder / f"input{part}", names)
    pipeline.preprocess(labels, out / "label" / "dict.txt", folder / "label")
    names = [f"{split}.{end}" for split in labels for end in ENDS]
    pipeline.assert_same_files(out / "label", folder / "label", names)


SLOW = dict.fromkeys(("QNLI", "MRPC"), pytest.mark.slow)  # the largest pairs


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in COLUMNS])
def test_real_glue_equals_fairseqs_pipeline(name, shared_data, tmp_path):
    source, bpe_dir = shared_data / "glue" / name, shared_data / "gpt2_bpe"
    if not (source.exists() and bpe_dir.exists()):
        pytest.skip("GLUE or GPT-2's BPE is not on this machine")
    label_at, sentences_at = COLUMNS[name]
    texts, labels = {}, {}
    for split, file in SPLITS.items():
        rows = read_columns(source / f"{file}.tsv")
        at = TEST_COLUMNS[name] if split == "test" else sentences_at
        for part, column in enumerate(at):
            texts[split, part] = [row[column] for row in rows]
        if split != "test":
            # A few of QNLI's rows come from a copy that spells the label with a space.
            labels[split] = [row[label_at].replace(" ", "_") for row in rows]
    out = tmp_path / "out"
    report = preprocess(TASKS[name], source, out, Settings("gpt2", bpe_dir), workers=2)
    assert report.splits["train"].rows == len(labels["train"])
    assert not any(file.long_lines for file in report.files.values())
    assert_equals_fairseqs(texts, labels, bpe_dir, bpe_dir / "dict.txt", out, tmp_path)
    assert not (out / "label" / "test.bin").exists()


AWKWARD = [
    "plain words", " outer space ", "two  spaces   and more", 'a "quoted" word', "it's we'LL don't",
    "naïve café 😀 ok", "数字 123 ４５６ ½", "tab-free\u2028separator", "\x1fcontrol\x1c x",
    "a\u00a0b", "", "n/a", "e\u0301 combining", "x" * 300, "\ufeffmark inside",
    "#hash @@ ## </s> <unk> 7",
]  # fmt: skip


def test_awkward_text_equals_fairseqs_pipeline(gpt2_files, tmp_path):
    """Pairs that are hard to split, several blocks of them, in several processes."""
    draw = random.Random(0)
    task, source = TASKS["RTE"], tmp_path / "source"
    source.mkdir()
    texts, labels = {}, {}
    for split, file in SPLITS.items():
        count = 20_000 if split == "train" else 50
        rows = [
            (
                draw.choice(AWKWARD) + f" {i}" * (i % 3),
                draw.choice(AWKWARD),
                draw.choice(task.labels),
            )
            for i in range(count)
        ]
        for part in (0, 1):
            texts[split, part] = [row[part] for row in rows]
        labels[split] = [row[2] for row in rows]
        lines = [f"{i}\t{a}\t{b}\t{label}\n" for i, (a, b, label) in enumerate(rows)]
        text = "index\tsentence1\tsentence2\tlabel\n" + "".join(lines)
        (source / f"{file}.tsv").write_text(text, encoding="utf-8", newline="\n")
    out, one = tmp_path / "out", tmp_path / "one"
    settings = Settings("gpt2", gpt2_files, max_positions=1000)
    report = preprocess(task, source, out, settings, workers=2)
    empty = [i for i, pair in enumerate(zip(texts["test", 0], texts["test", 1])) if not all(pair)]  # noqa: B905
    assert report.files["test.tsv"].empty_lines == [i + 2 for i in empty]
    preprocess(task, source, one, settings, workers=1)
    for path in out.rglob("*.*"):
        assert path.read_bytes() == (one / path.relative_to(out)).read_bytes(), path
    assert_equals_fairseqs(texts, labels, gpt2_files, gpt2_files / "dict.txt", out, tmp_path / "f")


def stored(folder, split):
    """Rows of ``folder/split`` as fairseq's own class reads them."""
    from fairseq.data.indexed_dataset import MMapIndexedDataset

    data = MMapIndexedDataset(str(folder / split))
    return [data[i].tolist() for i in range(len(data))]


def test_large_vocabularies(tmp_path):
    """Over 65,500 symbols an index no longer fits 16 bits."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO"
    words = [a + b + c for a in letters for b in letters for c in letters]
    assert len(words) > 65500
    bpe = tmp_path / "bpe"
    bpe.mkdir()
    (bpe / "vocab.txt").write_text("\n".join(["[UNK]", *words]) + "\n")
    (bpe / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    (bpe / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    lines = [f"aaa {words[-1 - i]} ???" for i in range(5)]
    for name in ("train", "dev"):
        text = "".join(f"{i % 2}\t{line}\n" for i, line in enumerate(lines))
        (tmp_path / f"{name}.tsv").write_text("label\tsentence\n" + text)
    out = tmp_path / "out"
    preprocess(TASKS["SST-2"], tmp_path, out, Settings("wordpiece", bpe))
    symbols = [line.replace("???", "<unk> <unk> <unk>") for line in lines]
    pipeline.preprocess({"train": symbols}, bpe / "dict.txt", tmp_path / "fairseq")
    names = ["train.bin", "train.idx", "dict.txt"]
    pipeline.assert_same_files(out / "input0", tmp_path / "fairseq", names)


def write_sst2(folder, train, dev=(("fine", 1), ("bad", 0)), test=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("dev", dev), ("test", test)):
        if rows is not None:
            lines = [f"{sentence}\t{label}\n" for sentence, label in rows]
            (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(lines), "utf-8")


def test_the_papers_split_sets_rows_of_train_aside(gpt2_files, tmp_path):
    train = [(f"sentence number {i}", int(i % 4 == 0)) for i in range(400)]
    dev = [(f"held out {i}", i % 2) for i in range(40)]
    write_sst2(tmp_path / "data", train, dev)
    settings = Settings("gpt2", gpt2_files)
    everything, out, other = (tmp_path / name for name in ("glue", "paper", "other"))
    preprocess(TASKS["SST-2"], tmp_path / "data", everything, settings)
    report = preprocess(TASKS["SST-2"], tmp_path / "data", out, settings, "paper", workers=2)
    counts = {name: split.label_counts for name, split in report.splits.items()}
    assert counts == {
        "train": {"0": 270, "1": 90},
        "valid": {"0": 30, "1": 10},
        "test": {"0": 20, "1": 20},
    }
    rows = {name: stored(out / "input0", name) for name in counts}
    whole = stored(everything / "input0", "train")
    assert sorted(rows["train"] + rows["valid"]) == sorted(whole)
    assert rows["train"] == [row for row in whole if row not in rows["valid"]]
    assert rows["test"] == stored(everything / "input0", "valid")
    # Labels go with their sentences.
    label_of = dict(zip(map(tuple, whole), stored(everything / "label", "train"), strict=True))
    for name in ("train", "valid"):
        assert stored(out / "label", name) == [label_of[tuple(row)] for row in rows[name]]
    preprocess(TASKS["SST-2"], tmp_path / "data", other, settings, "paper", seed=1)
    assert stored(other / "input0", "valid") != rows["valid"]


def test_the_papers_split_of_several_blocks(gpt2_files, tmp_path):
    train = [(f"word {i} " * 8, i % 2) for i in range(20_000)]
    write_sst2(tmp_path / "data", train, train[:3000])
    settings = Settings("gpt2", gpt2_files)
    parts = [tmp_path / "one", tmp_path / "two"]
    for workers, out in enumerate(parts, start=1):
        preprocess(TASKS["SST-2"], tmp_path / "data", out, settings, "paper", workers=workers)
    rows = [stored(parts[1] / "input0", name) for name in ("train", "valid")]
    assert (len(rows[0]), len(rows[1])) == (17_000, 3000)
    for path in parts[0].rglob("*.bin"):
        assert path.read_bytes() == (parts[1] / path.relative_to(parts[0])).read_bytes()


def write_pairs(folder, rows):
    folder.mkdir()
    text = "index\tsentence1\tsentence2\tlabel\n"
    text += "".join(f"{i}\t{a}\t{b}\tentailment\n" for i, (a, b) in enumerate(rows))
    text += f"{len(rows)}\tx\ty\tnot_entailment\n"
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("on_long", ["truncate", "drop"])
def test_long_rows_fit_the_model_or_are_left_out(gpt2_files, tmp_path, on_long):
    pairs = [("a " * 9, "b " * 3), ("a", "b"), ("a " * 4, "b " * 9), ("a " * 7, "b " * 7)]
    write_pairs(tmp_path / "data", pairs)
    out, whole = tmp_path / "out", tmp_path / "whole"
    preprocess(TASKS["RTE"], tmp_path / "data", whole, Settings("gpt2", gpt2_files))
    limit = Settings("gpt2", gpt2_files, max_positions=14, on_long=on_long)
    report = preprocess(TASKS["RTE"], tmp_path / "data", out, limit)
    assert report.files["train.tsv"].long_lines == [2, 4, 5]
    first, second = (stored(out / f"input{part}", "train") for part in (0, 1))
    assert len(first) == len(second) == len(stored(out / "label", "train"))
    if on_long == "drop":
        assert len(first) == 2
        return
    # <s> A </s> </s> B </s>: 10 tokens of text are left, cut from the end of the longer sentence.
    assert report.splits["train"].longest == 14
    assert [(len(a) - 1, len(b) - 1) for a, b in zip(first, second, strict=True)] == [
        (7, 3), (1, 1), (4, 6), (5, 5), (1, 1),
    ]  # fmt: skip
    for part, rows in enumerate((first, second)):
        for row, full in zip(rows, stored(whole / f"input{part}", "train"), strict=True):
            assert row == [*full[: len(row) - 1], 2]


def test_csv_reviews_as_those_files_have_them(gpt2_files, tmp_path):
    # Quotes doubled, line breaks and quotes escaped, a real line break in a field, titles.
    rows = [
        '"1","Bad ""one""","line\\nbreak and \\""quoted\\"""',
        '"2","Good","comma, and a\nreal break"',
        '2,"","w\\s back\\\\slash "',
    ]
    text = "\n".join(rows) + "\n"
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    report = preprocess(TASKS["Amazon-2"], tmp_path, out, Settings("gpt2", gpt2_files))
    assert report.splits["valid"].label_counts == {"negative": 1, "positive": 2}
    expected = ['Bad "one" line break and "quoted"', "Good comma, and a real break",
                "w\\s back\\\\slash"]  # fmt: skip
    symbols = {"train": pipeline.encode(expected, gpt2_files, tmp_path)}
    pipeline.preprocess(symbols, gpt2_files / "dict.txt", tmp_path / "fairseq")
    pipeline.assert_same_files(out / "input0", tmp_path / "fairseq", ["train.bin", "train.idx"])


def test_label_indices_are_the_same_for_every_sentiment_task(gpt2_files, tmp_path):
    """Whatever comes first or is more frequent: index 0 is negative."""
    write_sst2(tmp_path / "SST-2", [("good", 1), ("good", 1), ("bad", 0)])
    reviews = '"2","{}good"\n"2","{}good"\n"1","{}bad"\n'
    for name, title in (("Yelp-2", ""), ("Amazon-2", 'title","')):
        (tmp_path / name).mkdir()
        for file in ("train", "test"):
            (tmp_path / name / f"{file}.csv").write_text(reviews.replace("{}", title))
    for name in ("SST-2", "Yelp-2", "Amazon-2"):
        out = tmp_path / f"{name}-bin"
        preprocess(TASKS[name], tmp_path / name, out, Settings("gpt2", gpt2_files))
        assert stored(out / "label", "train") == [[5, 2], [5, 2], [4, 2]], name
        names = "0 1\n1 1\n" if name == "SST-2" else "negative 1\npositive 1\n"
        assert (out / "label" / "dict.txt").read_text() == names


def test_mnli_has_two_dev_and_two_test_sets(gpt2_files, tmp_path):
    names = ["index", "promptID", "pairID", "genre", *"pqrs", "sentence1", "sentence2"]
    labelled = {"train": 1, "dev_matched": 5, "dev_mismatched": 5}
    labels = ["entailment", "contradiction", "neutral"]
    for name in [*labelled, "test_matched", "test_mismatched"]:
        annotators = [f"label{i + 1}" for i in range(labelled.get(name, 0))]
        header = [*names, *annotators, *(["gold_label"] if annotators else [])]
        lines = ["\t".join(header)]
        for i, label in enumerate(labels):
            fields = [str(i), *"·" * 7, f"{name} {i}", "second", *["-"] * len(annotators)]
            lines.append("\t".join([*fields, *([label] if annotators else [])]))
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for split, outputs in (
        ("glue", ["train", "valid", "valid1", "test", "test1"]),
        ("paper", None),
    ):
        out = tmp_path / split
        if split == "paper":
            with pytest.raises(ValueError, match="3 rows, expected more than the 3 of dev"):
                preprocess(TASKS["MNLI"], tmp_path, out, Settings("gpt2", gpt2_files), split)
            continue
        preprocess(TASKS["MNLI"], tmp_path, out, Settings("gpt2", gpt2_files), split)
        assert sorted(p.stem for p in (out / "input1").glob("*.bin")) == sorted(outputs)
        assert stored(out / "label", "valid1") == [[6, 2], [4, 2], [5, 2]]
        dictionary = (out / "label" / "dict.txt").read_text()
        assert dictionary == "contradiction 1\nneutral 1\nentailment 1\n"
        assert not (out / "label" / "test1.bin").exists()


def test_cola_has_no_header_but_its_test_set_has(gpt2_files, tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("gj04\t1\t\tfirst row\nbc01\t0\t*\tsecond row\n")
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tthird row\n")
    report = preprocess(TASKS["CoLA"], tmp_path, tmp_path / "out", Settings("gpt2", gpt2_files))
    assert {name: split.rows for name, split in report.splits.items()} == {
        "train": 2, "valid": 2, "test": 1,
    }  # fmt: skip
    assert stored(tmp_path / "out" / "label", "train") == [[5, 2], [4, 2]]


def test_qqps_broken_rows_are_left_out_and_listed(gpt2_files, tmp_path):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    rows = "7\t1\t2\twho ?\twhat ?\t0\n8\t1\t2\tbroken off\n9\t1\t2\twhen ?\twhere ?\t1\n"
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text(header + rows)
    settings = Settings("gpt2", gpt2_files)
    report = preprocess(TASKS["QQP"], tmp_path, tmp_path / "out", settings)
    assert report.splits["train"].rows == 2
    assert report.files["train.tsv"].dropped_lines == [3]
    with pytest.raises(ValueError, match=r"train.tsv:3: 4 fields, expected 6"):
        preprocess(TASKS["QQP"], tmp_path, tmp_path / "out", settings, strict=True)


def test_line_aligned_files_of_a_custom_task(gpt2_files, tmp_path):
    """The layout that fairseq's own recipes leave behind."""
    for name in ("train", "dev"):
        for end, lines in (("label", "no yes"), ("input0", "one two"), ("input1", "three four")):
            (tmp_path / f"{name}.{end}").write_text(lines.replace(" ", "\n") + "\n")
    (tmp_path / "test.input0").write_text("five\n")
    (tmp_path / "test.input1").write_text("six\n")
    task = custom_task(("yes", "no"), sentence_columns=("a", "b"))
    report = preprocess(task, tmp_path, tmp_path / "out", Settings("gpt2", gpt2_files))
    assert stored(tmp_path / "out" / "label", "train") == [[5, 2], [4, 2]]
    assert report.splits["test"].rows == 1


def test_the_report_says_what_was_read_by_what(gpt2_files, tmp_path):
    import hashlib

    write_sst2(tmp_path / "data", [("good", 1), ("bad", 0)])
    preprocess(TASKS["SST-2"], tmp_path / "data", tmp_path / "out", Settings("gpt2", gpt2_files))
    report = json.loads((tmp_path / "out" / "preprocess.json").read_text())
    data = (tmp_path / "data" / "train.tsv").read_bytes()
    assert report["files"]["train.tsv"]["sha256"]["train.tsv"] == hashlib.sha256(data).hexdigest()
    assert {"scl-fairseq", "python", "tokenizers"} <= set(report["versions"])
    assert report["absent"] == ["test.tsv"]


def test_blocks_that_add_nothing_to_an_output(gpt2_files, tmp_path, monkeypatch):
    """A small dev set: most blocks of train have no row of the validation set."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 50)
    train = [(f"sentence number {i}", i % 2) for i in range(60)]
    write_sst2(tmp_path / "data", train, train[:2])
    settings = Settings("gpt2", gpt2_files)
    preprocess(TASKS["SST-2"], tmp_path / "data", tmp_path / "out", settings, "paper", workers=2)
    for name, count in (("train", 58), ("valid", 2), ("test", 2)):
        assert len(stored(tmp_path / "out" / "input0", name)) == count
        assert len(stored(tmp_path / "out" / "label", name)) == count


def test_an_output_without_rows_is_refused(gpt2_files, tmp_path):
    write_sst2(tmp_path / "data", [("good", 1), ("bad", 0)], [("a b c d e f g h i j k", 1)] * 3)
    settings = Settings("gpt2", gpt2_files, max_positions=8, on_long="drop")
    with pytest.raises(ValueError, match=r"dev\.tsv:2: no rows"):
        preprocess(TASKS["SST-2"], tmp_path / "data", tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def test_a_changed_dictionary_is_read_again(gpt2_files, tmp_path):
    bpe = shutil.copytree(gpt2_files, tmp_path / "bpe")
    write_sst2(tmp_path / "data", [("good", 1), ("bad", 0)])
    out, settings = tmp_path / "out", Settings("gpt2", bpe)
    preprocess(TASKS["SST-2"], tmp_path / "data", out, settings)
    before = stored(out / "input0", "train")
    (bpe / "dict.txt").write_text("a 1\n" + (bpe / "dict.txt").read_text())
    preprocess(TASKS["SST-2"], tmp_path / "data", out, settings)
    assert stored(out / "input0", "train") == [[*(i + 1 for i in row[:-1]), 2] for row in before]


def test_a_byte_order_mark_in_line_aligned_files(gpt2_files, tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.label").write_bytes(b"\xef\xbb\xbfno\r\nyes\r\n")
        (tmp_path / f"{name}.input0").write_bytes(b"one\ntwo\n")
    task = custom_task(("no", "yes"))
    report = preprocess(task, tmp_path, tmp_path / "out", Settings("gpt2", gpt2_files))
    file = report.files["train.input0, train.label"]
    assert (file.byte_order_mark, file.crlf) == (True, True)
    assert set(file.sha256) == {"train.input0", "train.label"}
    assert stored(tmp_path / "out" / "label", "train") == [[4, 2], [5, 2]]


def test_a_label_in_another_spelling_is_accepted_and_said(gpt2_files, tmp_path):
    rows = "0\ta\tb\tentailment\n1\ta\tb\tnot entailment\n"
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("index\tquestion\tsentence\tlabel\n" + rows)
    report = preprocess(TASKS["QNLI"], tmp_path, tmp_path / "out", Settings("gpt2", gpt2_files))
    assert stored(tmp_path / "out" / "label", "train") == [[4, 2], [5, 2]]
    file = report.files["train.tsv"]
    assert file.respelled_lines == [3]
    assert list(file.lines()) == [
        "train.tsv: 1 row with the label 'not entailment' for 'not_entailment' accepted (line 3)"
    ]


def test_a_converted_berts_pairs_have_no_separator(gpt2_files, tmp_path):
    (tmp_path / "bpe").mkdir()
    (tmp_path / "bpe" / "vocab.txt").write_text("[UNK]\na\nb\nx\ny\n")
    (tmp_path / "bpe" / "dict.txt").write_text("a 1\nb 1\nx 1\ny 1\n")
    write_pairs(tmp_path / "data", [("a a", "b")])
    for settings, longest in (
        (Settings("wordpiece", tmp_path / "bpe"), 6),  # <s> a a </s> b </s>
        (Settings("gpt2", gpt2_files), 7),  # <s> a a </s> </s> b </s>
    ):
        report = preprocess(TASKS["RTE"], tmp_path / "data", tmp_path / "out", settings)
        assert report.splits["train"].longest == longest


@pytest.mark.parametrize("bpe", ["gpt2", "wordpiece"])
def test_the_encoding_is_kept_beside_the_data(bpe, gpt2_files, tiny, tmp_path):
    folder = gpt2_files if bpe == "gpt2" else tiny.encoder
    files = (
        ("encoder.json", "vocab.bpe") if bpe == "gpt2" else ("vocab.txt", "tokenizer_config.json")
    )
    out, again = tmp_path / "out", tmp_path / "again"
    preprocess(TASKS["SST-2"], tiny.sample, out, Settings(bpe, folder))
    assert {path.name for path in (out / "bpe").iterdir()} == {*files, "dict.txt"}
    for name in files:
        assert (out / "bpe" / name).read_bytes() == (folder / name).read_bytes()
    # It is a --bpe-dir itself, and no reason to leave an old result.
    for destination in (again, out):
        preprocess(TASKS["SST-2"], tiny.sample, destination, Settings(bpe, out / "bpe"))
    assert (out / "bpe").is_dir()
    first, second = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (out, again)
    )
    assert first == second
