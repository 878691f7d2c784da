"""Files for the leaderboard: names, labels and rows are GLUE's, or there is no file."""

import shutil

import pytest

from scl_fairseq.data.binarized import open_binarized
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import TASKS, custom_task
from scl_fairseq.inference.submission import plan_submission

HEADERS = {
    "RTE": ["index", "sentence1", "sentence2", "label"],
    "MNLI": ["index", "sentence1", "sentence2", "gold_label"],
    "QNLI": ["index", "question", "sentence", "label"],
    "SST-2": ["sentence", "label"],
}


def write_official(folder, name, rows=6):
    """All files of a task, small, the test files without labels."""
    task, columns = TASKS[name], HEADERS[name]
    folder.mkdir(parents=True)
    for split, file in task.files.items():
        header = [c for c in columns if not (split.startswith("test") and c == task.label_column)]
        lines = ["\t".join(header)]
        for index in range(rows):
            values = dict.fromkeys(header, "a film " * (1 + index % 3))
            values |= {"index": str(index), task.label_column: task.labels[index % 2]}
            if split == "train":
                values[task.label_column] = task.labels[index % len(task.labels)]
            lines.append("\t".join(values[c] for c in header))
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def binarized(gpt2_files, tmp_path):
    def make(name, on_long="truncate", positions=64):
        source = write_official(tmp_path / name / "source", name)
        settings = Settings("gpt2", gpt2_files, positions, on_long)
        preprocess(TASKS[name], source, tmp_path / name / "out", settings, workers=1)
        return tmp_path / name / "out"

    return make


def plan(folder, name, split="test"):
    return plan_submission(open_binarized(folder, (split,), needs_labels=False), split, name)


@pytest.mark.parametrize(
    ("task", "split", "name", "file"),
    [
        ("MNLI", "test", "MNLI", "MNLI-m.tsv"),
        ("MNLI", "test1", "mnli", "MNLI-mm.tsv"),
        ("MNLI", "valid1", "MNLI", "MNLI-mm.tsv"),
        ("MNLI", "test", "MNLI-m", "MNLI-m.tsv"),
        ("MNLI", "test", "AX", "AX.tsv"),
        ("RTE", "test", "rte", "RTE.tsv"),
        ("QNLI", "test", "QNLI", "QNLI.tsv"),
        ("SST-2", "test", "sst-2", "SST-2.tsv"),
    ],
)
def test_names_are_the_leaderboards(task, split, name, file, binarized):
    assert plan(binarized(task), name, split).name == file


@pytest.mark.parametrize(
    ("task", "predictions", "spelled"),
    [
        ("MNLI", [2, 0, 1], ["entailment", "contradiction", "neutral"]),
        ("RTE", [1, 0, 0], ["not_entailment", "entailment", "entailment"]),
        ("QNLI", [0, 1, 1], ["entailment", "not_entailment", "not_entailment"]),
        ("SST-2", [1, 1, 0], ["1", "1", "0"]),
    ],
)
def test_labels_are_spelled_as_glue_does(task, predictions, spelled, binarized):
    text = plan(binarized(task), task).text(predictions)
    rows = [f"{index}\t{label}" for index, label in enumerate(spelled)]
    assert text == "\n".join(["index\tprediction", *rows]) + "\n"


def test_labels_in_the_order_of_fairseqs_own_dictionary(binarized):
    """fairseq-preprocess orders labels by frequency, and writes no report."""
    out = binarized("RTE")
    (out / "preprocess.json").unlink()
    (out / "label" / "dict.txt").write_text("not_entailment 4\nentailment 2\n")
    assert plan(out, "RTE").text([0, 1]).splitlines()[1:] == ["0\tnot_entailment", "1\tentailment"]


def test_another_number_of_rows_than_glues_is_said(binarized):
    assert plan(binarized("RTE"), "RTE").note == "RTE.tsv has 6 rows, GLUE's test set 3000"


@pytest.mark.parametrize("name", ["RTE", "MRPC", "SST-2"])
def test_official_test_sets(name, shared_data, tmp_path):
    source, bpe_dir = shared_data / "glue" / name, shared_data / "gpt2_bpe"
    if not (source.exists() and bpe_dir.exists()):
        pytest.skip("GLUE or GPT-2's BPE is not on this machine")
    folder = tmp_path / "source"
    folder.mkdir()
    for file in ("dev.tsv", "test.tsv"):
        shutil.copy(source / file, folder)
    shutil.copy(source / "dev.tsv", folder / "train.tsv")
    preprocess(TASKS[name], folder, tmp_path / "out", Settings("gpt2", bpe_dir), workers=1)
    found = plan(tmp_path / "out", name)
    official = (source / "test.tsv").read_text("utf-8-sig").split("\n")
    indices = [line.split("\t")[0] for line in official[1:] if line]
    rows = found.text([0] * len(indices)).splitlines()
    assert [row.split("\t")[0] for row in rows[1:]] == indices
    assert found.note == ""


@pytest.mark.parametrize(
    ("task", "name", "split", "message"),
    [
        ("RTE", "STS-B", "test", r"--task 'STS-B', expected one of GLUE: CoLA, SST-2, .* or MNLI$"),
        ("RTE", "Yelp-2", "test", "--task 'Yelp-2', expected"),
        ("RTE", "QNLI", "test", "is data of RTE, not of QNLI"),
        ("RTE", "SST-2", "test", "has the labels entailment, not_entailment; those of SST-2 are 0"),
        ("MNLI", "RTE", "test", "has the labels contradiction, neutral, entailment; those of RTE"),
        ("MNLI", "MNLI", "train", "--task MNLI: say of train which it is"),
    ],
)
def test_what_does_not_fit_is_refused(task, name, split, message, binarized):
    with pytest.raises(ValueError, match=message):
        plan(binarized(task), name, split)


def test_rows_left_out_are_refused(binarized):
    out = binarized("RTE", on_long="drop", positions=14)
    with pytest.raises(ValueError, match=r"4 rows of test were left out .* \(line 3, 4, 6, 7\)"):
        plan(out, "RTE")


def test_rows_that_were_lost_are_refused(binarized):
    out = binarized("RTE")
    for part in ("input0", "input1"):
        for end in ("idx", "bin"):
            shutil.copy(out / part / f"valid.{end}", out / part / f"test.{end}")
    report = out / "preprocess.json"
    report.write_text(report.read_text().replace('"rows": 6', '"rows": 7'))
    with pytest.raises(ValueError, match=r"test has 6 rows, but its preprocess.json says 7"):
        plan(out, "RTE")


def test_a_draw_is_refused(gpt2_files, tmp_path):
    source = write_official(tmp_path / "source", "RTE")
    (source / "dev.tsv").write_text("\n".join((source / "dev.tsv").read_text().split("\n")[:3]))
    settings = Settings("gpt2", gpt2_files)
    preprocess(TASKS["RTE"], source, tmp_path / "out", settings, split="paper", workers=1)
    with pytest.raises(ValueError, match="valid was drawn from a file"):
        plan(tmp_path / "out", "RTE", "valid")
    assert plan(tmp_path / "out", "RTE", "test").name == "RTE.tsv"


def test_a_custom_task_with_the_same_labels(gpt2_files, tmp_path):
    """GLUE's diagnostic set has a layout of its own."""
    labels = TASKS["MNLI"].labels
    task = custom_task(labels, "label", ["sentence1", "sentence2"])
    source = tmp_path / "source"
    source.mkdir()
    rows = "".join(f"a\tb\t{label}\n" for label in labels)
    for name in ("train", "dev"):
        (source / f"{name}.tsv").write_text("sentence1\tsentence2\tlabel\n" + rows)
    (source / "test.tsv").write_text("index\tsentence1\tsentence2\n0\ta\tb\n1\tc\td\n")
    preprocess(task, source, tmp_path / "out", Settings("gpt2", gpt2_files), workers=1)
    found = plan(tmp_path / "out", "AX")
    assert found.text([2, 0]) == "index\tprediction\n0\tentailment\n1\tcontradiction\n"
