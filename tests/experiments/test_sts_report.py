"""scl-report on sentence embeddings: ours beside InfoCSE's tables, whose sums must be right."""

import csv
import io
import json
import statistics

import pytest

from scl_fairseq.cli import report
from scl_fairseq.experiments.published_sts import (
    ABLATIONS,
    AVERAGE,
    BEIR_NUMBERS,
    NAMES,
    STS_NUMBERS,
)
from scl_fairseq.inference.sts_files import TEST_SETS

# A few as the source documents print them.
SPOT_CHECKS = {
    ("SimCSE-BERT-base", "STS13"): 82.41,
    ("ESimCSE-BERT-base", "STS12"): 73.40,
    ("InfoCSE-BERT-base", "STS-B"): 82.00,
    ("InfoCSE-BERT-large", "SICK-R"): 74.84,
    ("Mirror-BERT-base", "STS16"): 75.70,
}


def test_published_numbers():
    """A mistyped number would move a row away from its printed average."""
    assert len(STS_NUMBERS) == 21
    for model, row in STS_NUMBERS.items():
        mean = statistics.mean(row[name] for name in TEST_SETS)
        assert mean == pytest.approx(row[AVERAGE], abs=0.015), model
    for (model, name), value in SPOT_CHECKS.items():
        assert STS_NUMBERS[model][name] == value
    assert len(BEIR_NUMBERS) == 15
    for method, average in BEIR_NUMBERS[AVERAGE].items():
        values = [row[method] for data, row in BEIR_NUMBERS.items() if data != AVERAGE]
        assert statistics.mean(values) == pytest.approx(average, abs=0.00061), method
    assert (ABLATIONS["InfoCSE"], ABLATIONS["without contrast"]) == (85.49, 40.0)
    assert ABLATIONS["mask rate 40 %"] == ABLATIONS["InfoCSE"]


def write(path, *scores):
    """What scl-evaluate --sts --json writes, as far as the report reads it."""
    checkpoints = [
        {
            "name": name,
            "embedding": kind,
            "spearman": spearman,
            "average": statistics.mean(spearman.values()),
        }
        for name, kind, spearman in scores
    ]
    path.write_text(json.dumps({"checkpoints": checkpoints, "versions": {"torch": "2"}}))
    return str(path)


def rows_of(capsys, *arguments):
    assert report.main([*arguments, "--format", "csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    return [row for row in table if not row["note"]]


def test_ours_stand_above_the_published(tmp_path, capsys):
    whole = {name: 70.0 + place for place, name in enumerate(TEST_SETS)}
    first = write(tmp_path / "a.json", ("whole", "cls", whole), ("one", "mean", {"STS-B": 80.5}))
    rows = rows_of(capsys, first)
    assert [row["model"] for row in rows] == ["whole", "one", *STS_NUMBERS]
    assert (rows[0]["average"], rows[0]["STS16"], rows[0]["embedding"]) == ("73.0", "74.0", "cls")
    assert (rows[1]["average"], rows[1]["STS-B"], rows[1]["STS12"]) == ("", "80.5", "")
    assert rows[-1]["average"] == "80.18"
    ours = rows_of(capsys, first, "--published", "none")
    assert [row["model"] for row in ours] == ["whole", "one"]


def test_ablations_are_matched_by_name(tmp_path, capsys):
    names = ("InfoCSE", "mask rate 15 %", "my own")
    path = write(tmp_path / "a.json", *((name, "cls", {"STS-B dev": 81.25}) for name in names))
    rows = {row[""]: row for row in rows_of(capsys, path, "--published", "sts-ablation")}
    assert [*rows] == [*ABLATIONS, "my own"]
    assert rows["mask rate 15 %"]["published"] == "84.62"
    assert {name for name, row in rows.items() if row["ours (cls)"] == "81.25"} == set(names)
    assert rows["my own"]["published"] == ""


def test_beir(tmp_path, capsys):
    (tmp_path / "b.json").write_text(json.dumps({"beir": {"mine": {"quora": 0.5, "own": 0.1}}}))
    found = rows_of(capsys, str(tmp_path / "b.json"), "--published", "beir")
    rows = {row[""]: row for row in found}
    assert (rows["quora"]["ours: mine"], rows["quora"]["InfoCSE base"]) == ("0.5", "0.8241")
    assert (rows["own"]["ours: mine"], rows["own"]["InfoCSE base"]) == ("0.1", "")
    assert rows["fever"]["ours: mine"] == ""


def test_the_report_says_what_the_numbers_are(tmp_path, capsys):
    record = {"beir": {"mine": {"nq": 0.5}}, "metric": "nDCG@10 of cosines"}
    (tmp_path / "b.json").write_text(json.dumps(record))
    assert report.main([str(tmp_path / "b.json"), "--published", "beir"]) == 0
    shown = capsys.readouterr().out
    assert "b.json: nDCG@10 of cosines." in shown
    assert "no reproduction" in shown


def test_an_average_over_beir_is_of_all_its_sets(tmp_path, capsys):
    whole = {name: 0.1 for name in BEIR_NUMBERS if name != AVERAGE} | {"fever": 0.24, "own": 0.9}
    part = {name: value for name, value in whole.items() if name != "fever"}
    (tmp_path / "b.json").write_text(json.dumps({"beir": {"whole": whole, "part": part}}))
    found = rows_of(capsys, str(tmp_path / "b.json"), "--published", "beir")
    (row,) = (row for row in found if row[""] == AVERAGE)
    assert float(row["ours: whole"]) == pytest.approx(0.11)
    assert row["ours: part"] == ""


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "html"])
@pytest.mark.parametrize("published", [NAMES[0], NAMES[2], "none"])
def test_every_format(tmp_path, form, published):
    path = write(tmp_path / "a.json", ("mine", "cls", {"STS-B dev": 81.25}))
    out = tmp_path / "report"
    arguments = ["--format", form, "--published", published, "--out", str(out)]
    assert report.main([path, *arguments]) == 0
    assert "81.25" in out.read_text()


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("{", [], "is no JSON"),
        ("[]", [], "holds no scores"),
        ('{"checkpoints": [{}]}', [], "is not what scl-evaluate --sts --json writes"),
        ('{"checkpoints": []}', ["--published", "few-shot"], "--published few-shot is of sweeps"),
        ('{"checkpoints": []}', ["--published", "beir"], "holds no {'beir'"),
        ('{"beir": {"a": {"nq": 31.2}}}', ["--published", "beir"], "nDCG from 0 to 1"),
        ('{"beir": {"a": {"nq": 0.3}}}', [], "scores on BEIR, which go with --published beir"),
    ],
)
def test_bad_input(tmp_path, capsys, text, arguments, message):
    (tmp_path / "a.json").write_text(text)
    assert report.main([str(tmp_path / "a.json"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
