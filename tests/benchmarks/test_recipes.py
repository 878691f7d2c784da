"""The search of recipes: no test row trains, chooses or judges."""

import csv
import json
import random

import numpy as np
import pytest

from benchmarks.contest.samples import Draw, Entrant
from benchmarks.recipes import __main__ as recipes
from benchmarks.recipes.arms import arms_of
from benchmarks.recipes.folders import VALIDATION_ROWS, binarised
from benchmarks.recipes.table import table
from scl_fairseq.checkpoints.embedded import convert_encoder
from scl_fairseq.data.binarized import open_binarized
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.tasks import TASKS

SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    """SST-2 in its official layout, of words drawn at random; sentences are all different."""
    folder = tmp_path_factory.mktemp("glue") / "SST-2"
    folder.mkdir()
    generator = random.Random(0)
    words = {0: ["dull", "weak", "stale", "bland"], 1: ["bright", "strong", "fresh", "sharp"]}
    for name, rows in (("train", 200), ("dev", 240)):
        lines = ["sentence\tlabel"]
        for place in range(rows):
            label = place % 2
            said = " ".join(generator.choices(words[label], k=3))
            lines.append(f"{said} {name} {place}\t{label}")
        (folder / f"{name}.tsv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder.parent


def sentences(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row["sentence1"] for row in rows]


def test_only_rows_of_dev_judge(glue, tmp_path):
    encoder = tmp_path / "encoder"
    convert_encoder(encoder)
    entrant = Entrant("SST-2", TASKS["SST-2"], glue / "SST-2")
    settings = Settings("wordpiece", encoder, 32, "truncate")
    found = binarised(entrant, Draw(20, 2, 1, 1000), tmp_path, 40, settings)
    of_test = set()
    for index, folder in enumerate(found):
        name = f"SST-2/20/sample{index}"
        drawn = tmp_path / "samples" / "test1000-seed1" / name
        original = {split: set(sentences(drawn / f"{split}.tsv")) for split in SPLITS}
        own = {s: sentences(tmp_path / "judged" / name / f"{s}.tsv") for s in SPLITS}
        assert set(own["train"]) == original["train"]
        assert len(own["dev"]) == VALIDATION_ROWS
        assert len(own["test"]) == 40
        assert {*own["dev"], *own["test"]} <= original["dev"]
        assert not set(own["dev"]) & set(own["test"])
        of_test |= original["test"]
        counts = open_binarized(folder, ("train", "valid", "test")).num_examples
        assert counts == {"train": 20, "valid": VALIDATION_ROWS, "test": 40}
    assert of_test  # and none of them is in what was asserted to be a part of dev
    assert not of_test & {*own["train"], *own["dev"], *own["test"]}


@pytest.mark.parametrize("size", [20, 100, 1000])
def test_an_arm_changes_what_its_name_says(size):
    base, *others = arms_of(size)
    names = [arm.name for arm in others]
    assert len(set(names)) == len(names)
    own = base.options("mean")
    spelt = {"epochs": "max-epoch", "batch": "batch-size", "lr": "lr"}
    spelt |= {"lambda": "scl-lambda", "tau": "scl-temperature"}
    for arm in others:
        options = arm.options("mean")
        changed = {key for key in {*own, *options} if own.get(key) != options.get(key)}
        changed -= {"validate-interval", "save-interval"}  # they go with the epochs
        expected = set()
        for part in arm.name.split(", "):
            if part == "CE":
                expected |= {"scl-lambda", "scl-temperature"}
                assert options["scl-lambda"] == 0
            else:
                name, value = part.split()
                expected.add(spelt.get(name, name))
                assert str(options[spelt.get(name, name)]) == value
        assert changed == expected, arm.name


def test_gains_are_paired():
    right = {0: np.array([1, 1, 0, 0], bool), 1: np.array([1, 0, 0, 0], bool)}
    better = {0: np.array([1, 1, 1, 0], bool), 2: np.array([1, 1, 1, 1], bool)}
    judged = {"base": {"a": right}, "CE": {"a": better}}
    lines = table(["base", "CE"], ["a"], judged).splitlines()
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert cells[:2] == ["CE", "87.5"]  # of its own two samples
    assert cells[2].startswith("+25.0")
    assert cells[3] == "1"


@pytest.mark.slow
def test_search_goes_on_and_reports(glue, tmp_path, capsys):
    words = ["--glue-dir", glue, "--num-examples", 20, "--num-samples", 1, "--most-judged", 20]
    words += ["--arms", "base", "CE", "--out", tmp_path / "out"]
    words = [str(word) for word in words]
    assert recipes.main(words) == 0
    said = capsys.readouterr().out
    results = tmp_path / "out" / "N20" / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    by_arm = {line["setting"]["system"]: line for line in lines}
    assert by_arm.keys() == {"base", "CE"}
    assert all(line["num_test"] == 20 for line in lines)
    for arm, line in by_arm.items():
        assert f"| {arm} " in said
        assert f"{line['test_accuracy']:.1f}" in said
    before = results.read_bytes()
    assert recipes.main(words) == 0
    assert results.read_bytes() == before


def test_a_missing_task_is_named(glue, capsys):
    assert recipes.main(["--glue-dir", str(glue), "--tasks", "RTE"]) == 2
    assert "RTE" in capsys.readouterr().err
