"""What a trial is made of: its identity, its command, its schedule."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from scl_fairseq.experiments.sweep_config import read_config
from scl_fairseq.experiments.trial import Encoder
from scl_fairseq.experiments.trials import distinct_values, plan
from tests import runs

ABSENT = object()


@pytest.fixture(scope="module")
def data(tiny, tmp_path_factory):
    """Two samples of the tiny data, and a set of pairs."""
    folder = tmp_path_factory.mktemp("trials")
    for name in ("0", "1"):
        shutil.copytree(tiny.data, folder / "SST-2" / name)
    # Other bytes are other data.
    train = folder / "SST-2" / "1" / "input0" / "train.bin"
    runs.change_a_token(train)
    return folder


def trials(tmp_path, folder, tiny, **changes):
    values = {
        "data": f"{folder}/{{task}}/{{sample}}",
        "grid": {"task": ["SST-2"], "sample": [0, 1], "scl-lambda": [0, 0.9]},
        "options": {
            "finetune-from-model": str(tiny.encoder / "model.pt"),
            "scl-temperature": 0.3,
            "batch-size": 10,
            "max-epoch": 3,
        },
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    values["options"] = {k: v for k, v in values["options"].items() if v is not ABSENT}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return plan(read_config(path))


def option(trial, name):
    arguments = trial.arguments(Path("out"), on_cpu=True)
    return arguments[arguments.index(f"--{name}") + 1]


def test_the_id_does_not_depend_on_places(tmp_path, data, tiny):
    first = trials(tmp_path, data, tiny)
    shutil.copytree(data, tmp_path / "moved")
    shutil.copy(tiny.encoder / "model.pt", tmp_path / "copy.pt")
    moved = trials(
        tmp_path,
        tmp_path / "moved",
        tiny,
        options={"finetune-from-model": str(tmp_path / "copy.pt")},
    )
    assert [t.id for t in moved] == [t.id for t in first]
    assert len({t.id for t in first}) == 4


def test_the_id_depends_on_what_decides_the_result(tmp_path, data, tiny):
    first = {t.id for t in trials(tmp_path, data, tiny)}
    assert first.isdisjoint(t.id for t in trials(tmp_path, data, tiny, options={"lr": 1e-3}))
    # A number is one number however it is written.
    grid = {"scl-lambda": [0.0, 0.9]}
    assert first == {t.id for t in trials(tmp_path, data, tiny, grid=grid)}
    shutil.copytree(data, tmp_path / "changed")
    path = tmp_path / "changed" / "SST-2" / "0" / "input0" / "valid.bin"
    runs.change_a_token(path)
    changed = {t.id for t in trials(tmp_path, tmp_path / "changed", tiny)}
    assert len(first & changed) == 2  # those of sample 1


def test_warm_up_follows_from_the_data(tmp_path, data, tiny):
    changes = {"warmup-ratio": 0.1}
    (trial, *_) = trials(tmp_path, data, tiny, **changes)
    # 64 sentences in batches of 10 are 7 updates an epoch; 3 epochs; a tenth of 21.
    assert trial.data.num_examples["train"] == 64
    assert option(trial, "total-num-update") == "21"
    assert option(trial, "warmup-updates") == "2"
    assert option(trial, "lr-scheduler") == "polynomial_decay"
    (trial, *_) = trials(tmp_path, data, tiny, options={"update-freq": 2}, **changes)
    assert option(trial, "total-num-update") == "12"  # 4 an epoch


def test_the_command_has_what_fine_tuning_needs(tmp_path, data, tiny):
    (baseline, trial, *_) = trials(
        tmp_path, data, tiny, options={"fp16": False, "no-shuffle": True}
    )
    arguments = trial.arguments(Path("out"), on_cpu=True)
    assert option(trial, "num-classes") == "2"
    assert option(trial, "required-batch-size-multiple") == "1"
    assert option(trial, "arch") == "roberta"  # read from the checkpoint
    assert "--no-shuffle" in arguments
    assert "--fp16" not in arguments
    assert "--cpu" in arguments
    assert "--cpu" not in trial.arguments(Path("out"), on_cpu=False)
    assert "--no-last-checkpoints" in arguments
    assert "--no-last-checkpoints" not in trial.arguments(Path("out"), True, keeps_all=True)
    assert option(trial, "scl-temperature") == "0.3"
    assert "--scl-temperature" not in baseline.arguments(Path("out"), on_cpu=True)


def test_pairs_are_separated_as_their_encoding_wants(tmp_path, data, tiny):
    (trial, *_) = trials(tmp_path, data, tiny)
    for bpe, inputs, expected in (
        ("gpt2", 2, "2"),
        ("wordpiece", 2, None),
        ("gpt2", 1, None),
        (None, 2, None),
    ):
        of = dataclasses.replace(
            trial, data=dataclasses.replace(trial.data, bpe=bpe, num_inputs=inputs)
        )
        arguments = of.arguments(Path("out"), on_cpu=True)
        found = arguments[arguments.index("--separator-token") + 1] if expected else None
        assert found == expected
        assert ("--separator-token" in arguments) is (expected is not None)


STAGES = {
    "grid": {"system": ["one", "two"]},
    "warmup-ratio": 0.1,
    "options": {"lr": 1e-3, "validate-interval": 2},
    "overrides": [
        {"when": {"system": "one"}, "options": {"clip-norm": 0}},
        {
            "when": {"system": "two"},
            "options": {"lr": 1e-2},
            "first-stage": {"criterion": "sentence_prediction_scl", "max-epoch": 5},
        },
    ],
}


def test_a_first_stage_starts_from_the_encoder_and_the_trial_from_it(tmp_path, data, tiny):
    one, two, *_ = (
        t for t in trials(tmp_path, data, tiny, **STAGES) if t.setting["scl-lambda"] == 0
    )
    assert one.first_arguments(Path("out"), on_cpu=True) == []
    first = two.first_arguments(Path("out"), on_cpu=True)
    second = two.arguments(Path("out"), on_cpu=True)

    def told(arguments, name):
        return arguments[arguments.index(f"--{name}") + 1]

    encoder = str(tiny.encoder / "model.pt")
    assert told(first, "finetune-from-model") == option(one, "finetune-from-model") == encoder
    assert told(first, "save-dir") == "out/first-stage"
    assert told(second, "finetune-from-model") == "out/first-stage/checkpoint_last.pt"
    assert told(second, "save-dir") == "out"
    assert (told(first, "lr"), told(second, "lr")) == ("0.001", "0.01")
    # 7 updates an epoch; each stage has its own length and warm-up.
    lengths = [(told(a, "total-num-update"), told(a, "warmup-updates")) for a in (first, second)]
    assert lengths == [("35", "4"), ("21", "2")]
    # Written once, at the end, and never judged.
    assert told(first, "save-interval") == "5"
    assert "--disable-validation" in first
    assert "--validate-interval" not in first
    assert told(second, "validate-interval") == "2"
    assert "--disable-validation" not in second
    assert first[0] == second[0] == str(data / "SST-2" / "0")
    assert "--system" not in [*first, *second]
    assert (one.max_epoch, two.max_epoch) == (3, 8)


def test_the_id_depends_on_the_first_stage(tmp_path, data, tiny):
    def ids(**first):
        overrides = [STAGES["overrides"][0], {**STAGES["overrides"][1]}]
        overrides[1]["first-stage"] = {**overrides[1]["first-stage"], **first}
        found = trials(tmp_path, data, tiny, **{**STAGES, "overrides": overrides})
        return {t.setting["system"]: t.id for t in found}

    same, other = ids(), ids(dropout=0.2)
    assert same["one"] == other["one"]
    assert same["two"] != other["two"]


def test_a_first_stage_that_would_not_end_is_refused(tmp_path, data, tiny):
    overrides = [STAGES["overrides"][0], {**STAGES["overrides"][1]}]
    overrides[1] |= {"options": {"max-epoch": 3}, "first-stage": {"lr": 1e-3}}
    changes = {**STAGES, "warmup-ratio": None, "overrides": overrides}
    changes["options"] = {"max-epoch": ABSENT}
    overrides[0] = {"when": {"system": "one"}, "options": {"max-epoch": 3}}
    with pytest.raises(ValueError, match=r"first-stage: none of max-epoch, max-update"):
        trials(tmp_path, data, tiny, **changes)


def test_few_trials_show_every_value(tmp_path, data, tiny):
    all_trials = trials(tmp_path, data, tiny, grid={"seed": [1, 2, 3]})
    few = distinct_values(all_trials)
    assert len(few) < len(all_trials)
    shown = {(k, v) for t in few for k, v in t.options.items()}
    assert shown == {(k, v) for t in all_trials for k, v in t.options.items()}
    # Two that differ in their first stages alone are two, and both are shown.
    two = STAGES["overrides"][1]
    first = {**two["first-stage"], "dropout": 0.2}
    other = {**two, "when": {"system": "one"}, "first-stage": first}
    staged = {**STAGES, "overrides": [other, two]}
    shown = distinct_values(trials(tmp_path, data, tiny, **staged))
    assert {t.first.get("dropout") for t in shown} == {None, 0.2}


def test_pairs_of_an_unknown_encoding_need_a_word(tmp_path, tiny):
    folder = tmp_path / "pairs"
    shutil.copytree(tiny.data, folder / "RTE" / "0")
    shutil.copytree(folder / "RTE" / "0" / "input0", folder / "RTE" / "0" / "input1")
    (folder / "RTE" / "0" / "preprocess.json").unlink()
    grid = {"task": ["RTE"], "sample": [0], "scl-lambda": [0.9]}
    with pytest.raises(ValueError, match=r"options.separator-token: .* holds pairs"):
        trials(tmp_path, folder, tiny, grid=grid)
    (trial,) = trials(tmp_path, folder, tiny, grid=grid, options={"separator-token": 2})
    assert option(trial, "separator-token") == "2"
    (trial,) = trials(tmp_path, folder, tiny, grid=grid, options={"separator-token": None})
    assert "--separator-token" not in trial.arguments(Path("out"), on_cpu=True)


def test_a_file_that_is_no_checkpoint(tmp_path, data, tiny):
    (tmp_path / "model.pt").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"model.pt: no checkpoint to read"):
        trials(tmp_path, data, tiny, options={"finetune-from-model": str(tmp_path / "model.pt")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "nowhere/{task}/{sample}"}, "data: nowhere/SST-2/0 is no folder"),
        ({"data": "x{"}, "data: "),
        ({"options": {"finetune-from-model": None}}, "options.finetune-from-model: is missing"),
        ({"encoder": "embedded"}, "options.finetune-from-model: encoder is given as well"),
        (
            {"warmup-ratio": 0.1, "options": {"patience": 3, "max-epoch": ABSENT}},
            "warmup-ratio: needs options.max-epoch",
        ),
        ({"warmup-ratio": 0.1, "options": {"max-tokens": 9}}, "options.max-tokens: warmup-ratio"),
        ({"data": "{task.x}"}, "data: {task.x}: "),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, data, tiny, changes, message):
    with pytest.raises(ValueError, match=r".") as caught:
        trials(tmp_path, data, tiny, **changes)
    assert message in str(caught.value)


def test_an_embedded_encoder_stands_for_the_option(tmp_path, data, tiny):
    path = tmp_path / "sweep.yaml"
    path.write_text(
        f"data: {data}/SST-2/{{sample}}\nencoder: embedded\ngrid: {{sample: [0]}}\n"
        "options: {max-epoch: 1, batch-size: 8}\n"
    )
    encoder = Encoder("model.pt", "abc", ("--arch", "roberta_base"))
    (trial,) = plan(read_config(path), encoder)
    assert option(trial, "finetune-from-model") == "model.pt"
    assert option(trial, "arch") == "roberta_base"
