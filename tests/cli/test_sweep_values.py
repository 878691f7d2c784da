"""Configurations of a sweep with a value that cannot be: one line names file, key and value."""

import pytest
import yaml

from scl_fairseq.cli import sweep


def write(folder, tiny, **options):
    values = {
        "data": str(tiny.data),
        "grid": {"scl-lambda": [0.9]},
        "options": {
            "finetune-from-model": str(tiny.encoder / "model.pt"),
            **{"batch-size": 16, "lr": 1e-3, "seed": 3, "max-epoch": 1, "lr-scheduler": "fixed"},
            **options,
        },
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


# What a configuration may hold in place of a good value, and what is said of it.
BAD = {
    "a bad number": ({"lr": "1e-4x"}, "options.lr: 1e-4x: fairseq cannot read it"),
    "a date": ({"lr": "2020-01-01"}, "options.lr: 2020-01-01: fairseq cannot read it"),
    "a word": ({"lr": "abc"}, "options.lr: abc: argument --lr"),
    "nothing": ({"lr": None}, "options.lr: expected a number greater than 0, got None"),
    "a boolean": ({"lr": True}, "options.lr: expected a number greater than 0, got True"),
    "a negative number": ({"lr": -1e-4}, "options.lr: expected a number greater than 0"),
    "not a number": ({"lr": float("nan")}, "options.lr: expected a finite number, got nan"),
    "infinity": ({"weight-decay": float("inf")}, "options.weight-decay: expected a finite"),
    "a list": ({"lr": [1e-4]}, "options.lr: expected one value"),
    "bytes": ({"dropout": b"x"}, "options.dropout: expected a number, text, true or false"),
    "a share above 1": ({"dropout": 1.5}, "options.dropout: expected a number from 0 to below 1"),
    "a rate of 0": (
        {"optimizer": "fused_adamw", "head-lr-scale": 0},
        "options.head-lr-scale: expected a number greater than 0, got 0",
    ),
    "a decay that grows": (
        {"optimizer": "fused_adamw", "layer-lr-decay": 1.5},
        "options.layer-lr-decay: expected a number above 0 and at most 1, got 1.5",
    ),
    "another optimizer's": (
        {"optimizer": "adam", "layer-lr-decay": 0.9},
        "options.layer-lr-decay: 0.9: unrecognized arguments",
    ),
    "no integer": ({"max-positions": 3.5}, "options.max-positions: 3.5: argument --max-positions"),
    "no pair": ({"adam-betas": "0.9"}, "options.adam-betas: expected two numbers below 1"),
    "switched off": ({"clip-norm": False}, "options.clip-norm: False: it takes a value"),
    "switched on": ({"clip-norm": True}, "options.clip-norm: True: argument --clip-norm: expected"),
    "a flag with a value": ({"scl-packed": 2}, "options.scl-packed: 2: unrecognized arguments: 2"),
    "no choice": ({"optimizer": "adamw"}, "options.optimizer: adamw: argument --optimizer"),
    "no architecture": ({"arch": "roberta_lagre"}, "options.arch: roberta_lagre: argument --arch"),
    "no option": ({"learning-rate": 1}, "options.learning-rate: 1: unrecognized arguments"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_one_line(name, tiny, tmp_path, capsys):
    changes, message = BAD[name]
    path, out = write(tmp_path, tiny, **changes), tmp_path / "out"
    assert sweep.main([str(path), "--out", str(out), "--cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: {message}" in line
    assert not out.exists()


def test_the_bad_one_of_several_places_is_named(tiny, tmp_path, capsys):
    values = yaml.safe_load(write(tmp_path, tiny).read_text())
    good = values["options"].pop("lr")
    for grid, options, overrides, where in (
        ({"lr": [good, "1x"]}, {}, [], "grid.lr: 1x"),
        ({}, {"lr": good}, [{"lr": "2x"}], "overrides.0.options.lr: 2x"),
    ):
        config = {
            **values,
            "grid": {**values["grid"], **grid},
            "options": {**values["options"], **options},
            "overrides": [{"when": {"scl-lambda": 0.9}, "options": one} for one in overrides],
        }
        path = tmp_path / "several.yaml"
        path.write_text(yaml.safe_dump(config), "utf-8")
        assert sweep.main([str(path), "--out", str(tmp_path / "out"), "--cpu"]) == 2
        assert f"{path}: {where}: " in capsys.readouterr().err
    twice = tmp_path / "twice.yaml"
    twice.write_text(path.read_text() + "data: again\n", "utf-8")
    assert sweep.main([str(twice), "--out", str(tmp_path / "out"), "--cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "duplicate key data" in line
    assert not (tmp_path / "out").exists()
