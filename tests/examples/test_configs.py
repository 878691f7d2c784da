"""The sweeps and hydra configurations say what the recipes beside them say."""

import json
import math

import pytest
from omegaconf import OmegaConf

from scl_fairseq.experiments import sweep_config, trials
from scl_fairseq.experiments.settings import settings as settings_of
from tests import runs
from tests.examples.conftest import EXAMPLES, parse_training
from tests.examples.test_recipes import GLUE, PAIRS, glue_recipe, training

TASK_OF = {task.lower().replace("-", ""): task for task in GLUE}
CONFIGS = sorted(EXAMPLES.glob("*/config/*.yaml"))
# What places files, logs, and loads data, and does not change what is learned.
OF_NO_MATTER = {
    "save_dir", "user_dir", "log_format", "log_interval", "num_workers", "find_unused_parameters",
    "no_last_checkpoints", "no_save_optimizer_state",
}  # fmt: skip


def read_sweep(name, *changes):
    return sweep_config.read_config(EXAMPLES / name / "sweep.yaml", changes)


@pytest.mark.parametrize(
    ("name", "published", "count"),
    [
        ("few_shot", "few-shot", 3 * 3 * 10 * (1 + 6 * 4)),
        ("batch_size", "batch-size", 3 * 3 * 2),
        ("glue", "glue", 6 * 2 * 10),
        ("noise", "noise", 3 * 5 * 10 * (1 + 6 * 4)),
        ("transfer", "transfer", 2 * 10 * 2),
        ("systems", "few-shot", 3 * 10 * 4),
        ("supcon", "few-shot", 3 * 10 * (1 + 2 * 2)),
        ("moco", "few-shot", 3 * 10 * (2 + 2 * 2)),
    ],
)
def test_sweeps_have_the_trials_of_their_table(name, published, count):
    config = read_sweep(name)
    assert config.published == published
    assert len(settings_of(config)) == count


@pytest.mark.parametrize(("name", "count"), [("few_shot", 21), ("batch_size", 8), ("systems", 40)])
def test_sweeps_of_the_embedded_encoder(name, count):
    path = EXAMPLES / "embedded" / f"{name}.yaml"
    config = sweep_config.read_config(path)
    assert config.encoder == "embedded"
    assert len(settings_of(config)) == count
    assert f"= {count} trials" in path.read_text(encoding="utf-8")


def test_the_few_shot_grid_is_the_papers():
    settings = settings_of(read_sweep("few_shot"))
    assert len(settings) == 2250
    assert {s["scl-lambda"] for s in settings} == {0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0}
    assert {s.get("scl-temperature") for s in settings} == {None, 0.1, 0.3, 0.5, 0.7}
    assert {s["N"] for s in settings} == {20, 100, 1000}
    assert {s["task"] for s in settings} == {"SST-2", "QNLI", "MNLI"}
    assert {s["sample"] for s in settings} == set(range(10))
    assert {(s["batch-size"], s["lr"]) for s in settings} == {(16, 1e-5)}


def planned(tmp_path, name, data, *changes):
    """The one trial of a sweep with these changes, on this data."""
    checkpoint = tmp_path / "model.pt"
    checkpoint.touch()
    changes = [*changes, f"options.finetune-from-model={checkpoint}", f"data={data}"]
    (trial,) = trials.plan(read_sweep(name, *changes))
    return trial


def one_trial(tmp_path, name, data, **grid):
    """The trial of a sweep's CE+SCL at these values, on this data, as fairseq understands it."""
    changes = [f"grid.{key.replace('_', '-')}=[{value}]" for key, value in grid.items()]
    return parsed_trial(planned(tmp_path, name, data, *changes), tmp_path)


def parsed_trial(trial, folder):
    return parse_training(["fairseq-train", *trial.arguments(folder, on_cpu=False)])


def assert_same(one, other):
    # Numbers given as text, such as the updates, are compared as numbers.
    def values(parsed):
        found = {key: value for key, value in vars(parsed).items() if key not in OF_NO_MATTER}
        return {**found, "total_num_update": float(found["total_num_update"])}

    assert values(one) == values(other)


@pytest.mark.parametrize("task", GLUE)
def test_the_glue_sweep_trains_as_its_recipes(recipe, gpt2_data, tmp_path, task):
    data = gpt2_data / f"{task}-bin"
    trial = one_trial(tmp_path, "glue", data, task=task, scl_lambda=0.9, seed=1)
    assert_same(trial, training(recipe(glue_recipe(task), DATA=data)))


@pytest.mark.parametrize("size", [20, 100, 1000])
@pytest.mark.parametrize("task", ["SST-2", "QNLI", "MNLI"])
def test_the_few_shot_sweep_trains_as_its_recipe(recipe, gpt2_data, tmp_path, task, size):
    data = gpt2_data / f"{task}-bin"
    grid = {"task": task, "N": size, "sample": 0, "scl_lambda": 0.9, "scl_temperature": 0.3}
    trial = one_trial(tmp_path, "few_shot", data, **grid)
    assert_same(trial, training(recipe("few_shot/train.sh", DATA=data, TASK=task, N=size)))


def test_the_noise_sweep_is_the_few_shot_table_with_equal_updates(gpt2_data, tmp_path):
    data = gpt2_data / "QNLI-bin"
    grid = {"task": "QNLI", "N": 100, "sample": 0, "scl_lambda": 0.9, "scl_temperature": 0.3}
    few_shot = one_trial(tmp_path, "few_shot", data, **grid)
    assert_same(one_trial(tmp_path, "noise", data, noise=0, **grid), few_shot)
    noisy = one_trial(tmp_path, "noise", data, noise=0.9, **grid)
    for rows, epochs in ((100, few_shot.max_epoch), (400, noisy.max_epoch)):
        assert epochs * math.ceil(rows / 16) == 350
    for key in ("max_epoch", "total_num_update", "warmup_updates"):
        setattr(noisy, key, getattr(few_shot, key))
    assert_same(noisy, few_shot)


def test_transfer_starts_from_the_model_of_its_loss():
    found = {
        (setting["scl-lambda"], setting["finetune-from-model"])
        for setting in settings_of(read_sweep("transfer"))
    }
    place = "outputs/transfer/sst2-lambda{}/checkpoint_best.pt"
    assert found == {(0, place.format("0")), (0.9, place.format("0.9"))}


def of_system(tmp_path, name, data, system, **more):
    """A sweep's trial of a system on QNLI; ``more`` are keys of its grid."""
    grid = {"task": ["QNLI"], "N": [100], "sample": [0], "system": [system]}
    grid |= {key: [value] for key, value in more.items()}
    return planned(tmp_path, name, data, f"grid={json.dumps(grid)}")


@pytest.mark.parametrize(("name", "views", "tau"), [("supcon", 4, 0.1), ("systems", 2, 0.3)])
def test_supcon_trains_as_its_recipe(recipe, gpt2_data, tmp_path, name, views, tau):
    data = gpt2_data / "QNLI-bin"
    done = recipe("supcon/train.sh", DATA=data, TASK="QNLI", VIEWS=views, TAU=tau)
    assert (done.code, done.errors) == (0, "")
    first, second = (parse_training(call) for call in done.calls if call[0] == "fairseq-train")
    more = {"first-stage.scl-temperature": tau, "first-stage.supcon-views": views}
    trial = of_system(tmp_path, name, data, "SupCon", **(more if name == "supcon" else {}))
    assert_same(parse_training(["fairseq-train", *trial.first_arguments(tmp_path, False)]), first)
    assert (first.criterion, first.supcon_views, first.disable_validation) == (
        "supcon",
        views,
        True,
    )
    expected = parsed_trial(trial, tmp_path)
    for one in (expected, second):
        start = one.finetune_from_model.removeprefix(one.save_dir)
        assert start == "/first-stage/checkpoint_last.pt"
        one.finetune_from_model = start
    assert_same(expected, second)
    assert second.freeze_encoder


@pytest.mark.parametrize(("queue", "momentum"), [(16, 0), (64, 0.99)])
def test_the_moco_sweep_trains_as_its_recipe(recipe, gpt2_data, tmp_path, queue, momentum):
    data = gpt2_data / "QNLI-bin"
    variables = {"DATA": data, "TASK": "QNLI", "QUEUE": queue, "MOMENTUM": momentum}
    done = recipe("moco/train.sh", **variables)
    system = "SCL + momentum queue" if momentum else "SCL + queue"
    trial = of_system(tmp_path, "moco", data, system, **{"scl-queue-size": queue})
    assert_same(parsed_trial(trial, tmp_path), training(done))
    assert "contrast set: 4 examples" in done.output
    assert f"queue: {queue} keys of earlier batches beside them, momentum {momentum}" in done.output


def test_the_other_systems_train_as_their_recipes(recipe, gpt2_data, tmp_path):
    def trial(system):
        return parsed_trial(of_system(tmp_path, "systems", data, system), tmp_path)

    data = gpt2_data / "QNLI-bin"
    variables = {"DATA": data, "TASK": "QNLI", "N": 100}
    assert_same(trial("CE+SCL"), training(recipe("few_shot/train.sh", **variables)))
    queue = training(recipe("moco/train.sh", BATCH=16, **variables))
    assert_same(trial("SCL + queue"), queue)
    assert (queue.scl_queue_size, queue.scl_momentum) == (64, 0)
    baseline = trial("CE")
    assert baseline.scl_lambda == 0
    baseline.scl_lambda = 0.9
    assert_same(baseline, trial("CE+SCL"))


@pytest.mark.parametrize("batch", [16, 64, 256])
def test_the_batch_size_sweep_trains_as_its_recipe(recipe, gpt2_data, tmp_path, batch):
    data = gpt2_data / "CoLA-bin"
    grid = {"task": "CoLA", "batch_size": batch, "scl_lambda": 0.9}
    trial = one_trial(tmp_path, "batch_size", data, **grid)
    assert_same(trial, training(recipe("batch_size/train.sh", DATA=data, TASK="CoLA", BATCH=batch)))


def test_every_folder_of_the_plan_has_its_parts():
    folders = ("glue", "few_shot", "batch_size", "noise", "transfer", "tsne")
    for name in (*folders, "systems", "supcon", "moco"):
        assert (EXAMPLES / name / "README.md").exists()
        assert list((EXAMPLES / name).glob("*.sh"))
    assert [path.stem for path in CONFIGS if path.parts[-3] == "glue"] == sorted(TASK_OF)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(EXAMPLES).as_posix())
def test_hydra_configurations_say_what_the_recipes_say(recipe, gpt2_data, path):
    family, task = path.parts[-3], TASK_OF[path.stem]
    file = glue_recipe(task) if family == "glue" else f"{family}/train.sh"
    parsed = training(recipe(file, DATA=gpt2_data / f"{task}-bin", TASK=task))
    config = OmegaConf.to_container(OmegaConf.load(path))  # plain, as some values are still ???
    # Both keys must be there: fairseq's task reads them from the criterion.
    criterion = config["criterion"]
    assert criterion["_name"] == parsed.criterion
    assert criterion["classification_head_name"] == parsed.classification_head_name
    assert criterion["regression_target"] is parsed.regression_target is False
    assert config["model"]["_name"] == parsed.arch
    assert config["task"].get("separator_token") == (2 if task in PAIRS else None)
    parts = ("common", "task", "checkpoint", "distributed_training", "dataset", "criterion")
    parts += ("optimizer", "lr_scheduler", "optimization", "model")
    given = {key: value for part in parts for key, value in config[part].items() if key != "_name"}
    # hydra has them as the length of training, fairseq-train as the length of the schedule
    updates = given.pop("max_update")
    assert given["warmup_updates"] == pytest.approx(0.06 * updates, rel=0.01)
    if family == "glue":
        assert updates == float(parsed.total_num_update)
        assert given["warmup_updates"] == parsed.warmup_updates
    for key in ("warmup_updates", "user_dir", "data", "finetune_from_model", "log_format"):
        given.pop(key)
    if family != "glue":
        given.pop("find_unused_parameters")
    assert given == {key: getattr(parsed, key) for key in given}


@pytest.mark.parametrize(
    ("name", "rows", "batch", "epochs"),
    # Rows of the official training sets less those that become the validation set.
    [
        ("few_shot/config/sst2", 20, 16, 100),
        ("few_shot/config/qnli", 20, 16, 100),
        ("few_shot/config/mnli", 20, 16, 100),
        ("batch_size/config/sst2", 67349 - 872, 16, 10),
        ("batch_size/config/cola", 8551 - 1043, 16, 10),
        ("batch_size/config/qnli", 104743 - 5463, 16, 10),
    ],
)
def test_hydra_configurations_have_the_updates_of_their_data(name, rows, batch, epochs):
    config = OmegaConf.load(EXAMPLES / f"{name}.yaml")
    updates = epochs * math.ceil(rows / batch)
    assert config.optimization.max_update == updates
    assert config.lr_scheduler.warmup_updates == round(0.06 * updates)
    assert (config.dataset.batch_size, config.optimization.max_epoch) == (batch, epochs)


def test_hydra_train_gives_absolute_paths(recipe, gpt2_data, tmp_path):
    config = EXAMPLES / "glue" / "config" / "rte.yaml"
    changes = ["criterion.scl_lambda=0"]
    done = recipe("hydra_train.sh", config, *changes, DATA=gpt2_data / "RTE-bin", SAVE_DIR="here")
    assert (done.code, done.errors) == (0, "")
    ((name, *arguments),) = done.calls
    assert name == "fairseq-hydra-train"
    assert arguments == [
        "--config-dir", str(config.parent), "--config-name", "rte",
        f"hydra.run.dir={tmp_path}/here", f"common.user_dir={runs.ROOT}/scl_fairseq",
        f"task.data={gpt2_data}/RTE-bin", f"checkpoint.finetune_from_model={tmp_path}/model.pt",
        *changes,
    ]  # fmt: skip
    assert recipe("hydra_train.sh", "no.yaml").code == 2


def test_a_hydra_configuration_trains(tiny, tmp_path):
    command = [runs.FAIRSEQ_TRAIN.replace("fairseq-train", "fairseq-hydra-train")]
    command += ["--config-dir", str(EXAMPLES / "few_shot" / "config"), "--config-name", "sst2"]
    command += [f"common.user_dir={runs.ROOT}/scl_fairseq", f"task.data={tiny.data}"]
    command += [f"checkpoint.finetune_from_model={tiny.encoder}/model.pt", "common.cpu=true"]
    command += ["common.fp16=false", "optimization.max_update=2", "dataset.data_buffer_size=0"]
    sizes = dict(zip(tiny.flags[::2], tiny.flags[1::2], strict=True))
    command += [f"task.max_positions={sizes.pop('--max-positions')}"]
    del sizes["--arch"]
    command += [f"+model.{key[2:].replace('-', '_')}={value}" for key, value in sizes.items()]
    output = runs.train(command, cwd=tmp_path).stdout
    log = output + "".join(path.read_text() for path in tmp_path.rglob("hydra_train.log"))
    assert "done training" in log
    assert "train_scl_loss" in log
