"""Unlabelled text: byte by byte what fairseq's own pipeline makes of its lines."""

import json
import random

import pytest

from scl_fairseq.cli import preprocess as command
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.sources import open_lines
from scl_fairseq.data.tasks import lines_task
from tests import pipeline
from tests.data.test_preprocess import AWKWARD, stored

ENDS = ("bin", "idx")


def write(folder, **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in splits.items():
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"{split}.txt").write_text(text, encoding="utf-8", newline="\n")
    return folder


def awkward_lines(count, seed):
    draw = random.Random(seed)
    return [draw.choice(AWKWARD) + f" {i}" * (i % 3) for i in range(count)]


def test_a_sentence_a_line_equals_fairseqs_pipeline(gpt2_files, tmp_path):
    texts = {"train": awkward_lines(20_000, 0), "valid": awkward_lines(50, 1)}
    source = write(tmp_path / "text", **texts)
    settings = Settings("gpt2", gpt2_files, max_positions=1000)
    out, one = tmp_path / "out", tmp_path / "one"
    report = preprocess(open_lines(source), source, out, settings, workers=2)
    preprocess(open_lines(source), source, one, settings, workers=1)
    kept = {split: [line for line in lines if line.strip()] for split, lines in texts.items()}
    encoded = iter(pipeline.encode([*kept["train"], *kept["valid"]], gpt2_files, tmp_path / "f"))
    symbols = {split: [next(encoded) for _ in lines] for split, lines in kept.items()}
    pipeline.preprocess(symbols, gpt2_files / "dict.txt", tmp_path / "fairseq")
    names = ["dict.txt", *(f"{split}.{end}" for split in texts for end in ENDS)]
    pipeline.assert_same_files(out, tmp_path / "fairseq", names)
    pipeline.assert_same_files(one, tmp_path / "fairseq", names)
    empty = [at + 1 for at, line in enumerate(texts["train"]) if not line.strip()]
    assert report.files["train.txt"].empty_lines == empty
    assert report.splits["train"].rows == len(kept["train"])
    assert sorted(path.name for path in (out / "bpe").iterdir()) == [
        "dict.txt",
        "encoder.json",
        "vocab.bpe",
    ]
    assert not (out / "label").exists()


def test_triples_are_cut_one_by_one(tiny, tmp_path):
    words = (tiny.encoder / "vocab.txt").read_text().split()[5:]
    rows = [(words[:3], words[3:15], words[4:6]), (words[:9], words[:2], words[1:2])]
    rows.append((words[:1], words[2:10], words[5:7]))
    lines = ["\t".join(" ".join(part) for part in row) for row in rows]
    source = write(tmp_path / "text", train=[*lines, f"{words[0]}\t\t{words[0]}"])
    settings = Settings("wordpiece", tiny.encoder, max_positions=10)
    report = preprocess(open_lines(source), source, tmp_path / "out", settings)
    index = {
        line.split(" ")[0]: place + 4
        for place, line in enumerate((tiny.encoder / "dict.txt").read_text().splitlines())
    }
    for part in range(3):
        expected = [[*(index[word] for word in row[part][:8]), 2] for row in rows]
        assert stored(tmp_path / "out" / f"input{part}", "train") == expected
    train = report.files["train.txt"]
    assert (train.long_lines, train.empty_lines) == ([1, 2], [4])
    assert report.splits["train"].longest == 10
    dropped = Settings("wordpiece", tiny.encoder, max_positions=10, on_long="drop")
    preprocess(open_lines(source), source, tmp_path / "out", dropped)
    assert stored(tmp_path / "out" / "input1", "train") == [[*(index[w] for w in words[2:10]), 2]]


def test_the_command(tiny, tmp_path, capsys):
    a, b, c = (tiny.encoder / "vocab.txt").read_text().split()[5:8]
    source = write(tmp_path / "text", train=[f"{a} {b}", "", c])
    arguments = ["--bpe", "wordpiece", "--bpe-dir", str(tiny.encoder)]
    arguments += ["--data-dir", str(source), "--destdir", str(tmp_path / "out")]
    for did in ("wrote", "replaced"):
        assert command.main(["--task", "lines", *arguments]) == 0
        shown = capsys.readouterr().out
        assert "train: 2 rows (no labels), 5 tokens" in shown
        assert "1 row with an empty sentence left out (line 2)" in shown
        assert "has no valid.txt, test.txt" in shown
        assert f"{did} " in shown
        assert "--task sentence_embedding --required-batch-size-multiple 1" in shown
    assert json.loads((tmp_path / "out" / "preprocess.json").read_text())["task"] == "lines"
    write(source, train=[f"{a}\t{b}\t{c}"])
    assert command.main(["--task", "lines", *arguments]) == 0
    assert "--text-columns 3" in capsys.readouterr().out
    assert (tmp_path / "out" / "input2" / "train.bin").exists()
    assert not (tmp_path / "out" / "train.bin").exists()


@pytest.mark.parametrize(
    ("lines", "further", "message"),
    [
        (["a", "b\tc"], [], "train.txt:2: 2 fields, expected 1 (sentence1): an extra tab?"),
        (["a\tb", "c"], [], "train.txt:2: 1 field, expected 2 (sentence1, sentence2)"),
        (["a\tb\tc\td"], [], "train.txt:1: 4 sentences a line, expected 1 to 3"),
        ([], [], "train.txt:1: empty file"),
        (["", " "], [], "train.txt:1: no rows"),
        (["a"], ["--split", "paper"], "--split paper draws by label"),
        (["a"], ["--labels", "x", "y"], "--labels goes with --task custom"),
        (None, [], "has no train.txt, one sentence a line"),
    ],
)
def test_bad_input_is_one_line(tiny, tmp_path, capsys, lines, further, message):
    source = write(tmp_path / "text", **({} if lines is None else {"train": lines}))
    arguments = ["--bpe", "wordpiece", "--bpe-dir", str(tiny.encoder), "--data-dir", str(source)]
    arguments += ["--destdir", str(tmp_path / "out"), *further]
    assert command.main(["--task", "lines", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_too_many_columns():
    with pytest.raises(ValueError, match="4 sentences a line"):
        lines_task(4)
