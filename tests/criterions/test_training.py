"""The criterion in real ``fairseq-train`` processes."""

import math

import pytest

from tests import runs


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """Two epochs of CE+SCL: the output and the save folder."""
    folder = tmp_path_factory.mktemp("finished")
    options = ["--report-mcc", "--report-acc-and-f1", "--no-epoch-checkpoints"]
    options += ["--best-checkpoint-metric", "acc_and_f1", "--maximize-best-checkpoint-metric"]
    return train(folder, *options).stdout, folder


def test_logs_every_metric_of_the_contract(finished):
    output, _ = finished
    for name in ("loss", "ce_loss", "scl_loss", "accuracy"):
        assert len(runs.logged(output, name)) >= 4, name  # train and valid, two epochs
    for name in ("mcc", "f1", "acc_and_f1"):
        assert len(runs.logged(output, name)) >= 2, name
    loss, ce, scl = (runs.logged(output, name) for name in ("loss", "ce_loss", "scl_loss"))
    for total, first, second in zip(loss, ce, scl, strict=True):
        assert total == pytest.approx(0.1 * first + 0.9 * second, abs=2e-3)
    assert "_counts" not in output.split("| model", 1)[-1]


def test_the_logged_parts_make_the_logged_loss(train, tmp_path):
    """As README.md has it: with a sum the part of SCL counts as often as its batch has rows."""
    for reduction, rows in (("mean", 1), ("sum", 8)):  # batches of 8
        options = ["--scl-reduction", reduction, "--scl-lambda", 0.3, "--no-save", "--max-epoch", 1]
        # Of a sum, what fairseq rounds counts eight times too.
        output = train(tmp_path / reduction, *options).stdout
        logs = [output.partition("| train |")[2].splitlines()[0]]
        logs += [line for line in output.splitlines() if "| valid |" in line]
        found = 0
        for log in logs:
            (loss,), (ce,), (scl,) = (runs.logged(log, n) for n in ("loss", "ce_loss", "scl_loss"))
            if "valid" in log and reduction == "sum":
                continue  # its last batch is smaller
            assert loss == pytest.approx(0.7 * ce + 0.3 * rows * scl, abs=1e-3 * (rows + 1))
            found += 1
        assert found >= 1


def test_training_lowers_both_losses(train, tmp_path):
    no_dropout = ["--dropout", 0, "--attention-dropout", 0]
    output = train(tmp_path, *no_dropout, "--scl-lambda", 0.5, "--max-epoch", 12, "--no-save")
    epochs = "\n".join(line for line in output.stdout.splitlines() if "| train |" in line)
    for name in ("ce_loss", "scl_loss"):
        values = runs.logged(epochs, name)
        assert len(values) == 12
        assert values[-1] < 0.8 * values[0], name


def test_lambda_zero_is_stock_to_the_bit_after_20_updates(tiny, tmp_path):
    limit = ["--max-update", 20, "--max-epoch", 3]
    stock = runs.command(tiny, tmp_path / "stock", *limit, criterion="sentence_prediction")
    ours = runs.command(tiny, tmp_path / "ours", *limit, "--scl-lambda", 0)
    for arguments in (stock, ours):
        runs.train(arguments)
    last = "checkpoint_last.pt"
    runs.assert_same_weights(tmp_path / "stock" / last, tmp_path / "ours" / last)
    assert runs.differ(tmp_path / "ours" / last, tiny.encoder / "model.pt") is True


def test_one_update_at_lambda_09_differs_from_stock(tiny, tmp_path):
    stock = runs.command(
        tiny, tmp_path / "stock", "--max-update", 1, criterion="sentence_prediction"
    )
    ours = runs.command(tiny, tmp_path / "ours", "--max-update", 1)
    for arguments in (stock, ours):
        runs.train(arguments)
    last = "checkpoint_last.pt"
    assert runs.differ(tmp_path / "stock" / last, tmp_path / "ours" / last)


@pytest.mark.parametrize(
    "options",
    [
        ["--memory-efficient-fp16"],
        ["--update-freq", 3],
        ["--batch-size", 1],
        ["--scl-reduction", "sum", "--scl-embedding", "mean"],
        ["--scl-embedding", "pooled", "--arch", "roberta_prenorm", "--restore-file", "none.pt"],
        ["--scl-lambda", 1],
    ],
    ids=lambda options: "".join(map(str, options)),
)
def test_trains_on_settings_of_stock(train, tmp_path, options):
    output = train(tmp_path, *options, "--max-epoch", 1, "--no-save").stdout
    assert "done training" in output
    assert all(math.isfinite(value) for value in runs.logged(output, "loss"))
    assert runs.logged(output, "scl_loss")
    if options == ["--batch-size", 1]:
        assert set(runs.logged(output, "scl_loss")[-1:]) == {0.0}
    if options == ["--scl-lambda", 1]:
        assert "leaves the classifier untrained" in output


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["--fp16", "--bf16", "--amp"])
def test_trains_on_a_gpu(train, tmp_path, precision):
    output = train(tmp_path, precision, "--on-gpu", "--max-epoch", 2, "--no-save").stdout
    assert "done training" in output
    assert runs.logged(output, "scl_loss")[-1] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scl-lambda", 1.5], "--scl-lambda must lie between 0 and 1, got 1.5"),
        (["--scl-lambda", "nan"], "--scl-lambda must lie between 0 and 1, got nan"),
        (["--scl-temperature", 0], "--scl-temperature: temperature must be a finite number"),
        (["--regression-target"], "--regression-target has no classes to contrast"),
        (["--num-classes", 3], "--num-classes 3, but"),
    ],
)
def test_bad_options_end_before_training(train, tmp_path, options, message):
    done = train(tmp_path, *options, check=False)
    assert done.returncode == 2
    assert message in done.stdout
    assert "Traceback" not in done.stdout
    assert "begin training" not in done.stdout


def test_relative_user_dir_from_the_clone(tiny, root, tmp_path):
    arguments = runs.command(tiny, tmp_path, "--max-update", 1, "--no-save")
    arguments[arguments.index("--user-dir") + 1] = "scl_fairseq"
    assert "done training" in runs.train(arguments, cwd=root).stdout


def test_hydra_train(tiny, tmp_path, root):
    flags = dict(zip(tiny.flags[::2], tiny.flags[1::2], strict=True))
    model = "".join(
        f"  {name[2:].replace('-', '_')}: {value}\n"
        for name, value in flags.items()
        if name not in ("--arch", "--max-positions")
    )
    (tmp_path / "scl.yaml").write_text(
        f"""# @package _group_
common: {{cpu: true, user_dir: {root / "scl_fairseq"}, log_format: simple, seed: 3}}
checkpoint: {{no_save: true, finetune_from_model: {tiny.encoder / "model.pt"}}}
task:
  _name: sentence_prediction
  data: {tiny.data}
  num_classes: 2
  init_token: 0
  max_positions: {flags["--max-positions"]}
criterion:
  _name: sentence_prediction_scl
  classification_head_name: sentence_classification_head
  regression_target: false
  scl_lambda: 0.5
  scl_temperature: 0.1
  scl_reduction: sum
  head_pooling: mean
dataset: {{batch_size: 8, required_batch_size_multiple: 1}}
optimizer: {{_name: adam, adam_betas: "(0.9,0.98)"}}
lr_scheduler: {{_name: fixed}}
optimization: {{max_update: 4, lr: [0.001]}}
model:
  _name: roberta
{model}""",
        encoding="utf-8",
    )
    hydra = runs.FAIRSEQ_TRAIN.replace("fairseq-train", "fairseq-hydra-train")
    arguments = [hydra, "--config-dir", str(tmp_path), "--config-name", "scl"]
    output = runs.train(arguments, cwd=tmp_path).stdout
    log = output + "".join(path.read_text() for path in tmp_path.rglob("hydra_train.log"))
    assert "done training" in log
    assert runs.logged(log, "scl_loss")


@pytest.mark.parametrize(
    ("size", "options", "is_told"),
    [
        (63, [], False),
        (64, [], True),
        (128, ["--criterion", "supcon", "--supcon-views", 2], True),
        (127, ["--criterion", "supcon", "--supcon-views", 2], False),
    ],
)
def test_a_queue_as_long_as_the_training_set_is_told(tiny, tmp_path, size, options, is_told):
    """Of 64 sentences, each with as many keys as it has views."""
    criterion = options[1] if options else "sentence_prediction_scl"
    limit = ["--scl-queue-size", size, "--max-update", 2, "--no-save", "--disable-validation"]
    arguments = runs.command(tiny, tmp_path, *limit, *options[2:], criterion=criterion)
    output = runs.train(arguments).stdout
    said = [line for line in output.splitlines() if "--scl-queue-size" in line]
    assert len(said) == is_told
    assert all(f"--scl-queue-size {size} is no smaller than an epoch" in line for line in said)
    assert all("of 64 training sentences" in line for line in said)
