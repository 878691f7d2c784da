"""Whether a split is a file row by row, told from what scl-preprocess has really written."""

import json
import shutil

import pytest

from scl_fairseq.data.choices import GLUE, PAPER
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.row_order import Origin, origin_of
from scl_fairseq.data.tasks import TASKS, custom_task

LONG = "a " * 40


def write_rte(folder, long=()):
    """Files of RTE, in which these have a long row on line 3."""
    folder.mkdir(parents=True)
    for name, size in (("train", 24), ("dev", 8), ("test", 8)):
        rows = [["index", "sentence1", "sentence2", "label"]]
        for index in range(size):
            first = LONG if name in long and index == 1 else "a film"
            rows.append([str(index), first, "b", TASKS["RTE"].labels[index % 2]])
        cut = 3 if name == "test" else 4
        text = "".join("\t".join(row[:cut]) + "\n" for row in rows)
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def prepared(gpt2_files, folder, long=(), split=GLUE, on_long="drop"):
    source = write_rte(folder / "source", long)
    settings = Settings("gpt2", gpt2_files, 32, on_long)
    preprocess(TASKS["RTE"], source, folder / "out", settings, split=split, workers=1)
    return folder / "out"


def test_rows_left_out_are_those_of_the_splits_own_file(gpt2_files, tmp_path):
    out = prepared(gpt2_files, tmp_path, long=("test", "train"))
    assert origin_of(out, "test") == Origin("RTE", 7, (3,), False)
    assert origin_of(out, "train") == Origin("RTE", 23, (3,), False)
    assert origin_of(out, "valid") == Origin("RTE", 8, (), False)


def test_long_rows_that_were_cut_are_there(gpt2_files, tmp_path):
    out = prepared(gpt2_files, tmp_path, long=("test",), on_long="truncate")
    assert json.loads((out / "preprocess.json").read_text())["files"]["test.tsv"]["long_lines"]
    assert origin_of(out, "test") == Origin("RTE", 8, (), False)


def test_splits_of_the_paper(gpt2_files, tmp_path):
    """Test is dev, and valid is drawn from train."""
    out = prepared(gpt2_files, tmp_path, long=("dev",), split=PAPER)
    assert origin_of(out, "test") == Origin("RTE", 7, (3,), False)
    assert origin_of(out, "valid").is_drawn
    assert origin_of(out, "train").is_drawn


def test_line_aligned_files(gpt2_files, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("train", "dev", "test"):
        long = LONG if name == "test" else "a"
        (source / f"{name}.input0").write_text(f"a film\n{long}\nb\n")
        (source / f"{name}.label").write_text("no\nyes\nno\n")
    task = custom_task(["no", "yes"])
    settings = Settings("gpt2", gpt2_files, 32, "drop")
    preprocess(task, source, tmp_path / "out", settings, workers=1)
    assert origin_of(tmp_path / "out", "test") == Origin("custom", 2, (2,), False)
    assert origin_of(tmp_path / "out", "valid") == Origin("custom", 3, (), False)


def test_data_of_fairseqs_own(gpt2_files, tmp_path):
    out = prepared(gpt2_files, tmp_path, long=("test",))
    (out / "preprocess.json").unlink()
    assert origin_of(out, "test") == Origin()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"split": "glue", "splits": {}}'])
def test_a_damaged_report_is_named(gpt2_files, tmp_path, text):
    out = prepared(gpt2_files, tmp_path)
    copy = shutil.copytree(out, tmp_path / "copy")
    (copy / "preprocess.json").write_text(text)
    with pytest.raises(ValueError, match=r"copy/preprocess\.json is damaged, or tells nothing of"):
        origin_of(copy, "test")
    with pytest.raises(ValueError, match="tells nothing of test1"):
        origin_of(out, "test1")
