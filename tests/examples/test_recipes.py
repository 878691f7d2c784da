"""What the recipes call: fairseq accepts their lines, and the numbers are those of the table."""

import shlex

import pytest

from tests.examples.conftest import EXAMPLES, parse_training

# fairseq's own configurations for GLUE: classes, batch, updates, warm-up, lr.
GLUE = {
    "SST-2": (2, 32, 20935, 1256, 1e-5),
    "QNLI": (2, 32, 33112, 1986, 1e-5),
    "MNLI": (3, 32, 123873, 7432, 1e-5),
    "CoLA": (2, 16, 5336, 320, 1e-5),
    "MRPC": (2, 16, 2296, 137, 1e-5),
    "RTE": (2, 16, 2036, 122, 2e-5),
}
PAIRS = {"MRPC", "RTE", "QNLI", "MNLI"}
SHELL = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("*/*.sh"))


def glue_recipe(task):
    return f"glue/{task.lower().replace('-', '')}.sh"


def training(done):
    """The one training among the calls, parsed by fairseq."""
    assert done.code == 0, done.errors
    (arguments,) = (call for call in done.calls if call[0] == "fairseq-train")
    return parse_training(arguments)


def assert_protocol(parsed, task, weight_decay=0.1):
    """What is the same for all experiments."""
    assert parsed.criterion == "sentence_prediction_scl"
    assert parsed.task == "sentence_prediction"
    assert parsed.num_classes == (3 if task == "MNLI" else 2)
    assert (parsed.init_token, parsed.separator_token) == (0, 2 if task in PAIRS else None)
    assert parsed.required_batch_size_multiple == 1
    assert parsed.fp16
    assert not parsed.cpu
    fp16 = (parsed.fp16_init_scale, parsed.threshold_loss_scale, parsed.fp16_scale_window)
    assert fp16 == (4, 1, 128)
    assert (parsed.optimizer, parsed.adam_eps, parsed.weight_decay) == ("adam", 1e-6, weight_decay)
    assert eval(parsed.adam_betas) == (0.9, 0.98)
    assert parsed.lr_scheduler == "polynomial_decay"
    assert (parsed.dropout, parsed.attention_dropout, parsed.clip_norm) == (0.1, 0.1, 0)
    assert parsed.best_checkpoint_metric == "accuracy"
    assert parsed.maximize_best_checkpoint_metric
    assert parsed.no_epoch_checkpoints
    assert parsed.max_positions == 512


@pytest.mark.parametrize("task", GLUE)
def test_glue(recipe, gpt2_data, task):
    classes, batch, updates, warmup, lr = GLUE[task]
    done = recipe(glue_recipe(task), DATA=gpt2_data / f"{task}-bin")
    parsed = training(done)
    assert_protocol(parsed, task)
    assert parsed.arch == "roberta_large"
    assert parsed.num_classes == classes
    assert (parsed.lr, float(parsed.total_num_update)) == ([lr], updates)
    assert (parsed.warmup_updates, parsed.max_epoch) == (warmup, 10)
    assert (parsed.distributed_world_size, parsed.batch_size) == (1, 16)
    assert parsed.batch_size * parsed.update_freq[0] == batch
    assert parsed.find_unused_parameters
    assert (parsed.scl_lambda, parsed.scl_temperature, parsed.seed) == (0.9, 0.3, 1)
    said = (
        f"(batch 16 per GPU, all GPUs together; GPUS=1 and --update-freq {batch // 16} make a "
        f"total batch of {batch})"
    )
    assert f"contrast set: 16 examples {said}" in done.output


def test_the_line_is_printed_as_it_runs(recipe, gpt2_data):
    done = recipe("glue/rte.sh", DATA=gpt2_data / "RTE-bin")
    printed = [line[2:] for line in done.output.splitlines() if line.startswith("+ ")]
    assert [shlex.split(line) for line in printed] == done.calls
    assert [call[0] for call in done.calls] == ["fairseq-train", "fairseq-validate"]


def test_the_best_epoch_is_tried_on_the_test_set(recipe, gpt2_data):
    from fairseq import options

    done = recipe("glue/mnli.sh", DATA=gpt2_data / "MNLI-bin", SAVE_DIR="here")
    _, call = done.calls
    parsed = options.parse_args_and_arch(options.get_validation_parser(), call[1:])
    assert parsed.path == "here/checkpoint_best.pt"
    assert parsed.valid_subset == "test"
    assert parsed.criterion == "sentence_prediction_scl"
    assert (parsed.num_classes, parsed.separator_token) == (3, 2)
    assert parsed.required_batch_size_multiple == 1


def test_the_environment_is_obeyed(recipe, gpt2_data):
    variables = {"LAMBDA": 0, "TAU": 0.7, "SEED": 9, "SAVE_DIR": "my runs", "GPUS": 2}
    done = recipe("glue/sst2.sh", "--max-epoch", 3, DATA=gpt2_data / "SST-2-bin", **variables)
    parsed = training(done)
    assert (parsed.scl_lambda, parsed.scl_temperature, parsed.seed) == (0, 0.7, 9)
    assert (parsed.save_dir, parsed.max_epoch) == ("my runs", 3)
    # Two GPUs share the total batch, and both halves are contrasted with each other.
    assert (parsed.distributed_world_size, parsed.update_freq, parsed.batch_size) == (2, [1], 16)
    assert "contrast set: 32 examples" in done.output
    larger = recipe("glue/sst2.sh", DATA=gpt2_data / "SST-2-bin", BATCH=32)
    assert training(larger).update_freq == [1]
    assert "contrast set: 32 examples" in larger.output


def test_runs_that_differ_are_not_saved_in_one_folder(recipe, gpt2_data):
    def folder(file="glue/rte.sh", task="RTE", **variables):
        return training(recipe(file, DATA=gpt2_data / f"{task}-bin", **variables)).save_dir

    workers = [{"BATCH": 8}, {"GPUS": 2, "BATCH": 8}]
    changes = [{}, {"LAMBDA": 0}, {"TAU": 0.1}, {"SEED": 2}, *workers, {"OUT": "elsewhere"}]
    folders = [folder(**change) for change in changes]
    assert len(set(folders)) == len(changes)
    assert folders[-1].startswith("elsewhere/")
    assert all(name.startswith("outputs/") for name in folders[:-1])


@pytest.mark.parametrize(
    ("size", "epochs", "updates", "interval"),
    [(20, 100, 400, 5), (100, 50, 200, 1), (1000, 10, 40, 1)],
)
def test_few_shot(recipe, gpt2_data, size, epochs, updates, interval):
    # The stand-in for a sample has 64 training examples: 4 updates an epoch.
    data = gpt2_data / "MNLI-bin"
    parsed = training(recipe("few_shot/train.sh", DATA=data, TASK="MNLI", N=size))
    assert_protocol(parsed, "MNLI")
    assert parsed.arch == "roberta_large"
    assert (parsed.batch_size, parsed.update_freq, parsed.lr) == (16, [1], [1e-5])
    assert (parsed.max_epoch, float(parsed.total_num_update)) == (epochs, updates)
    assert parsed.warmup_updates == pytest.approx(0.06 * updates, abs=0.5)
    assert (parsed.validate_interval, parsed.save_interval) == (interval, interval)
    assert parsed.no_last_checkpoints


@pytest.mark.parametrize(("batch", "updates"), [(16, 40), (64, 10), (256, 10)])
def test_batch_size(recipe, gpt2_data, batch, updates):
    data = gpt2_data / "QNLI-bin"
    done = recipe("batch_size/train.sh", DATA=data, TASK="QNLI", BATCH=batch)
    parsed = training(done)
    assert_protocol(parsed, "QNLI")
    assert parsed.arch == "roberta_base"
    assert (parsed.batch_size, parsed.update_freq, parsed.lr) == (batch, [1], [1e-5])
    assert parsed.distributed_world_size == 1
    assert (parsed.max_epoch, float(parsed.total_num_update)) == (10, updates)
    assert f"contrast set: {batch} examples" in done.output


def test_supcon(recipe, gpt2_data):
    # The stand-in for a sample has 64 training examples: 4 updates an epoch.
    data = gpt2_data / "MNLI-bin"
    done = recipe("supcon/train.sh", DATA=data, TASK="MNLI", N=100, SAVE_DIR="here", VIEWS=4)
    assert (done.code, done.errors) == (0, "")
    assert [call[0] for call in done.calls] == ["fairseq-train"] * 2 + ["fairseq-validate"]
    first, second = (parse_training(call) for call in done.calls[:2])
    assert_protocol(second, "MNLI", weight_decay=0)
    assert (first.criterion, first.supcon_views, first.scl_temperature) == ("supcon", 4, 0.3)
    assert (first.lr, first.weight_decay, second.lr) == ([1e-5], 0.1, [1e-2])
    assert first.disable_validation
    assert first.fp16
    assert first.save_interval == first.max_epoch == 50
    assert float(first.total_num_update) == float(second.total_num_update) == 200
    assert (first.save_dir, second.save_dir) == ("here/first-stage", "here")
    assert second.finetune_from_model == "here/first-stage/checkpoint_last.pt"
    assert (second.scl_lambda, second.freeze_encoder) == (0, True)
    assert second.pooler_activation_fn == "linear"
    assert "views: 4 of each sentence, so 64 rows in a batch of 16" in done.output


def test_moco(recipe, gpt2_data):
    data = gpt2_data / "MNLI-bin"
    variables = {"QUEUE": 16, "MOMENTUM": 0.9, "LAMBDA": 0.5}
    parsed = training(recipe("moco/train.sh", DATA=data, TASK="MNLI", **variables))
    assert_protocol(parsed, "MNLI")
    assert (parsed.scl_queue_size, parsed.scl_momentum, parsed.scl_lambda) == (16, 0.9, 0.5)
    assert (parsed.batch_size, parsed.update_freq) == (4, [4])
    assert (parsed.max_epoch, float(parsed.total_num_update)) == (50, 200)


def refusal(done):
    assert done.code == 2
    assert not done.calls
    (line,) = done.errors.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("file", "task", "size"),
    [(glue_recipe(task), task, "large") for task in GLUE]
    + [("few_shot/train.sh", "SST-2", "large"), ("batch_size/train.sh", "CoLA", "base")]
    + [("supcon/train.sh", "SST-2", "large"), ("moco/train.sh", "SST-2", "large")],
)
def test_what_is_missing_is_told_with_what_makes_it(recipe, gpt2_data, file, task, size):
    line = refusal(recipe(file, ROBERTA="no/model.pt", DATA=gpt2_data / f"{task}-bin", TASK=task))
    assert "no/model.pt is missing" in line
    assert f"scripts/download_roberta.sh --model {size} ." in line
    line = refusal(recipe(file, TASK=task))
    if file.split("/")[0] in ("few_shot", "supcon", "moco"):
        size = 20 if file.startswith("few_shot") else 100
        assert f"outputs/few-shot/data/SST-2/{size}/bin/sample0 holds no binarised data" in line
        script = "scripts/preprocess_few_shot.sh glue gpt2_bpe "
        assert f"TASKS=SST-2 NUM_EXAMPLES={size} {script}" in line
        assert line.endswith("outputs/few-shot/data")
    else:
        assert f"outputs/data/{task}-bin holds no binarised data" in line
        assert f"scl-preprocess --task {task} --data-dir glue/{task} --bpe gpt2" in line
        assert line.endswith(f"--split paper --destdir outputs/data/{task}-bin")


def test_the_command_that_makes_missing_data_is_accepted(recipe):
    from scl_fairseq.cli import preprocess

    line = refusal(recipe("glue/rte.sh"))
    command = shlex.split(line.partition("make it with: ")[2])
    assert command[0] == "scl-preprocess"
    assert preprocess._parser().parse_args(command[1:]).split == "paper"


def test_data_without_a_labelled_test_set_is_refused(recipe, gpt2_data, tmp_path):
    label = tmp_path / "data" / "label"
    label.mkdir(parents=True)
    (label / "train.idx").touch()
    assert "no test set with labels" in refusal(recipe("glue/rte.sh", DATA=tmp_path / "data"))


def test_data_of_unknown_size_is_refused(recipe, tmp_path):
    label = tmp_path / "data" / "label"
    label.mkdir(parents=True)
    for split in ("train", "test"):
        (label / f"{split}.idx").touch()
    line = refusal(recipe("batch_size/train.sh", DATA=tmp_path / "data"))
    assert "data/preprocess.json, which says how many examples there are, is missing" in line


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"GPUS": 3}, "GPUS=3 with BATCH=16 cannot make a total batch of 32"),
        ({"BATCH": 24}, "GPUS=1 with BATCH=24 cannot make a total batch of 32"),
        ({"GPUS": 0}, "GPUS=0, expected a whole number from 1 on"),
        ({"BATCH": "x"}, "BATCH=x, expected a whole number from 1 on"),
    ],
)
def test_bad_numbers(recipe, gpt2_data, variables, message):
    assert message in refusal(recipe("glue/sst2.sh", DATA=gpt2_data / "SST-2-bin", **variables))


def test_bad_names(recipe):
    assert "TASK=QQP, expected SST-2" in refusal(recipe("few_shot/train.sh", TASK="QQP"))
    assert "N=many, expected a whole number" in refusal(recipe("few_shot/train.sh", N="many"))


@pytest.mark.parametrize("file", [*SHELL, "hydra_train.sh"])
def test_help(recipe, file):
    done = recipe(file, "--help")
    assert (done.code, done.errors, done.calls) == (0, "", [])
    assert f"usage: examples/{file}" in done.output
    assert "SMOKE=1" in done.output
    assert "set -" not in done.output


def test_each_stage_of_supcon_gets_the_options_that_it_knows(recipe, gpt2_data):
    """Fairseq itself parses both lines: an option that a stage does not know would end this."""
    given = ["--supcon-projection-dim", "64", "--scl-lambda", "0", "--report-mcc"]
    done = recipe("supcon/train.sh", *given, "--dropout", "0.2", DATA=gpt2_data / "SST-2-bin")
    assert done.code == 0, done.errors
    first, second = (parse_training(c) for c in done.calls if c[0] == "fairseq-train")
    assert (first.criterion, first.supcon_projection_dim, first.dropout) == ("supcon", 64, 0.2)
    assert (second.report_mcc, second.scl_lambda, second.dropout) == (True, 0, 0.2)
    assert not hasattr(first, "report_mcc")


def test_the_options_of_stages_are_those_of_the_criterions():
    """Which options only some criterions have stands in common.sh; the criterions say so too."""
    import subprocess
    from dataclasses import fields

    from fairseq.criterions import CRITERION_DATACLASS_REGISTRY as REGISTRY

    import scl_fairseq  # noqa: F401 (registers the criterions)

    names = ("simcse", "infocse", "supcon", "sentence_prediction_scl")
    known = {
        name: {f"--{f.name.replace('_', '-')}" for f in fields(REGISTRY[name])} for name in names
    }
    options = sorted(option for option in set().union(*known.values()) if "_" not in option)
    stock = {"--classification-head-name", "--regression-target"}
    own = [o for o in options if o not in stock and "pearson" not in o and o != "---name"]
    for name in names:
        script = f'. {EXAMPLES}/common.sh; options_of {name} {" ".join(own)}; echo "${{OWN[@]}}"'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [option for option in own if option in known[name]]


def test_a_training_is_not_taken_for_one_of_other_options(recipe, gpt2_data, tmp_path):
    given = {"DATA": gpt2_data / "RTE-bin"}
    first = recipe("glue/rte.sh", **given)
    assert first.code == 0, first.errors
    assert recipe("glue/rte.sh", **given).code == 0  # an interrupted one is taken up
    done = recipe("glue/rte.sh", "--lr", "3e-05", **given)
    assert (done.code, done.calls) == (2, [])
    assert "holds a training of other options" in done.errors
    assert done.errors.count("\n") == 1
    assert recipe("glue/rte.sh", "--lr", "3e-05", SAVE_DIR="elsewhere", **given).code == 0


@pytest.mark.parametrize("script", ["glue/rte.sh", "supcon/train.sh", "infocse/train.sh"])
@pytest.mark.parametrize("option", [["--user-dir", "scl"], ["--user-dir=scl"]])
def test_a_plug_in_that_is_not_there_is_named_with_the_right_one(recipe, script, option):
    done = recipe(script, *option)
    assert (done.code, done.calls) == (2, [])
    right = EXAMPLES.parent / "scl_fairseq"
    assert done.errors == f"error: --user-dir scl is no folder; this plug-in is {right}\n"


@pytest.mark.parametrize("name", ["OUT", "DATA", "SAVE_DIR"])
def test_a_path_that_fairseq_would_split_is_refused(recipe, name):
    done = recipe("glue/rte.sh", **{name: "a b:c"})
    assert (done.code, done.calls) == (2, [])
    assert done.errors == "error: a b:c: fairseq splits paths at ':'; name another folder\n"
