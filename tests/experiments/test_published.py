"""Published numbers: those of the paper, nothing between them, and each with its certainty."""

import statistics

import pytest

from scl_fairseq.experiments import published, sweep_config
from scl_fairseq.experiments.published import (
    BATCH_SIZE,
    ELSEWHERE,
    FEW_SHOT,
    GLUE,
    IN_NOISE_TABLE,
    NOISE,
    TRANSFER,
)

# As the paper prints them: N, task, CE, CE+SCL.
FEW_SHOT_LINES = """
20 SST-2 85.9±2.1 88.1±3.3
20 QNLI 65.0±2.0 75.7±4.8
20 MNLI 39.3±2.5 42.7±4.6
100 SST-2 91.1±1.3 92.8±1.3
100 QNLI 81.9±0.4 82.5±0.4
100 MNLI 59.2±2.1 61.1±3.0
1000 SST-2 94.0±0.6 94.1±0.5
1000 QNLI 89.2±0.6 89.8±0.4
1000 MNLI 81.4±0.2 81.5±0.2
"""


def test_few_shot():
    lines = [line.split() for line in FEW_SHOT_LINES.split("\n") if line]
    assert len(FEW_SHOT.numbers) == 2 * len(lines) == 18
    for size, task, *both in lines:
        for loss, text in zip(("CE", "CE+SCL"), both, strict=True):
            number = FEW_SHOT.find(task, int(size), loss)
            assert f"{number.mean}±{number.sd}" == text
    elsewhere = {key for key, one in FEW_SHOT.numbers.items() if one.certainty == IN_NOISE_TABLE}
    assert elsewhere == {("SST-2", 100, "CE"), ("QNLI", 100, "CE")}


def test_glue_and_its_average():
    assert [GLUE.find(task, None, "CE").mean for task in GLUE.tasks] == [
        94.7, 86.4, 87.3, 85.0, 94.5, 90.0,
    ]  # fmt: skip
    assert [GLUE.find(task, None, "CE+SCL").mean for task in GLUE.tasks] == [
        95.9, 87.3, 87.8, 85.6, 95.4, 89.9,
    ]  # fmt: skip
    for loss, average in (("CE", 89.7), ("CE+SCL", 90.3)):
        assert GLUE.find("average", None, loss).mean == average
        mean = statistics.mean(GLUE.find(task, None, loss).mean for task in GLUE.tasks)
        assert mean == pytest.approx(average, abs=0.051)  # a table of one decimal
    read = {key[0] for key, one in GLUE.numbers.items() if one.certainty == ELSEWHERE}
    assert read == {"CoLA", "MRPC", "MNLI"}
    assert all(one.sd is None for one in GLUE.numbers.values())


def test_batch_size_has_ce_scl_alone():
    found = {(task, size): one.mean for (task, size, _), one in BATCH_SIZE.numbers.items()}
    assert found == {
        ("SST-2", 16): 93.9, ("SST-2", 64): 94.2, ("SST-2", 256): 94.3,
        ("CoLA", 16): 83.4, ("CoLA", 64): 84.8, ("CoLA", 256): 84.9,
        ("QNLI", 16): 92.1, ("QNLI", 64): 92.7, ("QNLI", 256): 92.9,
    }  # fmt: skip
    assert {loss for _, _, loss in BATCH_SIZE.numbers} == {"CE+SCL"}


# Original, T = 0.3, 0.5, 0.7, 0.9, average of the augmented.
NOISE_LINES = """
SST-2 CE 91.1±1.3 92.0±1.3 91.4±1.0 91.7±1.3 90.0±0.5 91.3±1.2
SST-2 CE+SCL 92.8±1.3 92.6±0.9 91.5±1.0 91.2±0.6 91.5±1.0 91.7±1.0
QNLI CE 81.9±0.4 81.1±2.3 80.0±2.9 78.9±3.7 75.9±4.0 79.0±3.5
QNLI CE+SCL 82.5±0.4 82.7±1.9 81.9±2.5 81.3±0.6 80.1±2.5 81.5±2.0
MNLI CE 59.2±2.1 54.0±1.1 55.3±2.4 54.6±2.2 47.0±1.8 52.7±3.9
MNLI CE+SCL 61.1±3.0 61.2±2.3 62.1±0.9 62.3±1.1 53.0±2.1 59.7±4.3
"""


def test_noise_and_its_averages():
    lines = [line.split() for line in NOISE_LINES.split("\n") if line]
    assert len(NOISE.numbers) == 6 * len(lines) == 36
    for task, loss, *cells in lines:
        places = (0, 0.3, 0.5, 0.7, 0.9, "average")
        found = [NOISE.find(task, place, loss) for place in places]
        assert [f"{one.mean}±{one.sd}" for one in found] == cells
        mean = statistics.mean(one.mean for one in found[1:5])
        assert found[5].mean == pytest.approx(mean, abs=0.101)
        # The original is the few-shot table's N = 100.
        few_shot = FEW_SHOT.find(task, 100, loss)
        assert (found[0].mean, found[0].sd) == (few_shot.mean, few_shot.sd)
    assert NOISE.num_examples == 100


def test_transfer():
    found = {(task, loss): (one.mean, one.sd) for (task, _, loss), one in TRANSFER.numbers.items()}
    assert found == {
        ("Amazon-2", "CE"): (87.4, 6.4), ("Amazon-2", "CE+SCL"): (90.3, 0.6),
        ("Yelp-2", "CE"): (90.8, 2.2), ("Yelp-2", "CE+SCL"): (91.2, 0.4),
    }  # fmt: skip
    assert TRANSFER.num_examples == 40


def test_what_the_paper_does_not_have_is_nothing():
    assert FEW_SHOT.find("sst-2", 20, "CE").mean == 85.9
    for task, value, loss in [
        ("SST-2", 50, "CE"),
        ("SST-2", None, "CE"),
        ("CoLA", 20, "CE"),
        (None, 20, "CE"),
        ("SST-2", 20, "SCL"),
    ]:
        assert FEW_SHOT.find(task, value, loss) is None
    assert BATCH_SIZE.find("SST-2", 16, "CE") is None


def test_configs_may_name_these_tables():
    assert {*published.TABLES, published.NONE} == {*sweep_config.TABLES}
