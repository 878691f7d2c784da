"""Numbers of classes, labels of rows, and what a classifier begins from, before training."""

import shutil

import pytest
import torch
from fairseq.data import indexed_dataset

from tests import runs
from tests.criterions.test_sentence_prediction_scl import SIZES
from tests.several import assert_refused, assert_trained, train_all

MODEL = ["--arch", "roberta", *SIZES["roberta"].split()]
SCL, SUPCON, STOCK = "sentence_prediction_scl", "supcon", "sentence_prediction"
FROZEN = ["--scl-lambda", 0, "--freeze-encoder", "--pooler-activation-fn", "linear"]
UNSUPERVISED = [SUPCON, "--supcon-unsupervised"]
CRITERIONS = {"stock": [STOCK], "scl": [SCL], "frozen": [SCL, *FROZEN], "supcon": [SUPCON]}
NUMBERS = [SCL, "--scl-lambda", 0, "--regression-target"]
F1 = [SCL, "--scl-lambda", 0, "--report-acc-and-f1"]
ZERO, ONE, END, UNKNOWN = 4, 5, 2, 3  # in a dictionary of fairseq


def write_labels(folder, rows):
    """``label/<split>`` by fairseq's own writer; rows of indices of the dictionary."""
    for split, labels in rows.items():
        path = folder / "label" / split
        builder = indexed_dataset.make_builder(f"{path}.bin", "mmap", vocab_size=10)
        for label in labels:
            builder.add_item(torch.IntTensor(label))
        builder.finalize(f"{path}.idx")


def with_rows(changes, size):
    rows = [[ZERO + row % 2, END] for row in range(size)]
    for row, label in changes.items():
        rows[row] = label
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def data(tiny, folder):
    """``data(name)``: a copy of the 64 labelled sentences with something of its own."""
    sizes = {
        split: len(indexed_dataset.make_dataset(f"{tiny.data}/label/{split}", "mmap"))
        for split in ("train", "valid", "test")
    }
    changed = {
        "unknown in train": {"train": {7: [UNKNOWN, END], 9: [UNKNOWN, END]}},
        "unknown in valid": {"valid": {3: [UNKNOWN, END]}},
        "unknown in test": {"test": {3: [UNKNOWN, END]}},
        "above": {"train": {11: [ONE + 1, END]}},
        "two words": {"train": {5: [ZERO, ONE, END]}},
        "no word": {"valid": {6: [END]}},
    }
    labels = {  # label/dict.txt
        "padded": "0 32\n1 32\nmadeupword0000 0\nmadeupword0001 0\n",
        "three": "neg 3\nneu 2\npos 1\n",
        "words": "entailment 3\nnot_entailment 2\n",
        "by frequency": "1 40\n0 24\n",
    }
    found = {}
    for name in [*changed, *labels, "numbers", "valid1"]:
        found[name] = shutil.copytree(tiny.data, folder / name)
        (found[name] / "label" / "dict.txt").write_text(labels.get(name, "0 1\n1 1\n"))
        splits = {**changed.get(name, {}), **({"train": {}} if name in labels else {})}
        for split, rows in splits.items():
            write_labels(found[name], {split: with_rows(rows, sizes[split])})
    # Labels that are numbered by how frequent they are: most rows of valid are `1`, of index 0.
    mostly = [[ZERO if row % 3 else ONE, END] for row in range(sizes["valid"])]
    write_labels(found["by frequency"], {"valid": mostly})
    for end in ("bin", "idx"):
        inputs = found["valid1"] / "input0"
        shutil.copy(inputs / f"valid.{end}", inputs / f"valid1.{end}")
    write_labels(found["valid1"], {"valid1": with_rows({1: [UNKNOWN, END]}, sizes["valid"])})
    for split in ("train", "valid"):
        lines = [f"{row / 4}\n" for row in range(sizes[split])]
        (found["numbers"] / "label" / f"{split}.label").write_text("".join(lines))
    return {**found, "labelled": tiny.data}


# Name to data, number of classes, criterion and its options, and parts of the message: none where
# it trains.
CASES = {
    **{
        f"{classes} for two, {name}": (
            *("padded", classes, criterion),
            [f"--num-classes {classes},", "2 labels", "0, 1"],
        )
        for name, criterion in CRITERIONS.items()
        for classes in (1, 3, 4)
    },
    **{f"as many, {name}": ("padded", 2, criterion, []) for name, criterion in CRITERIONS.items()},
    "numbers": ("numbers", 1, NUMBERS, []),
    "numbers, stock": ("numbers", 1, [STOCK, "--regression-target"], []),
    "numbers, unsupervised": ("numbers", 1, [*UNSUPERVISED, "--regression-target"], []),
    "no numbers": ("labelled", 1, NUMBERS, ["train has no labels", "train.label"]),
    "mcc of numbers": (
        *("numbers", 1, [*NUMBERS, "--report-mcc"]),
        ["--report-mcc", "--regression-target"],
    ),
    "f1 of numbers": ("numbers", 1, [*NUMBERS, "--report-acc-and-f1"], ["--report-acc-and-f1"]),
    **{
        f"{name}, {criterion}": (name, 2, CRITERIONS[criterion], parts)
        for criterion in CRITERIONS
        for name, parts in {
            "unknown in train": ["label/train", "row 7", "<unk>", "0, 1", "2 such rows"],
            "unknown in valid": ["label/valid", "row 3", "<unk>", "1 such row"],
            "unknown in test": [],
            "above": ["label/train", "row 11", "0, 1"],
            "two words": ["label/train", "row 5 has 2 words"],
            "no word": ["label/valid", "row 6 has 0 words"],
        }.items()
    },
    "unknown in train, unsupervised": ("unknown in train", 2, UNSUPERVISED, []),
    "unknown in valid, unsupervised": ("unknown in valid", 2, UNSUPERVISED, ["row 3"]),
    "unknown in valid, which is not read": (
        *("unknown in valid", 2, [SCL, "--disable-validation"]),
        [],
    ),
    "unknown in valid1": (
        *("valid1", 2, [SCL, "--valid-subset", "valid,valid1"]),
        ["label/valid1", "row 1"],
    ),
    "unknown in valid1, combined": (
        *("valid1", 2, [SCL, "--combine-valid-subsets"]),
        ["label/valid1", "row 1"],
    ),
    "three labels": ("three", 3, F1, ["--f1-label", "neg, neu, pos"]),
    "one of three labels": ("three", 3, [*F1, "--f1-label", "neu"], []),
    "no such label": (
        *("words", 2, [*F1, "--f1-label", "1"]),
        ["--f1-label 1", "entailment, not_entailment"],
    ),
    "a label and no report": (
        *("words", 2, [SCL, "--f1-label", "entailment"]),
        ["--report-acc-and-f1"],
    ),
    "f1": ("by frequency", 2, F1, []),
    "f1 of stock": ("by frequency", 2, [STOCK, "--report-acc-and-f1"], []),
    "f1 of 0": ("by frequency", 2, [*F1, "--f1-label", "0"], []),
    "f1 of words": ("words", 2, F1, []),
}  # fmt: skip


@pytest.fixture(scope="module")
def results(data, folder):
    cases = {
        name: [
            *[data[place], "--task", STOCK, "--num-classes", classes, "--init-token", 0, *MODEL],
            *["--no-save", "--criterion", *options],
        ]
        for name, (place, classes, options, _) in CASES.items()
        if name != "f1 of stock" or "report_acc_and_f1" in runs.stock_options()
    }
    stages = ["--task", STOCK, "--num-classes", 2, "--init-token", 0, *MODEL]
    for kind in ("cls", "mean", "pooled"):
        saved = folder / f"stage of {kind}"
        projects = ["--supcon-projection", "none"] if kind == "pooled" else []
        first = ["--criterion", SUPCON, "--scl-embedding", kind, *projects]
        cases[f"{kind}: first"] = [data["labelled"], *stages, *first, "--save-dir", saved]
        start = ["--finetune-from-model", saved / "checkpoint_last.pt", "--no-save"]
        for name, options in (("frozen", FROZEN), ("whole", [])):
            second = ["--criterion", SCL, *options, *start, "--save-dir", folder / "nowhere"]
            cases[f"{kind}: {name}"] = [data["labelled"], *stages, *second]
    return train_all(cases, folder)


@pytest.mark.parametrize("name", CASES)
def test_it_trains_or_is_refused_in_one_line(name, results):
    if name not in results:
        pytest.skip("stock 0.12.2 has no such option")
    parts = CASES[name][3]
    if parts:
        assert_refused(results[name], *parts)
    else:
        assert_trained(results[name])


def test_f1_is_of_the_label_1_whatever_its_index(results, data):
    size = len(indexed_dataset.make_dataset(f"{data['by frequency']}/label/valid", "mmap"))
    labels = [1 if row % 3 else 0 for row in range(size)]
    log, other = results["f1"].log, results["f1 of 0"].log
    assert "f1 and acc_and_f1 are of the label 1" in log
    assert "f1 and acc_and_f1 are of the label 0" in other
    (validated,) = [line for line in log.splitlines() if "valid on" in line and "accuracy" in line]
    accuracy, of_one = (runs.logged(validated, name)[0] for name in ("accuracy", "f1"))
    (of_zero,) = runs.logged(other, "f1")
    assert of_one != of_zero
    ones, zeros = labels.count(1), labels.count(0)
    # Some number of right ones and right zeros makes these three numbers of these labels.
    found = [
        (100 * (hits + rest) / size, 200 * hits / (ones + hits + zeros - rest),
         200 * rest / (zeros + rest + ones - hits))
        for hits in range(ones + 1) for rest in range(zeros + 1)
    ]  # fmt: skip
    expected = pytest.approx((accuracy, of_one, of_zero), abs=0.051)
    assert any(numbers == expected for numbers in found)
    assert runs.logged(log, "acc_and_f1")[-1] == pytest.approx((accuracy + of_one) / 2, abs=0.11)
    if "f1 of stock" in results:
        for name in ("f1", "acc_and_f1"):
            assert runs.logged(results["f1 of stock"].log, name) == runs.logged(log, name)


def test_the_label_whose_f1_is_shown_is_named(results):
    assert "are of the label not_entailment" in results["f1 of words"].log
    assert "are of the label neu" in results["one of three labels"].log


def test_a_first_stage_of_another_embedding_than_the_classifiers(results):
    for kind in ("cls", "mean", "pooled"):
        assert_trained(results[f"{kind}: first"])
        assert_trained(results[f"{kind}: whole"])
        warns = "--scl-embedding mean" in results[f"{kind}: first"].log.replace("Namespace", "")
        assert ("a classifier that begins" in results[f"{kind}: first"].log) == (kind == "mean")
        assert ("the classifier reads cls, but" in results[f"{kind}: whole"].log) == (
            kind == "mean"
        )
        assert warns == (kind == "mean")
        if kind == "cls":
            assert_trained(results["cls: frozen"])
        else:
            assert_refused(
                results[f"{kind}: frozen"], "--freeze-encoder", f"--scl-embedding {kind}"
            )
