"""Sweeps over systems: their settings and first stages, and the report on the same samples."""

import json

import pytest
import yaml

from scl_fairseq.experiments.report import ReportSettings, build
from scl_fairseq.experiments.report_formats import FORMATS
from scl_fairseq.experiments.results import loss_of, read_results
from scl_fairseq.experiments.settings import first_stage, settings
from scl_fairseq.experiments.sweep_config import read_config
from tests.experiments.test_report import raw_rows, table_of
from tests.experiments.test_results import line, write_predictions, write_sweep

SYSTEMS = ("CE", "CE+SCL", "SupCon", "SCL + queue")
CONFIG = """\
name: systems
published: few-shot
data: bin/{task}/{N}/sample{sample}
grid:
  task: [SST-2, RTE]
  N: [100]
  sample: [0, 1]
  system: [CE, CE+SCL, SupCon, SCL + queue]
options:
  {finetune-from-model: model.pt, lr: 5e-5, batch-size: 16, max-epoch: 10, scl-temperature: 0.3,
   patience: 3, clip-norm: 1}
overrides:
  - {when: {system: CE}, options: {scl-lambda: 0}}
  - {when: {system: [CE+SCL, SCL + queue]}, options: {scl-lambda: 0.9}}
  - {when: {system: SCL + queue}, options: {scl-queue-size: 64}}
  - when: {system: SupCon}
    options: {scl-lambda: 0, freeze-encoder: true, lr: 1e-2}
    first-stage: {supcon-views: 4, clip-norm: null}
  - {when: {task: RTE, system: SupCon}, first-stage: {max-epoch: 20}}
"""


def config_of(tmp_path, text=CONFIG, *changes):
    path = tmp_path / "sweep.yaml"
    path.write_text(text, "utf-8")
    return read_config(path, changes)


def of_system(tmp_path, system, *changes, task="SST-2", text=CONFIG):
    found = settings(config_of(tmp_path, text, *changes))
    return [one for one in found if (one["task"], one["system"]) == (task, system)]


def test_a_system_is_what_its_overrides_make_of_it(tmp_path):
    found = settings(config_of(tmp_path))
    assert [one["system"] for one in found[:4]] == list(SYSTEMS)
    assert len(found) == 2 * 2 * 4
    baseline, _ = of_system(tmp_path, "CE")
    data = {"task": "SST-2", "N": 100, "sample": 0, "system": "CE"}
    shared = {"batch-size": 16, "max-epoch": 10, "patience": 3, "clip-norm": 1}
    start = {"finetune-from-model": "model.pt"}
    # Of the temperature nothing is left at lambda 0, wherever that is said.
    assert baseline == {**data, **start, **shared, "lr": 5e-5, "scl-lambda": 0}
    queue, _ = of_system(tmp_path, "SCL + queue")
    contrast = {"scl-lambda": 0.9, "scl-temperature": 0.3, "scl-queue-size": 64}
    options = {**start, **shared, "lr": 5e-5, **contrast}
    assert queue == {**data, "system": "SCL + queue", **options}
    assert [loss_of(one) for one in found[:4]] == list(SYSTEMS)


def test_a_first_stage_has_what_all_trials_have_and_its_own(tmp_path):
    trial, _ = of_system(tmp_path, "SupCon")
    assert (trial["lr"], trial["scl-lambda"], trial["freeze-encoder"]) == (1e-2, 0, True)
    # Not: how an epoch is chosen, where it starts, what the overrides make of the classifier, None.
    shared = {"criterion": "supcon", "lr": 5e-5, "batch-size": 16, "scl-temperature": 0.3}
    assert first_stage(trial) == {**shared, "max-epoch": 10, "supcon-views": 4}
    of_rte, _ = of_system(tmp_path, "SupCon", task="RTE")
    assert first_stage(of_rte) == {**shared, "max-epoch": 20, "supcon-views": 4}
    assert not any(first_stage(one) for one in of_system(tmp_path, "CE"))


def test_a_grid_may_vary_a_first_stage(tmp_path):
    values = yaml.safe_load(CONFIG)
    of_supcon = {**values["grid"], "system": ["SupCon"], "first-stage.lr": [1e-5, 3e-5]}
    values["grid"] = [{**values["grid"], "system": ["CE"]}, {**of_supcon, "sample": [0]}]
    text = yaml.safe_dump(values)
    found = of_system(tmp_path, "SupCon", text=text)
    assert [first_stage(one)["lr"] for one in found] == [1e-5, 3e-5]
    assert [one["lr"] for one in found] == [1e-2, 1e-2]
    values["overrides"][3]["first-stage"]["lr"] = 1e-4
    with pytest.raises(ValueError, match=r"overrides.3.first-stage.lr: is a key of the grid"):
        config_of(tmp_path, yaml.safe_dump(values))


BAD = {
    "a system of nothing": (
        ("system: SupCon}\n    options", "system: Supcon}\n    options"),
        None,
    ),
    "a system among options": (
        ("clip-norm: 1}", "clip-norm: 1, system: CE}"),
        "options.system: names what overrides make of a trial and belongs under grid",
    ),
    "a system without a name": (("[CE, CE+SCL,", "[1, CE+SCL,"), "grid.system: expected a name"),
    "data in a first stage": (
        ("first-stage: {supcon-views: 4,", "first-stage: {task: RTE,"),
        "overrides.3.first-stage.task: names the data",
    ),
    "selection in a first stage": (
        ("first-stage: {supcon-views: 4,", "first-stage: {patience: 4,"),
        "overrides.3.first-stage.patience: a first stage is not validated",
    ),
    "another start of a first stage": (
        ("first-stage: {supcon-views: 4,", "first-stage: {finetune-from-model: x.pt,"),
        "overrides.3.first-stage.finetune-from-model: a first stage starts from the trial's",
    ),
    "what the sweep decides": (
        ("first-stage: {supcon-views: 4,", "first-stage: {save-dir: x,"),
        "overrides.3.first-stage.save-dir: cannot be set",
    ),
    "tau 0 in a first stage": (
        ("first-stage: {supcon-views: 4,", "first-stage: {scl-temperature: 0,"),
        "overrides.3.first-stage.scl-temperature: expected a number greater than 0",
    ),
    "several values in a first stage": (
        ("first-stage: {supcon-views: 4,", "first-stage: {supcon-views: [2, 4],"),
        "overrides.3.first-stage.supcon-views: expected one value",
    ),
    "a first stage that is none": (
        ("first-stage: {max-epoch: 20}", "first-stage: 3"),
        "overrides.4.first-stage: expected fairseq options",
    ),
    "when alone": (
        (", first-stage: {max-epoch: 20}", ""),
        "overrides.4: expected the keys when and options, first-stage or both",
    ),
    "supcon where accuracy is needed": (
        ("clip-norm: 1}", "clip-norm: 1, criterion: supcon}"),
        "options.criterion: supcon has no accuracy to select on",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_systems_are_refused_with_the_key(tmp_path, name):
    (old, new), message = BAD[name]
    assert old in CONFIG
    text = CONFIG.replace(old, new)
    if name == "a system of nothing":
        text = text.replace("{task: RTE, system: SupCon}", "{task: RTE}")
        message = "grid.system: no override says what 'SupCon' is"
    with pytest.raises(ValueError, match=r".") as caught:
        config_of(tmp_path, text)
    assert message in str(caught.value)


def test_a_narrower_grid_needs_no_other_overrides(tmp_path):
    config = config_of(tmp_path, CONFIG, "grid.system=[CE]")
    assert {one["system"] for one in settings(config)} == {"CE"}


# Test accuracies on samples 0 and 1, of which the first is the better on the validation set.
ACCURACIES = {
    "CE": (70.0, 60.0),
    "CE+SCL": (72.0, 66.0),
    "SupCon": (80.0, 71.0),
    "SCL + queue": (69.0, 55.0),
}


def report(folder, config=CONFIG, accuracies=ACCURACIES, tasks=("SST-2", "RTE")):
    path = folder / "sweep.yaml"
    folder.mkdir(exist_ok=True, parents=True)
    path.write_text(CONFIG, "utf-8")
    lines = []
    for number, of in enumerate(settings(read_config(path))):
        if of["system"] not in accuracies or of["task"] not in tasks:
            continue
        of = {key: value for key, value in of.items() if key != "finetune-from-model"}
        of["total-num-update"] = 70  # follows from the data, and is in no config
        test = accuracies[of["system"]][of["sample"]]
        keys = ["task", "N", "sample", "system"]
        lines.append(line(f"t{number}", of, 80.0 - of["sample"], test, grid_keys=keys))
    write_sweep(folder, lines, config=config)
    for one in lines:
        correct = [1] * round(one["test_accuracy"]) + [0] * round(100 - one["test_accuracy"])
        write_predictions(folder, one["trial"], "01" * 50, correct)
    return build([read_results(folder)], ReportSettings(top=1, resamples=100))


def test_the_report_has_a_column_for_each_system(tmp_path):
    found = report(tmp_path)
    first, second = raw_rows(found, "accuracy")
    assert (first["task"], second["task"]) == ("SST-2", "RTE")
    for row in (first, second):
        assert [row[f"{name} top mean"] for name in SYSTEMS] == [70, 72, 80, 69]
        assert [row[f"{name} all mean"] for name in SYSTEMS] == [65, 69, 75.5, 62]
        assert {row[f"{name} all expected runs"] for name in SYSTEMS} == {2}
        of_others = [row[f"difference of top means: {name}"] for name in SYSTEMS[1:]]
        assert of_others == [2, 10, -1]
    assert (first["published CE mean"], first["published CE+SCL mean"]) == (91.1, 92.8)
    assert second["published CE mean"] == ""
    header = table_of(found, "accuracy").header
    tops = [name.removesuffix(": top 1") for name in header if name.endswith(": top 1")]
    assert tops == list(SYSTEMS)
    assert "SupCon − CE" in header
    text = FORMATS["markdown"](found)
    assert "Differences: the others minus CE" in text


def test_every_system_is_tested_against_ce(tmp_path):
    from scipy import stats

    rows = raw_rows(report(tmp_path), "tests")
    compared = [(row["first"], row["second"]) for row in rows if row["task"] == "SST-2"]
    assert compared[::2] == [("CE", name) for name in SYSTEMS[1:]]
    of_supcon = next(row for row in rows if row["second"] == "SupCon" and "Welch" in row["test"])
    expected = stats.ttest_ind(ACCURACIES["SupCon"], ACCURACIES["CE"], equal_var=False)
    assert of_supcon["difference"] == pytest.approx(10.5)
    assert of_supcon["p"] == pytest.approx(expected.pvalue)


def test_the_report_says_what_the_systems_are(tmp_path):
    found = report(tmp_path)
    rows = {row["system"]: row for row in raw_rows(found, "systems")}
    assert list(rows) == list(SYSTEMS)
    assert rows["CE"]["options"] == "lr 5e-05, scl-lambda 0"
    assert rows["SCL + queue"]["options"] == (
        "lr 5e-05, scl-lambda 0.9, scl-queue-size 64, scl-temperature 0.3"
    )
    assert rows["SupCon"]["options"] == "freeze-encoder, lr 0.01, scl-lambda 0"
    assert rows["SupCon"]["first stage"] == (
        "criterion supcon, lr 5e-05, max-epoch 10 or 20, scl-temperature 0.3, supcon-views 4"
    )
    assert rows["CE"]["first stage"] == "—"
    choice = table_of(found, "choice")
    assert "system" in choice.header
    # A system is a column, not a hyper-parameter.
    assert choice.header.count("system") == 1
    assert [row[2] for row in choice.texts[:4]] == list(SYSTEMS)


def test_one_system_beside_ce_and_none_in_the_config(tmp_path):
    found = report(tmp_path, None, {name: ACCURACIES[name] for name in ("CE", "SupCon")})
    header = table_of(found, "accuracy").header
    assert "difference" in header
    assert not any("CE+SCL" in name for name in header)
    row, _ = raw_rows(found, "accuracy")
    assert row["difference of top means"] == 10


def test_other_data_under_one_name_is_refused_without_a_config_too(tmp_path):
    report(tmp_path, None)
    lines = [json.loads(one) for one in (tmp_path / "results.jsonl").read_text().splitlines()]
    lines[1]["data"]["sha256"] = "another"
    write_sweep(tmp_path, lines, config=None)
    with pytest.raises(ValueError, match="two different data sets for task SST-2, N 100, sample 0"):
        read_results(tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_the_systems(tmp_path, form):
    pytest.importorskip("matplotlib")
    text = FORMATS[form](report(tmp_path / "all", tasks=("SST-2",)))
    assert "SCL + queue" in text
    # Of these there is no figure, and no baseline.
    others = {name: ACCURACIES[name] for name in ("SupCon", "SCL + queue")}
    assert "SupCon" in FORMATS[form](report(tmp_path / "others", accuracies=others))
