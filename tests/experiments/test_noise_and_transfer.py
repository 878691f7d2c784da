"""Reports of noisy training sets and of transfer, beside the published tables."""

import pytest

from scl_fairseq.experiments.report import ReportSettings, build
from scl_fairseq.experiments.report_formats import FORMATS
from scl_fairseq.experiments.results import read_results
from scl_fairseq.experiments.settings import settings
from scl_fairseq.experiments.sweep_config import read_config
from tests.experiments.test_report import raw_rows, table_of
from tests.experiments.test_results import line, setting, write_predictions, write_sweep

NOISE = """\
name: noise
published: noise
data: noise/{task}/T{noise}/sample{sample}
encoder: embedded
grid:
  task: [SST-2, MNLI]
  N: [100]
  noise: [0, 0.3, 0.5, 0.7, 0.9]
  sample: [0]
  seed: [1]
  scl-lambda: [0, 0.9]
  scl-temperature: [0.3]
options: {lr: 5e-5, batch-size: 16, max-epoch: 2}
"""
TRANSFER = """\
name: transfer
published: transfer
data: transfer/{task}/{N}/sample{sample}
grid:
  task: [Amazon-2, Yelp-2]
  N: [40]
  sample: [0]
  seed: [1]
  scl-lambda: [0, 0.9]
  scl-temperature: [0.3]
options: {lr: 5e-5, batch-size: 16, max-epoch: 2, finetune-from-model: scl.pt}
overrides: [{when: {scl-lambda: 0}, options: {finetune-from-model: ce.pt}}]
"""
NOISES = (0, 0.3, 0.5, 0.7, 0.9)
# Test accuracies of CE and CE+SCL by noise; of the augmented ones the means are 83 and 86.
ACCURACIES = {
    0: (90.0, 91.0),
    0.3: (89.0, 90.0),
    0.5: (85.0, 88.0),
    0.7: (81.0, 84.0),
    0.9: (77.0, 82.0),
}


def noise_lines(tasks=("SST-2", "MNLI"), noises=NOISES, **others):
    lines = []
    for task in tasks:
        for noise in noises:
            for scl_lambda, accuracy in zip((0, 0.9), ACCURACIES[noise], strict=True):
                of = setting(scl_lambda, task=task, N=100, noise=noise)
                place = f"{task}-{noise}"
                data = {"path": f"bin/{place}", "sha256": f"sha of {place}"}
                lines.append(line(f"{place}-{scl_lambda}", of, 80.0, accuracy, data=data, **others))
    return lines


def report(folder, lines, config):
    write_sweep(folder, lines, config=config)
    for one in lines:
        correct = [1] * round(one["test_accuracy"]) + [0] * round(100 - one["test_accuracy"])
        write_predictions(folder, one["trial"], "01" * 50, correct)
    return build([read_results(folder)], ReportSettings(resamples=100))


def test_the_noise_table_has_a_row_for_each_set_and_the_average(tmp_path):
    found = report(tmp_path, noise_lines(), NOISE)
    rows = raw_rows(found, "accuracy")
    assert [(row["task"], row["N"], row["noise"]) for row in rows] == [
        (task, 100, noise) for task in ("SST-2", "MNLI") for noise in (*NOISES, "average")
    ]
    of_sst2 = {row["noise"]: row for row in rows[:6]}
    assert of_sst2[0]["published CE mean"] == 91.1
    assert (of_sst2[0.9]["published CE+SCL mean"], of_sst2[0.9]["published CE+SCL sd"]) == (91.5, 1)
    average = of_sst2["average"]
    assert (average["CE top mean"], average["CE+SCL top mean"]) == (83, 86)
    assert average["difference of top means"] == 3
    assert (average["published CE mean"], average["published CE sd"]) == (91.3, 1.2)
    assert rows[-1]["published CE+SCL mean"] == 59.7
    text = FORMATS["markdown"](found)
    assert "0: the original training set alone" in text
    # What was chosen is not the noise.
    assert "noise" not in [c.name for c in table_of(found, "choice").columns][4:]


def test_no_average_of_fewer_sets_and_no_number_at_another_n(tmp_path):
    few = report(tmp_path / "few", noise_lines(noises=(0, 0.3, 0.9)), NOISE)
    assert [row["noise"] for row in raw_rows(few, "accuracy")] == [0, 0.3, 0.9] * 2
    small = noise_lines(("SST-2",))
    for one in small:
        one["setting"]["N"] = 20
    rows = raw_rows(report(tmp_path / "small", small, NOISE.replace("[100]", "[20]")), "accuracy")
    assert {row["published CE mean"] for row in rows[:5]} == {""}
    full = [row for row in rows if row["noise"] == "average"]
    assert [row["published CE mean"] for row in full] == [""]


def test_noise_is_no_option_of_fairseq(tmp_path):
    (tmp_path / "noise.yaml").write_text(NOISE, "utf-8")
    found = settings(read_config(tmp_path / "noise.yaml"))
    assert len(found) == 2 * 5 * 2
    from scl_fairseq.experiments.settings import DATA_KEYS

    assert "noise" in DATA_KEYS
    for value in ("loud", "-0.3", "true"):
        with pytest.raises(ValueError, match="noise: expected a temperature, or 0"):
            read_config(tmp_path / "noise.yaml", [f"grid.noise=[{value}]"])
    with pytest.raises(ValueError, match="names the data and belongs under grid"):
        read_config(tmp_path / "noise.yaml", ["options.noise=0.3"])


def transfer_lines():
    lines = []
    for task in ("Amazon-2", "Yelp-2"):
        for scl_lambda, accuracy in ((0, 80.0), (0.9, 84.0)):
            of = setting(scl_lambda, task=task, N=40)
            encoder = "of scl" if scl_lambda else "of ce"
            lines.append(line(f"{task}-{scl_lambda}", of, 80.0, accuracy, encoder_sha256=encoder))
    return lines


def test_the_transfer_table_starts_from_a_checkpoint_of_each_loss(tmp_path):
    found = report(tmp_path, transfer_lines(), TRANSFER)
    rows = raw_rows(found, "accuracy")
    assert [(row["task"], row["N"]) for row in rows] == [("Amazon-2", 40), ("Yelp-2", 40)]
    assert [(row["published CE mean"], row["published CE+SCL mean"]) for row in rows] == [
        (87.4, 90.3), (90.8, 91.2)
    ]  # fmt: skip
    assert "ce.pt" in FORMATS["markdown"](found)
    # Where the config does not say so, it is a mistake.
    one_start = TRANSFER.replace("ce.pt", "scl.pt")
    with pytest.raises(ValueError, match="two different encoders for task Amazon-2, N 40"):
        report(tmp_path / "other", transfer_lines(), one_start)
    # Nor may the two tasks' trials of one loss differ, or those of one loss in a place.
    lines = transfer_lines()
    again = {**lines[1], "trial": "again", "encoder_sha256": "third"}
    again["setting"] = {**again["setting"], "seed": 2}
    with pytest.raises(ValueError, match="two different encoders"):
        report(tmp_path / "third", [*lines, again], TRANSFER)
