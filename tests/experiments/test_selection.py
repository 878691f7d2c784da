"""The selection looks at validation accuracy alone, and at every run it should."""

import random
import statistics

import pytest

from scl_fairseq.experiments.results import read_results
from scl_fairseq.experiments.selection import (
    FIXED,
    FIXED_NAME,
    choose_rows,
    make_cells,
)
from tests.experiments.test_results import CONFIG, failure, line, setting, write_sweep

AXES = ("task", "N")


def runs(name, accuracies, scl_lambda, *more, **options):
    """Lines of a configuration: sample i has the i-th pair of validation and test accuracy."""
    return [
        line(f"{name}{sample}", setting(scl_lambda, *more, sample=sample, **options), *pair)
        for sample, pair in enumerate(accuracies)
    ]


def cells_of(folder, lines, failures=(), config=None, axes=AXES):
    read = read_results(write_sweep(folder, lines, failures, config))
    return make_cells(read.results, read.failures, axes, [read.config])


def trials(configuration, top=3):
    return [run.trial for run in configuration.top(top)]


# Of each pair the first is validation, the second test accuracy: the best on one are the worst on
# the other, so whatever looks at the test set chooses something else.
WORSE_ON_VALID = [(60.0, 90.0), (61.0, 80.0), (62.0, 70.0), (55.0, 99.0)]
BETTER_ON_VALID = [(70.0, 60.0), (71.0, 50.0), (72.0, 40.0), (52.0, 99.0)]


def test_neither_hyper_parameters_nor_runs_are_chosen_by_test_accuracy(tmp_path):
    lines = runs("a", WORSE_ON_VALID, 0.5) + runs("b", BETTER_ON_VALID, 0.9)
    (cell,) = cells_of(tmp_path, lines)
    chosen = cell.choose(3)
    assert chosen.setting["scl-lambda"] == 0.9
    assert trials(chosen) == ["b2", "b1", "b0"]
    assert trials(chosen, 1) == ["b2"]
    assert chosen.validation(3) == pytest.approx((70 + 71 + 72) / 3)


def test_permuting_test_accuracies_changes_nothing_that_is_chosen(tmp_path):
    lines = runs("a", WORSE_ON_VALID, 0.5) + runs("b", BETTER_ON_VALID, 0.9)
    shuffled = [one["test_accuracy"] for one in lines]
    for attempt in range(5):
        random.Random(attempt).shuffle(shuffled)
        changed = [{**one, "test_accuracy": t} for one, t in zip(lines, shuffled, strict=True)]
        (cell,) = cells_of(tmp_path, changed)
        assert trials(cell.choose(3)) == ["b2", "b1", "b0"]


def test_hyper_parameters_are_chosen_over_the_top_runs_not_over_all(tmp_path):
    # All: 65 against 66. Top 3: 70 against 67. Top 1: 70 against 75.
    lines = runs("a", [(70.0, 1.0), (70.0, 1.0), (70.0, 1.0), (50.0, 1.0)], 0.5)
    lines += runs("b", [(75.0, 1.0), (63.0, 1.0), (63.0, 1.0), (63.0, 1.0)], 0.9)
    (cell,) = cells_of(tmp_path, lines)
    assert cell.choose(3).setting["scl-lambda"] == 0.5
    assert cell.choose(4).setting["scl-lambda"] == 0.9
    assert cell.choose(1).setting["scl-lambda"] == 0.9


def test_equal_runs_come_by_sample_and_then_by_seed(tmp_path):
    places = [(2, 1), (10, 1), (1, 2), (1, 1)]  # numbers, not text: 10 comes after 2
    lines = [
        line(f"s{sample}-{seed}", setting(0, sample=sample, seed=seed), 60.0, 50.0)
        for sample, seed in places
    ]
    (cell,) = cells_of(tmp_path, lines)
    assert trials(cell.choose(3), 4) == ["s1-1", "s1-2", "s2-1", "s10-1"]


def test_of_equal_configurations_the_smaller_numbers_count(tmp_path):
    # The same mean, but not to the last bit.
    lower, higher = [50.0, 50.0, 51.3], [50.0, 50.1, 51.2]
    assert statistics.mean(lower) < statistics.mean(higher)
    lines = runs("c", [(v, 1.0) for v in higher], 0.9, lr=1e-4)
    lines += runs("a", [(v, 1.0) for v in lower], 0.9, lr=5e-5)
    lines += runs("b", [(v, 1.0) for v in lower], 0.5, lr=1e-4)
    (cell,) = cells_of(tmp_path, lines)
    assert cell.choose(3).setting["lr"] == 5e-5  # lr is compared before scl-lambda
    (cell,) = cells_of(tmp_path, [one for one in lines if one["trial"][0] != "a"])
    assert cell.choose(3).setting["scl-lambda"] == 0.5


def test_a_configuration_of_fewer_runs_competes_with_its_like_only(tmp_path):
    lines = runs("a", [(90.0, 1.0)], 0.5) + runs("b", [(60.0, 1.0)] * 3, 0.9)
    (cell,) = cells_of(tmp_path, lines)
    assert cell.choose(3).setting["scl-lambda"] == 0.9
    assert cell.choose(1).setting["scl-lambda"] == 0.5
    (cell,) = cells_of(tmp_path, lines[:3])  # one and two runs
    assert cell.choose(3).setting["scl-lambda"] == 0.5


def test_losses_tasks_and_sizes_stand_apart(tmp_path):
    lines = runs("a", [(60.0, 1.0)], 0) + runs("b", [(70.0, 2.0)], 0.9)
    lines += runs("c", [(80.0, 3.0)], 0.9, N=100) + runs("d", [(90.0, 4.0)], 0.9, task="QNLI")
    lines += runs("e", [(90.0, 4.0)], 0.9, N=None)  # whole training set
    cells = cells_of(tmp_path, lines)
    found = [(*cell.place.values(), cell.loss, *trials(cell.choose(3))) for cell in cells]
    assert found == [
        ("QNLI", 20, "CE+SCL", "d0"),
        ("SST-2", 20, "CE", "a0"),
        ("SST-2", 20, "CE+SCL", "b0"),
        ("SST-2", 100, "CE+SCL", "c0"),
        ("SST-2", None, "CE+SCL", "e0"),
    ]


def test_fairseqs_own_criterion_is_ce_however_lambda_is_set(tmp_path):
    of = setting(None, criterion="sentence_prediction")
    (cell,) = cells_of(tmp_path, [line("a", of, 60.0, 50.0)])
    assert cell.loss == "CE"
    (row,) = choose_rows([cell], 1)
    assert list(row.choices) == ["CE"]  # not at the default lambda either


def test_the_batch_size_is_chosen_unless_it_is_an_axis(tmp_path):
    lines = runs("a", [(60.0, 1.0)], 0.9, batch_size=16, total_num_update=4)
    lines += runs("b", [(70.0, 2.0)], 0.9, batch_size=64, total_num_update=2)
    (cell,) = cells_of(tmp_path, lines)
    assert trials(cell.choose(1)) == ["b0"]
    small, large = cells_of(tmp_path, lines, axes=(*AXES, "batch-size"))
    assert (trials(small.choose(1)), trials(large.choose(1))) == (["a0"], ["b0"])


def test_the_fixed_setting_stands_beside_the_chosen_one(tmp_path):
    lines = runs("a", [(70.0, 1.0)], 0.5) + runs("b", [(60.0, 1.0)], 0.9, 0.3, lr=1e-5)
    lines += runs("c", [(65.0, 1.0)], 0.9, 0.3, lr=2e-5) + runs("d", [(99.0, 1.0)], 0.9, 0.1)
    lines += runs("e", [(66.0, 1.0)], 0)
    (row,) = choose_rows(cells_of(tmp_path, lines), 1)
    assert row.chosen("CE+SCL").setting["scl-temperature"] == 0.1
    assert trials(row.chosen(FIXED_NAME)) == ["c0"]  # its learning rate is chosen
    assert row.choices[FIXED_NAME].num_competing == 2
    assert trials(row.chosen("CE")) == ["e0"]
    (without,) = choose_rows(cells_of(tmp_path, lines[:1]), 1)
    assert FIXED_NAME not in without.choices
    assert without.chosen("CE") is None


def test_the_criterions_defaults_are_the_fixed_setting():
    from scl_fairseq.criterions.sentence_prediction_scl import SentencePredictionSCLConfig

    defaults = SentencePredictionSCLConfig()
    assert {
        "scl-lambda": defaults.scl_lambda,
        "scl-temperature": defaults.scl_temperature,
    } == FIXED


def test_rows_are_in_the_papers_order_then_by_name_and_size(tmp_path):
    lines = []
    for number, (task, size) in enumerate(
        [("b", 20), ("MNLI", 20), ("a", 1000), ("a", 20), ("sst-2", 100), ("a", 100)]
    ):
        lines += runs(f"t{number}", [(60.0, 1.0)], 0, task=task, N=size)
    rows = choose_rows(cells_of(tmp_path, lines), 1, ("SST-2", "QNLI", "MNLI"))
    assert [tuple(row.place.values()) for row in rows] == [
        ("sst-2", 100), ("MNLI", 20), ("a", 20), ("a", 100), ("a", 1000), ("b", 20),
    ]  # fmt: skip


def test_runs_are_counted_against_the_config(tmp_path):
    # The config: samples 0 to 3 at lambda 0, 0.9 and 0.5.
    lines = runs("a", [(60.0, 1.0), (50.0, 1.0)], 0) + runs("b", [(70.0, 1.0)], 0.9)
    failed = [failure("b3", setting(0.9, sample=3))]
    ce, scl = cells_of(tmp_path, lines, failed, CONFIG)
    assert (ce.num_runs, ce.num_expected) == (2, 4)
    assert (scl.num_runs, scl.num_expected) == (1, 8)  # nothing yet of lambda 0.5
    (chosen,) = ce.configurations
    assert (chosen.num_expected, chosen.num_collapsed, chosen.num_failed) == (4, 1, 0)
    (chosen,) = scl.configurations
    assert (chosen.num_expected, chosen.num_collapsed, chosen.num_failed) == (4, 0, 1)


def test_trials_of_an_earlier_config_are_counted_by_themselves(tmp_path):
    lines = runs("a", [(60.0, 1.0)] * 2, 0, max_epoch=9) + runs("b", [(60.0, 1.0)], 0)
    (cell,) = [one for one in cells_of(tmp_path, lines, (), CONFIG) if one.loss == "CE"]
    of_epochs = {one.setting["max-epoch"]: one.num_expected for one in cell.configurations}
    assert of_epochs == {9: 2, 2: 4}


def test_the_encoders_path_and_the_schedule_do_not_hide_a_planned_run(tmp_path):
    config = CONFIG.replace("encoder: embedded\n", "").replace(
        "{lr: ", "{finetune-from-model: model.pt, lr: "
    )
    lines = runs("a", [(60.0, 1.0)], 0, warmup_updates=1)
    (cell,) = cells_of(tmp_path, lines, (), config)
    assert cell.num_expected == cell.configurations[0].num_expected == 4


def test_overrides_are_part_of_what_is_planned(tmp_path):
    config = CONFIG + "overrides:\n  - {when: {task: SST-2}, options: {lr: 2e-5}}\n"
    (cell,) = cells_of(tmp_path, runs("a", [(60.0, 1.0)], 0, lr=2e-5), (), config)
    assert cell.configurations[0].num_expected == 4


def test_without_a_config_the_samples_of_the_place_are_expected(tmp_path):
    lines = runs("a", [(60.0, 1.0)] * 3, 0) + runs("b", [(70.0, 1.0)], 0.9)
    lines += runs("c", [(70.0, 1.0)], 0.9, N=100)
    failed = [failure("b3", setting(0.9, sample=3))]
    found = {
        (cell.place["N"], cell.loss): cell.configurations[0].num_expected
        for cell in cells_of(tmp_path, lines, failed)
    }
    assert found == {(20, "CE"): 4, (20, "CE+SCL"): 4, (100, "CE+SCL"): 1}


def test_a_configuration_that_only_failed(tmp_path):
    (cell,) = cells_of(tmp_path, [], [failure("a", setting(0.9))])
    assert cell.choose(3) is None
    assert (cell.num_runs, cell.configurations[0].num_failed) == (0, 1)
