"""A folder of results that is used again with other settings: unlike is never set beside unlike."""

import json

import pytest

from scl_fairseq.cli import plot, report
from scl_fairseq.experiments.report import build
from scl_fairseq.experiments.results import read_results
from tests.experiments.test_report import FEW_RESAMPLES, table_of
from tests.experiments.test_results import CONFIG, line, setting, write_predictions, write_sweep

OUTSIDE = "outside-grid"


def trials(start, lambdas, valid, test, samples=(0, 1), **options):
    """Lines of the same accuracies for every lambda and sample; ``start`` begins their ids."""
    return [
        line(f"{start}-{scl}-{sample}", setting(scl, sample=sample, **options), valid, test)
        for scl in lambdas
        for sample in samples
    ]


def written(folder, lines, config=CONFIG):
    """A sweep's folder, with predictions that agree with its results."""
    folder = write_sweep(folder, lines, config=config)
    for one in lines:
        right = round(one["test_accuracy"])
        write_predictions(folder, one["trial"], ["0", "1"] * 50, [1] * right + [0] * (100 - right))
    return folder


def built(folder, lines, config=CONFIG):
    return build([read_results(written(folder, lines, config))], FEW_RESAMPLES)


def places(found):
    accuracy = table_of(found, "accuracy")
    return [dict(zip(accuracy.header, row, strict=True)) for row in accuracy.texts]


# The config says max-epoch 2. Longer trainings are better in all that is made up here.
OTHERS = {
    "max-epoch": ({"max_epoch": 7}, "max-epoch 7", "max-epoch 2"),
    "lr": ({"lr": 1e-3}, "lr 0.001", "lr 5e-05"),
    "what the head reads": ({"head_pooling": "mean"}, "head-pooling mean", "head-pooling none"),
    "an option that is no longer there": (
        {"dropout": 0.3}, "dropout 0.3", "dropout none"),
    "an option that was not there": (
        {"batch_size": None}, "batch-size none", "batch-size 16"),
    "a first stage": (
        {"first-stage.criterion": "supcon"}, "first-stage.criterion supcon",
        "first-stage.criterion none"),
    "what was in the grid": ({"clip_norm": 1}, "clip-norm 1", "clip-norm none"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_trials_of_other_settings_are_never_compared(name, tmp_path):
    changes, theirs, ours = OTHERS[name]
    # CE alone was run before, CE+SCL alone since: not one pair may be compared.
    lines = [*trials("old", [0], 90.0, 95.0, **changes), *trials("new", [0.9], 60.0, 65.0)]
    found = built(tmp_path, lines)
    rows = {row[OUTSIDE]: row for row in places(found)}
    assert set(rows) == {theirs, ours}
    assert "95.0" in rows[theirs]["CE: top 3"]
    assert rows[theirs]["CE+SCL: top 3"] == "—"
    assert "65.0" in rows[ours]["CE+SCL: top 3"]
    assert rows[ours]["CE: top 3"] == "—"
    assert all(row["difference"] == "—" for row in rows.values())
    assert table_of(found, "tests").rows == ()
    (note,) = [line for line in found.summary if "outside the grid" in line]
    assert theirs in note
    assert ours in note


def test_each_run_of_a_folder_has_its_own_choice(tmp_path):
    old = trials("old", [0, 0.9], 90.0, 95.0, max_epoch=7)
    new = [*trials("new", [0], 60.0, 65.0), *trials("new", [0.9], 61.0, 66.0)]
    found = built(tmp_path, [*old, *new])
    rows = {row[OUTSIDE]: row for row in places(found)}
    assert rows["max-epoch 7"]["difference"] == "+0.0"
    assert rows["max-epoch 2"]["difference"] == "+1.0"
    choice = table_of(found, "choice")
    assert len(choice.rows) == 4
    # What the config plans belongs to its own trials: 4 samples, of which 2 are there.
    assert "2 of 4" in rows["max-epoch 2"]["CE: all"]
    assert "2 of" not in rows["max-epoch 7"]["CE: all"]
    for table in found.tables:
        assert OUTSIDE in table.header or table.name not in ("accuracy", "choice", "tests")


def test_more_of_the_grid_joins_what_is_there(tmp_path):
    """Further samples, seeds, lambdas and what schedules make of them are no other settings."""
    lines = [
        *trials("a", [0, 0.9], 60.0, 65.0),
        *trials("b", [0.3], 60.0, 65.0, tau=0.7),
        *trials("c", [0, 0.9], 61.0, 66.0, samples=(7, 8), seed=9),
    ]
    (row,) = places(built(tmp_path, lines))
    assert OUTSIDE not in row
    assert row["CE: all"].startswith("65.5")


RATIO = CONFIG.replace("grid:", "warmup-ratio: 0.1\ngrid:")


def test_a_warm_up_that_follows_from_the_data_is_no_other_setting(tmp_path):
    ours = {"lr-scheduler": "polynomial_decay", "total-num-update": 40, "warmup-updates": 4}
    more = {**ours, "total-num-update": 200, "warmup-updates": 20}
    lines = [
        *trials("a", [0, 0.9], 60.0, 65.0, **ours),
        *trials("b", [0, 0.9], 60.0, 65.0, N=100, **more),
    ]
    assert all(OUTSIDE not in row for row in places(built(tmp_path / "same", lines, RATIO)))
    other = trials("c", [0.5], 60.0, 65.0, **{**ours, "warmup-updates": 8})
    rows = places(built(tmp_path / "other", [*lines, *other], RATIO))
    assert {row[OUTSIDE] for row in rows} == {"warmup-updates 8", "warmup-updates 4/20"}


SYSTEMS = """\
data: few-shot/{task}/{N}/bin/sample{sample}
encoder: embedded
grid: {task: [SST-2], N: [20], sample: [0, 1], seed: [1], system: [CE, SupCon]}
options: {lr: 5e-5, batch-size: 16, max-epoch: 2}
overrides:
  - {when: {system: CE}, options: {scl-lambda: 0}}
  - {when: {system: SupCon}, options: {scl-lambda: 0, lr: 1e-2, dropout: 0}}
"""


def test_what_overrides_make_of_systems_is_compared(tmp_path):
    lines = [
        *trials("ce", [0], 60.0, 65.0, system="CE"),
        *trials("supcon", [0], 61.0, 66.0, system="SupCon", lr=1e-2, dropout=0),
    ]
    (row,) = places(built(tmp_path / "one", lines, SYSTEMS))
    assert row["difference"] == "+1.0"
    # A system whose override has changed since is not.
    older = trials("old", [0], 90.0, 95.0, system="SupCon", lr=1e-1, dropout=0)
    rows = {row[OUTSIDE]: row for row in places(built(tmp_path / "two", lines + older, SYSTEMS))}
    assert rows["lr 0.1"]["SupCon: top 3"].startswith("95.0")
    assert rows["lr 0.1"]["difference"] == "—"
    assert rows["lr 5e-05/0.01"]["difference"] == "+1.0"


def test_two_folders_of_other_options(tmp_path):
    one = write_sweep(tmp_path / "one", trials("a", [0], 60.0, 65.0))
    more = trials("b", [0.9], 90.0, 95.0, max_epoch=7)
    two = write_sweep(tmp_path / "two", more, config=CONFIG.replace("max-epoch: 2", "max-epoch: 7"))
    found = build([read_results(one), read_results(two)], FEW_RESAMPLES)
    assert {row[OUTSIDE]: row["difference"] for row in places(found)} == {
        "max-epoch 2": "—",
        "max-epoch 7": "—",
    }


def test_without_a_config_the_same_place_tells(tmp_path):
    lines = [*trials("a", [0, 0.9], 60.0, 65.0), *trials("b", [0], 90.0, 95.0, max_epoch=7)]
    rows = places(built(tmp_path, lines, config=None))
    assert {row[OUTSIDE] for row in rows} == {"max-epoch 2", "max-epoch 7"}


def test_failures_stand_with_their_own(tmp_path):
    lines = [*trials("a", [0, 0.9], 60.0, 65.0), *trials("b", [0], 90.0, 95.0, max_epoch=7)]
    failed = {"trial": "f", "setting": setting(0.9, max_epoch=7), "error": "x", "log": "l"}
    folder = write_sweep(tmp_path, lines, [failed])
    rows = {r[OUTSIDE]: r for r in places(build([read_results(folder)], FEW_RESAMPLES))}
    assert "failed" not in rows["max-epoch 2"]["CE+SCL: all"]
    choice = table_of(build([read_results(folder)], FEW_RESAMPLES), "choice")
    (row,) = [r for r in choice.texts if "max-epoch 7" in r and "CE+SCL" in r]
    assert row[-1] == "0 of 1"


def test_the_commands(tmp_path, capsys):
    """A figure needs the choice; the report says what differs."""
    old = trials("old", [0, 0.9], 90.0, 95.0, max_epoch=7)
    new = trials("new", [0, 0.9], 60.0, 65.0)
    folder = str(written(tmp_path / "sweep", [*old, *new]))
    assert report.main([folder, "--resamples", "10"]) == 0
    assert "Settings outside the grid differ (max-epoch 2; max-epoch 7)" in capsys.readouterr().out
    figure = ["heatmap", folder, "--out", str(tmp_path / "map.png")]
    assert plot.main(figure) == 2
    assert "outside grid max-epoch 7; choose" in capsys.readouterr().err.replace("SST-2, ", "")
    assert plot.main([*figure, "--where", f"{OUTSIDE}=max-epoch 7"]) == 0
    numbers = [json.loads(one) for one in (tmp_path / "sweep" / "results.jsonl").open()]
    assert len(numbers) == 8  # nothing is rewritten
