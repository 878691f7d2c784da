"""Which settings a configuration stands for, and which configurations are refused."""

import copy

import pytest
import yaml

from scl_fairseq.experiments.settings import settings
from scl_fairseq.experiments.sweep_config import read_config

GOOD = {
    "name": "few-shot",
    "data": "bin/{task}/{N}/sample{sample}",
    "grid": {
        "task": ["SST-2", "RTE"],
        "N": [20],
        "sample": [0, 1],
        "scl-lambda": [0, 0.5, 0.9],
        "scl-temperature": [0.1, 0.3],
    },
    "options": {"finetune-from-model": "model.pt", "lr": 1e-5, "batch-size": 16, "fp16": True},
    "overrides": [{"when": {"task": "RTE"}, "options": {"lr": 2e-5}}],
}


def write(tmp_path, values):
    path = tmp_path / "sweep.yaml"
    path.write_text(
        values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False), "utf-8"
    )
    return path


def test_the_grid_is_every_combination_with_one_baseline(tmp_path):
    found = settings(read_config(write(tmp_path, GOOD)))
    # 2 tasks x 2 samples x (1 baseline + 2 lambdas x 2 temperatures)
    assert len(found) == 2 * 2 * (1 + 2 * 2)
    baselines = [s for s in found if s["scl-lambda"] == 0]
    assert len(baselines) == 4
    assert all("scl-temperature" not in s for s in baselines)
    assert {s["task"]: s["lr"] for s in found} == {"SST-2": 1e-5, "RTE": 2e-5}
    assert all(s["fp16"] is True for s in found)


def test_the_papers_grid_has_2250_trials(tmp_path):
    values = copy.deepcopy(GOOD)
    values["grid"] = {
        "task": ["SST-2", "QNLI", "MNLI"],
        "N": [20, 100, 1000],
        "sample": list(range(10)),
        "scl-lambda": [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0],
        "scl-temperature": [0.1, 0.3, 0.5, 0.7],
    }
    values.pop("overrides")
    assert len(settings(read_config(write(tmp_path, values)))) == 2250


def test_what_does_nothing_at_lambda_0_makes_no_second_baseline(tmp_path):
    values = {
        "data": "x",
        "grid": {
            "scl-lambda": [0, 0.9],
            "scl-temperature": [0.1, 0.3],
            "scl-embedding": ["cls", "mean"],
        },
        "overrides": [{"when": {"scl-temperature": 0.1}, "options": {"lr": 2e-5}}],
    }
    found = settings(read_config(write(tmp_path, values)))
    assert [s for s in found if s["scl-lambda"] == 0] == [{"scl-lambda": 0}]
    assert len(found) == 1 + 4


def test_what_heads_read_is_a_setting_and_cls_is_that_of_earlier_sweeps(tmp_path):
    common = {"data": "x", "grid": {"scl-lambda": [0, 0.9]}}
    earlier = settings(read_config(write(tmp_path, common)))

    def found(**more):
        return settings(read_config(write(tmp_path, {**common, **more})))

    assert found(options={"head-pooling": "cls"}) == earlier
    assert found(grid={**common["grid"], "head-pooling": ["cls"]}) == earlier
    both = found(grid={**common["grid"], "head-pooling": ["cls", "mean"]})
    assert both[::2] == earlier
    assert both[1::2] == [{**one, "head-pooling": "mean"} for one in earlier]
    # Both stages read the same, unless the first is told otherwise.
    when = [{"when": {"head-pooling": "cls"}, "options": {"lr": 2e-5}}]
    grid = {"head-pooling": ["cls", "mean"], "first-stage.supcon-views": [2]}
    for own, expected in (({}, "mean"), ({"first-stage.head-pooling": ["cls"]}, None)):
        one, other = found(grid={**grid, **own}, overrides=when)
        assert (one.get("lr"), other.get("lr")) == (2e-5, None)
        assert "first-stage.head-pooling" not in one
        assert other.get("first-stage.head-pooling") == expected


def test_numbers_without_a_point_are_numbers(tmp_path):
    text = "data: x\ngrid: {lr: [1e-5, 2e-5]}\n"
    assert [s["lr"] for s in settings(read_config(write(tmp_path, text)))] == [1e-5, 2e-5]


def test_grids_are_united_and_none_leaves_out(tmp_path):
    values = {
        "data": "x",
        "grid": [{"seed": [1, 2], "scl-lambda": [0]}, {"seed": [1], "scl-lambda": [0.9]}],
        "options": {"clip-norm": None},
    }
    found = settings(read_config(write(tmp_path, values)))
    assert found == [
        {"seed": 1, "scl-lambda": 0},
        {"seed": 2, "scl-lambda": 0},
        {"seed": 1, "scl-lambda": 0.9},
    ]


def test_changes_from_the_command_line(tmp_path):
    changes = ["grid.sample=[3]", "options.max-epoch=2", "name=other", "options.lr=3e-5"]
    config = read_config(write(tmp_path, GOOD), changes)
    assert config.name == "other"
    assert config.options["max-epoch"] == 2
    assert config.options["lr"] == 3e-5
    assert {s["sample"] for s in settings(config)} == {3}


def test_a_change_is_for_the_grids_that_have_the_key(tmp_path):
    grids = [{"seed": [1], "lr": [1e-3]}, {"seed": [2, 3]}]
    path = write(tmp_path, {"data": "x", "grid": grids})

    def changed(change):
        return [(s["seed"], s.get("lr")) for s in settings(read_config(path, [change]))]

    assert changed("grid.lr=[2e-3]") == [(1, 2e-3), (2, None), (3, None)]
    assert changed("grid.lr=[2e-3,3e-3]") == [(1, 2e-3), (1, 3e-3), (2, None), (3, None)]
    several = settings(read_config(path, ["grid.dropout=[0.1]"]))
    assert [(s["seed"], s["dropout"]) for s in several] == [(1, 0.1), (2, 0.1), (3, 0.1)]


def test_an_override_takes_lists_and_later_ones_win(tmp_path):
    values = copy.deepcopy(GOOD)
    values["overrides"] = [
        {"when": {"task": ["RTE", "SST-2"], "sample": 0}, "options": {"lr": 3e-5}},
        {"when": {"task": "RTE"}, "options": {"lr": 4e-5}},
    ]
    found = settings(read_config(write(tmp_path, values)))
    rates = {(s["task"], s["sample"]): s["lr"] for s in found}
    assert rates == {
        ("SST-2", 0): 3e-5,
        ("SST-2", 1): 1e-5,
        ("RTE", 0): 4e-5,
        ("RTE", 1): 4e-5,
    }


def changed(path, value):
    values = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    target = values
    for key in parents:
        target = target[key]
    target[last] = value
    return values


BAD = {
    "an unknown key": (changed("grids", {}), "grids: unknown key"),
    "no data": (changed("data", None), "data: is missing or empty"),
    "an empty grid": (changed("grid", {}), "grid: is missing or empty"),
    "an empty list": (changed("grid.sample", []), "grid.sample: the list of values is empty"),
    "no list": (changed("grid.sample", 3), "grid.sample: expected a list"),
    "a value twice": (changed("grid.sample", [0, 1, 0]), "grid.sample: 0 is listed twice"),
    "1 and 1.0": (changed("grid.scl-lambda", [1, 1.0]), "grid.scl-lambda: 1.0 is listed twice"),
    "a number as text": (changed("grid.lr2", [1e-5, "1e-5"]), "grid.lr2: 1e-05 is listed twice"),
    "lambda above 1": (changed("grid.scl-lambda", [2]), "grid.scl-lambda: expected a number"),
    "tau 0": (changed("options.scl-temperature", 0), "options.scl-temperature: expected"),
    "a label that YAML reads as false": (
        changed("options.f1-label", False),
        "options.f1-label: expected a label's name",
    ),
    "lambda as text": (changed("grid.scl-lambda", ["high"]), "grid.scl-lambda: expected a number"),
    "a list of options": (changed("options.lr", [1, 2]), "options.lr: expected one value"),
    "an option with --": (changed("options.--lr", 1), "options.--lr: no option's name"),
    "in both places": (changed("options.sample", 1), "options.sample: names the data"),
    "in grid and options": (
        changed("grid.lr", [1e-5]),
        "grid.lr: is also among options",
    ),
    "what the sweep decides": (changed("options.save-dir", "x"), "options.save-dir: cannot be set"),
    "another table": (changed("published", "glu"), "published: expected one of"),
    "another encoder": (changed("encoder", "roberta"), "encoder: expected embedded"),
    "a ratio of 1": (changed("warmup-ratio", 1), "warmup-ratio: expected"),
    "an override of nothing": (
        changed("overrides", [{"when": {"size": 3}, "options": {}}]),
        "overrides.0.when.size: is no key of the grid",
    ),
    "an override of the grid": (
        changed("overrides", [{"when": {"task": "RTE"}, "options": {"scl-lambda": 0.5}}]),
        "overrides.0.options.scl-lambda: is a key of the grid",
    ),
    "an override without when": (changed("overrides", [{"options": {}}]), "overrides.0: expected"),
    "not YAML": ("data: [", "not YAML"),
    "a key twice": ("data: a\ndata: b\ngrid: {seed: [1]}\n", "data"),
    "a list": ("- 1\n", "expected keys and values"),
    "a seed of text": (changed("grid.sample", ["0a"]), "grid.sample: expected an integer"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_configurations_are_refused_with_the_key(tmp_path, name):
    values, message = BAD[name]
    path = write(tmp_path, values)
    with pytest.raises(ValueError, match=r".") as caught:
        read_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_same_trial_in_two_grids_is_refused(tmp_path):
    grid = {"seed": [1, 2], "scl-lambda": [0.9]}
    values = {"data": "x", "grid": [grid, {"seed": [2], "scl-lambda": [0.9]}]}
    with pytest.raises(ValueError, match=r"grid: duplicate trial seed=2, scl-lambda=0.9"):
        settings(read_config(write(tmp_path, values)))


@pytest.mark.parametrize("change", ["x", "=3", "data.x=1", "options.lr=["])
def test_bad_changes_are_refused(tmp_path, change):
    with pytest.raises(ValueError, match="--set"):
        read_config(write(tmp_path, GOOD), [change])


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.yaml is not a file"):
        read_config(tmp_path / "none.yaml")
