"""The run.sh of each table, with stand-ins for the commands they call in turn."""

import shutil

import pytest

from scl_fairseq.cli import augment, plot, preprocess, report, sample, sweep
from scl_fairseq.data.translation_choice import ModelChoice
from scl_fairseq.experiments import sweep_config
from scl_fairseq.experiments.settings import settings as settings_of

PARSERS = {
    "scl-augment": augment,
    "scl-sample": sample,
    "scl-preprocess": preprocess,
    "scl-sweep": sweep,
    "scl-report": report,
    "scl-plot": plot,
}


@pytest.fixture
def inputs(tmp_path):
    """Official files and BPE where the recipes look for them."""
    for task in ("SST-2", "CoLA", "MRPC", "RTE", "QNLI", "MNLI"):
        (tmp_path / "glue" / task).mkdir(parents=True)
    for task in ("Amazon-2", "Yelp-2"):
        (tmp_path / "reviews" / task).mkdir(parents=True)
        (tmp_path / "reviews" / task / "train.csv").touch()
    (tmp_path / "gpt2_bpe").mkdir()
    (tmp_path / "gpt2_bpe" / "vocab.bpe").touch()


def names(done):
    return [call[0] for call in done.calls]


def parse(call):
    """A call's arguments, by the parser of the command itself."""
    return PARSERS[call[0]]._parser().parse_args(call[1:])


def planned(call):
    """The settings of the sweep that a call starts."""
    options = parse(call)
    return settings_of(sweep_config.read_config(options.config, options.changes))


def test_the_few_shot_table(recipe, inputs, tmp_path):
    done = recipe("few_shot/run.sh")
    assert (done.code, done.errors) == (0, "")
    assert names(done) == [*["scl-sample", *["scl-preprocess"] * 10] * 9, "scl-sweep", "scl-report"]
    first, binarized = (parse(call) for call in done.calls[:2])
    assert (first.task, first.num_examples, first.num_samples) == ("SST-2", 20, 10)
    assert (binarized.bpe, str(binarized.bpe_dir)) == ("gpt2", "gpt2_bpe")
    assert str(binarized.destdir) == "outputs/few-shot/data/SST-2/20/bin/sample0"
    settings = planned(done.calls[-2])
    assert len(settings) == 2250
    path = "outputs/few-shot/data/{task}/{N}/bin/sample{sample}"
    assert all((tmp_path / path.format_map(setting)).is_dir() for setting in settings)
    assert {setting["finetune-from-model"] for setting in settings} == {f"{tmp_path}/model.pt"}
    assert parse(done.calls[-2]).out == parse(done.calls[-1]).results[0]
    assert done.output.endswith("the report\n")


def test_what_is_drawn_stays_until_more_is_wanted(recipe, inputs, tmp_path):
    def run(**variables):
        return names(recipe("few_shot/run.sh", TASKS="QNLI", NUM_EXAMPLES=20, **variables))

    assert run(NUM_SAMPLES=2).count("scl-preprocess") == 2
    assert run(NUM_SAMPLES=2) == run(NUM_SAMPLES=1) == ["scl-sweep", "scl-report"]
    assert run(NUM_SAMPLES=3).count("scl-preprocess") == 3
    (tmp_path / "glue").rename(tmp_path / "other")
    shutil.rmtree(tmp_path / "outputs" / "few-shot" / "data" / "QNLI" / "20" / "text")
    assert run(NUM_SAMPLES=2, GLUE="other").count("scl-preprocess") == 2
    folder = tmp_path / "outputs" / "few-shot" / "data" / "QNLI" / "20" / "bin"
    assert sorted(path.name for path in folder.iterdir()) == ["sample0", "sample1"]


def test_an_interrupted_draw_is_made_again(recipe, inputs):
    variables = {"TASKS": "QNLI", "NUM_EXAMPLES": 20, "NUM_SAMPLES": 2}
    done = recipe("few_shot/run.sh", FAIL="scl-preprocess", CODE=130, **variables)
    assert done.code == 130
    assert names(done) == ["scl-sample", "scl-preprocess"]
    assert names(recipe("few_shot/run.sh", **variables)).count("scl-preprocess") == 2


@pytest.mark.parametrize(
    ("file", "tasks", "count", "folder"),
    [("glue/run.sh", 6, 120, "glue"), ("batch_size/run.sh", 3, 18, "batch-size")],
)
def test_tables_of_whole_data_sets(recipe, inputs, tmp_path, file, tasks, count, folder):
    done = recipe(file)
    assert (done.code, done.errors) == (0, "")
    assert names(done) == [*["scl-preprocess"] * tasks, "scl-sweep", "scl-report"]
    assert {parse(call).split for call in done.calls[:tasks]} == {"paper"}
    settings = planned(done.calls[-2])
    assert len(settings) == count
    path = "outputs/data/{task}-bin"
    assert all((tmp_path / path.format_map(setting)).is_dir() for setting in settings)
    assert str(parse(done.calls[-2]).out) == f"outputs/{folder}/sweep"
    assert names(recipe(file)) == ["scl-sweep", "scl-report"]


def test_a_table_can_be_narrowed(recipe, inputs):
    done = recipe("glue/run.sh", "--workers", 2, TASKS="RTE,MRPC", SEEDS="4 5", OUT="my")
    assert len(planned(done.calls[-2])) == 2 * 2 * 2
    assert parse(done.calls[-2]).workers == 2
    assert str(parse(done.calls[-2]).out) == "my/glue/sweep"
    done = recipe("batch_size/run.sh", TASKS="CoLA", BATCHES="256", SEEDS="1 2 3")
    assert {(s["batch-size"], s["seed"]) for s in planned(done.calls[-2])} == {
        (256, 1), (256, 2), (256, 3)
    }  # fmt: skip


def test_the_noise_table(recipe, inputs, tmp_path):
    done = recipe("noise/run.sh", TASKS="QNLI", NUM_SAMPLES=2)
    assert (done.code, done.errors) == (0, "")
    draw = ["scl-sample", *["scl-preprocess"] * 2]
    of_sample = ["scl-augment", *["scl-preprocess"] * 5]
    assert names(done) == [*draw, *of_sample, *of_sample, "scl-sweep", "scl-report"]
    first, second = (parse(call) for call in done.calls if call[0] == "scl-augment")
    assert str(first.sample) == "outputs/few-shot/data/QNLI/100/text/sample0"
    assert str(second.out) == "outputs/noise/data/QNLI/text/sample1"
    assert (first.temperature, first.ratio, first.fp16) == ([0.3, 0.5, 0.7, 0.9], 3, True)
    there, back = (ModelChoice.parse(words) for words in (first.forward, first.backward))
    assert (there.place, back.place) == ("transformer.wmt19.en-de", "transformer.wmt19.de-en")
    assert there.arguments["checkpoint_file"].count(":") == 3
    sources = [str(parse(call).data_dir) for call in done.calls if call[0] == "scl-preprocess"]
    text = "outputs/noise/data/QNLI/text/sample0"
    assert sources[2:7] == [str(first.sample), *(f"{text}/T{t:g}" for t in first.temperature)]
    settings = planned(done.calls[-2])
    assert len(settings) == 5 * 2 * 25
    path = "outputs/noise/data/{task}/bin/T{noise}/sample{sample}"
    assert all((tmp_path / path.format_map(setting)).is_dir() for setting in settings)
    assert parse(done.calls[-2]).keep == "none"
    # What is binarised stays, unless its text is newer.
    for call in done.calls:
        if call[0] == "scl-augment":
            options = parse(call)
            for temperature in options.temperature:
                (tmp_path / options.out / f"T{temperature:g}").mkdir(parents=True)
                (tmp_path / options.out / f"T{temperature:g}" / "manifest.json").touch()
    again = recipe("noise/run.sh", TASKS="QNLI", NUM_SAMPLES=1, KEEP="best", GPUS="1,2")
    assert names(again) == [
        "scl-augment", *["scl-preprocess"] * 4, "scl-sweep", "scl-report", "scl-plot"
    ]  # fmt: skip
    assert parse(again.calls[-1]).kind == "drift"
    quick = recipe("noise/run.sh", TASKS="QNLI", NUM_SAMPLES=1)
    assert names(quick) == ["scl-augment", "scl-sweep", "scl-report"]
    other = recipe("noise/run.sh", TASKS="QNLI", NUM_SAMPLES=1, BPE_DIR=tmp_path / "gpt2_bpe")
    assert names(other).count("scl-preprocess") == 1 + 5


def test_the_transfer_table(recipe, inputs, tmp_path):
    label = tmp_path / "outputs" / "data" / "SST-2-bin" / "label"
    label.mkdir(parents=True)
    for split in ("train", "test"):
        (label / f"{split}.idx").touch()
    done = recipe("transfer/run.sh", NUM_SAMPLES=2, GPUS=2)
    assert (done.code, done.errors) == (0, "")
    training, draw = ["fairseq-train", "fairseq-validate"], ["scl-sample", *["scl-preprocess"] * 2]
    assert names(done) == [*training * 2, *draw * 2, "scl-sweep", "scl-report"]
    trained = [call for call in done.calls if call[0] == "fairseq-train"]

    def told(call, option):
        return call[call.index(option) + 1]

    assert [told(call, "--scl-lambda") for call in trained] == ["0", "0.9"]
    assert {told(call, "--distributed-world-size") for call in trained} == {"2"}
    saved = [f"{told(call, '--save-dir')}/checkpoint_best.pt" for call in trained]
    drawn = [parse(call) for call in done.calls if call[0] == "scl-sample"]
    assert [one.per_class for one in drawn] == [20, 20]
    assert [str(one.data_dir) for one in drawn] == ["reviews/Amazon-2", "reviews/Yelp-2"]
    settings = planned(done.calls[-2])
    assert len(settings) == 2 * 2 * 2
    path = "outputs/few-shot/data/{task}/{N}/bin/sample{sample}"
    assert all((tmp_path / path.format_map(setting)).is_dir() for setting in settings)
    assert {(one["scl-lambda"], one["finetune-from-model"]) for one in settings} == {
        (0, saved[0]),
        (0.9, saved[1]),
    }
    assert all("classification-head-name" not in one for one in settings)
    # What is trained and drawn stays, whichever head; results of the two are kept apart.
    new = recipe("transfer/run.sh", NUM_SAMPLES=2, HEAD="new")
    assert names(new) == ["scl-sweep", "scl-report"]
    assert {one["classification-head-name"] for one in planned(new.calls[0])} == {"transfer_head"}
    assert parse(new.calls[0]).out != parse(done.calls[-2]).out
    other = recipe("transfer/run.sh", NUM_SAMPLES=2, TAU=0.1)
    assert (other.code, other.calls) == (2, [])
    assert "tau 0.3, seed 1, and this call of" in other.errors
    wrong = recipe("transfer/run.sh", HEAD="old")
    assert (wrong.code, wrong.calls) == (2, [])
    (tmp_path / "reviews" / "Yelp-2" / "train.csv").unlink()
    missing = recipe("transfer/run.sh")
    assert (missing.code, missing.calls) == (2, [])
    assert "reviews/Yelp-2/train.csv is missing" in missing.errors


@pytest.mark.parametrize(("name", "count"), [("systems", 4), ("supcon", 5), ("moco", 6)])
def test_tables_of_systems(recipe, inputs, tmp_path, name, count):
    done = recipe(f"{name}/run.sh", TASKS="QNLI MNLI", NUM_SAMPLES=2)
    assert (done.code, done.errors) == (0, "")
    assert names(done) == [*["scl-sample", *["scl-preprocess"] * 2] * 2, "scl-sweep", "scl-report"]
    settings = planned(done.calls[-2])
    assert len(settings) == 2 * 2 * count
    path = "outputs/few-shot/data/{task}/{N}/bin/sample{sample}"
    assert all((tmp_path / path.format_map(setting)).is_dir() for setting in settings)
    assert {setting["finetune-from-model"] for setting in settings} == {f"{tmp_path}/model.pt"}
    assert str(parse(done.calls[-2]).out) == f"outputs/{name}/sweep"
    # The samples are those of the few-shot table, and drawn once for all of the three.
    assert names(recipe("moco/run.sh", TASKS="QNLI", NUM_SAMPLES=2)) == ["scl-sweep", "scl-report"]


@pytest.mark.parametrize(("code", "reported"), [(1, True), (2, False), (130, False)])
def test_failed_trials_are_reported_and_told(recipe, inputs, code, reported):
    done = recipe("batch_size/run.sh", FAIL="scl-sweep", CODE=code)
    assert done.code == code
    assert ("scl-report" in names(done)) == reported


def test_the_tsne_figures(recipe, inputs, tmp_path):
    done = recipe("tsne/run.sh", SIZES="100 full")
    # The stand-in binarises nothing: the trainings find no data, which ends it.
    assert done.code == 2
    assert "holds no binarised data" in done.errors
    for folder in ("few-shot/data/SST-2/100/bin/sample0", "data/SST-2-bin"):
        label = tmp_path / "outputs" / folder / "label"
        label.mkdir(parents=True, exist_ok=True)
        for split in ("train", "test"):
            (label / f"{split}.idx").touch()
        report = '{"splits": {"train": {"rows": 100}}}'
        (label.parent / "preprocess.json").write_text(report, encoding="utf-8")
    done = recipe("tsne/run.sh", SIZES="100 full")
    assert (done.code, done.errors) == (0, "")
    training = ["fairseq-train", "fairseq-validate"]
    assert names(done) == [*training, *training, "scl-plot", *training, *training, "scl-plot"]
    lambdas = [
        call[call.index("--scl-lambda") + 1] for call in done.calls if call[0] == "fairseq-train"
    ]
    assert lambdas == ["0", "0.9", "0", "0.9"]
    figures = [parse(call) for call in done.calls if call[0] == "scl-plot"]
    saved = [
        f"{call[call.index('--save-dir') + 1]}/checkpoint_best.pt"
        for call in done.calls
        if call[0] == "fairseq-train"
    ]
    assert [str(path) for figure in figures for path in figure.checkpoints] == saved
    assert [str(path) for path in figures[0].out] == [
        "outputs/tsne/100.png",
        "outputs/tsne/100.svg",
    ]
    assert str(figures[1].data) == "outputs/data/SST-2-bin"
    # What is trained is not trained again.
    assert names(recipe("tsne/run.sh", SIZES="100 full")) == ["scl-plot", "scl-plot"]
    for options, variables in ((["--lr", "1"], {}), ([], {"TAU": 1}), ([], {"SEED": 2})):
        other = recipe("tsne/run.sh", *options, SIZES="100", **variables)
        assert (other.code, other.calls) == (2, [])
        assert other.errors.startswith("error: outputs/tsne/100-sample0-lambda0 is of ")


@pytest.mark.parametrize(
    ("file", "size"),
    [
        ("few_shot/run.sh", "large"),
        ("glue/run.sh", "large"),
        ("batch_size/run.sh", "base"),
        ("tsne/run.sh", "large"),
        ("noise/run.sh", "large"),
        ("transfer/run.sh", "large"),
        ("systems/run.sh", "large"),
        ("supcon/run.sh", "large"),
        ("moco/run.sh", "large"),
    ],
)
def test_what_is_missing_is_told_before_anything_starts(recipe, inputs, tmp_path, file, size):
    def refusal(**variables):
        done = recipe(file, **variables)
        assert (done.code, done.calls) == (2, [])
        (line,) = done.errors.splitlines()
        return line

    assert f"scripts/download_roberta.sh --model {size} ." in refusal(ROBERTA="no.pt")
    assert "no/vocab.bpe is missing; scripts/download_bpe.sh no" in refusal(BPE_DIR="no")
    (tmp_path / "glue" / "SST-2").rmdir()
    assert "glue/SST-2 is missing; scripts/download_glue.sh --tasks SST-2 glue" in refusal()
