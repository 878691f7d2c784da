"""Reports: a table worked out by hand, what stands beside it, and the formats."""

import csv
import html.parser
import io
import json
import re
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scl_fairseq.experiments.report import ReportSettings, build
from scl_fairseq.experiments.report_formats import FORMATS, NO_MATPLOTLIB
from scl_fairseq.experiments.results import read_results
from tests.experiments.test_results import (
    CONFIG,
    failure,
    line,
    setting,
    write_predictions,
    write_sweep,
)
from tests.experiments.test_selection import runs

FEW_RESAMPLES = ReportSettings(resamples=200)

# Pairs of validation and test accuracy. Top 3 by validation: 54, 58, 50, of mean 54 and variance
# (0 + 16 + 16) / 2 = 16. All: mean 63, variance (13² + 9² + 5² + 27²) / 3 = 334.67, sd 18.29.
# The last is best on the test set, worst on validation, and collapsed (50 <= 50.9).
CE = [(60.0, 50.0), (70.0, 54.0), (65.0, 58.0), (50.0, 90.0)]
# Validation 64 in the mean, so not chosen, though better on the test set: 60, 63, 66, mean 63,
# variance 9. The fourth failed.
FIXED = [(66.0, 60.0), (64.0, 63.0), (62.0, 66.0)]
# Validation of the top 3: (70 + 70 + 67) / 3 = 69. Test 55, 57, 59: mean 57, variance 4. All: mean
# 67.5, variance (12.5² + 10.5² + 8.5² + 31.5²) / 3 = 443.67, sd 21.06.
CHOSEN = [(70.0, 55.0), (70.0, 57.0), (67.0, 59.0), (60.0, 99.0)]
LINES = [*runs("ce", CE, 0), *runs("fixed", FIXED, 0.9), *runs("chosen", CHOSEN, 0.5)]
FAILURES = [failure("fixed3", setting(0.9, sample=3), "CUDA out of memory | tried <b>2 GiB</b>")]
BY_HAND = """\
| task  |  N |  CE: top 3 |                      CE: all | CE+SCL: top 3 |     CE+SCL: all | \
CE+SCL 0.9/0.3: top 3 |           CE+SCL 0.9/0.3: all | difference | published CE | \
published CE+SCL |
| ----- | -: | ---------: | ---------------------------: | ------------: | --------------: | \
--------------------: | ----------------------------: | ---------: | -----------: | \
---------------: |
| SST-2 | 20 | 54.0 ± 4.0 | 63.0 ± 18.3 (4, 1 collapsed) |    57.0 ± 2.0 | 67.5 ± 21.1 (4) | \
           63.0 ± 3.0 | 63.0 ± 3.0 (3 of 4, 1 failed) |       +3.0 |   85.9 ± 2.1 | \
      88.1 ± 3.3 |
"""
CHOICES_BY_HAND = """\
| task  |  N | loss           | scl-lambda | scl-temperature | validation: top 3 |   runs | \
collapsed | failed | chosen from | runs in all |
| ----- | -: | -------------- | ---------: | --------------: | ----------------: | -----: | \
--------: | -----: | ----------: | ----------: |
| SST-2 | 20 | CE             |          0 |               — |              65.0 |      4 | \
        1 |      0 |           1 |           4 |
| SST-2 | 20 | CE+SCL         |        0.5 |             0.3 |              69.0 |      4 | \
        0 |      0 |           2 |      7 of 8 |
| SST-2 | 20 | CE+SCL 0.9/0.3 |        0.9 |             0.3 |              64.0 | 3 of 4 | \
        0 |      1 |           1 |      3 of 4 |
"""


def report_of(folder, lines=LINES, failures=FAILURES, config=CONFIG, options=FEW_RESAMPLES):
    return build([read_results(write_sweep(folder, lines, failures, config))], options)


def table_of(report, name):
    (found,) = [table for table in report.tables if table.name == name]
    return found


def raw_rows(report, name):
    """Rows of a table as dictionaries of its raw values."""
    table = table_of(report, name)
    names = [raw for column in table.columns for raw in column.raw]
    return [
        dict(zip(names, [raw for entry in row for raw in entry.raw], strict=True))
        for row in table.rows
    ]


def test_the_tables_worked_out_by_hand(tmp_path):
    text = FORMATS["markdown"](report_of(tmp_path))
    assert text.startswith("# few-shot\n\n- Trials: 11 finished, 1 failed; 1 of the finished col")
    assert f"## Test accuracy\n\n{BY_HAND}\n- Test accuracy in percent" in text
    assert f"## Chosen hyper-parameters\n\n{CHOICES_BY_HAND}\n" in text
    assert "more to choose from is an advantage" in text
    assert "No test here is about a published number." in text


def test_raw_numbers(tmp_path):
    (row,) = raw_rows(report_of(tmp_path), "accuracy")
    assert row["CE top mean"] == pytest.approx(54)
    assert row["CE all sd"] == pytest.approx((1004 / 3) ** 0.5)
    assert row["CE+SCL all sd"] == pytest.approx((1331 / 3) ** 0.5)
    assert row["difference of top means"] == pytest.approx(3)
    assert (row["CE+SCL 0.9/0.3 all runs"], row["CE+SCL 0.9/0.3 all expected runs"]) == (3, 4)
    assert (row["published CE mean"], row["published CE sd"]) == (85.9, 2.1)
    assert row["published CE certainty"] == "stands in the source documents"


def test_nothing_on_the_test_set_decides_what_is_chosen(tmp_path):
    changed = [{**one, "test_accuracy": 100 - one["test_accuracy"]} for one in LINES]
    report, other = report_of(tmp_path / "a"), report_of(tmp_path / "b", changed)
    assert table_of(other, "choice") == table_of(report, "choice")
    (row,) = raw_rows(other, "accuracy")
    assert row["CE top mean"] == pytest.approx(100 - 54)
    assert row["CE+SCL top mean"] == pytest.approx(100 - 57)


@given(order=st.permutations(range(len(LINES))))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_order_of_lines_changes_nothing(order, tmp_path):
    expected = report_of(tmp_path)
    shuffled = report_of(tmp_path, [LINES[index] for index in order], FAILURES * 2)
    assert shuffled == expected
    assert FORMATS["csv"](shuffled) == FORMATS["csv"](expected)


def test_several_folders_are_one_report(tmp_path):
    one = read_results(write_sweep(tmp_path / "one", LINES[:5], FAILURES))
    two = read_results(write_sweep(tmp_path / "two", LINES[5:]))
    together = build([one, two], FEW_RESAMPLES)
    assert table_of(together, "accuracy") == table_of(report_of(tmp_path / "all"), "accuracy")


def test_few_runs_are_marked(tmp_path):
    report = report_of(tmp_path, LINES[:2] + LINES[4:5] + LINES[7:8], [])
    (texts,) = table_of(report, "accuracy").texts
    # The tie of validation accuracy is none: 70 against 66. sd of 50 and 54: sqrt(8).
    assert texts[2:6] == [
        "52.0 ± 2.8 (top 2)", "52.0 ± 2.8 (2 of 4)", "55.0 (top 1)", "55.0 (1 of 4)",
    ]  # fmt: skip


def test_one_loss_alone(tmp_path):
    report = report_of(tmp_path, runs("ce", CE, 0), [])
    (texts,) = table_of(report, "accuracy").texts
    assert texts[2:] == [
        "54.0 ± 4.0", "63.0 ± 18.3 (4, 1 collapsed)", "—", "—", "—", "85.9 ± 2.1", "88.1 ± 3.3",
    ]  # fmt: skip
    assert table_of(report, "tests").rows == ()
    assert "## Tests\n\nNothing to show.\n" in FORMATS["markdown"](report)


def test_a_place_where_all_failed(tmp_path):
    failed = [failure("x", setting(0, N=100))]
    report = report_of(tmp_path, LINES, failed)
    texts = table_of(report, "accuracy").texts
    assert [row[:4] for row in texts][1] == ["SST-2", "100", "—", "—"]
    assert raw_rows(report, "choice")[-1]["failed"] == ""


def test_failed_and_collapsed_trials_are_listed(tmp_path):
    rows = table_of(report_of(tmp_path), "problems").texts
    place = "task SST-2, N 20, scl-lambda"
    assert rows == [
        [
            "fixed3", "failed", f"{place} 0.9, scl-temperature 0.3, sample 3, seed 1",
            "CUDA out of memory | tried <b>2 GiB</b>", f"{tmp_path}/trials/fixed3/train.log",
        ],
        [
            "ce3", "collapsed", f"{place} 0, sample 3, seed 1",
            "validation accuracy 50.0; one class always: 50.9", f"{tmp_path}/trials/ce3/train.log",
        ],
    ]  # fmt: skip
    table = table_of(report_of(tmp_path, failures=[]), "problems")
    assert [row[:2] for row in table.texts] == [["ce3", "collapsed"]]
    well = [one for one in LINES if one["trial"] != "ce3"]
    names = [table.name for table in report_of(tmp_path, well, []).tables]
    assert names == ["accuracy", "choice", "tests"]


def test_the_tests_are_named_with_their_numbers(tmp_path):
    # Of four examples the chosen configuration has always three, CE always two, but of other ones.
    lines = []
    for sample in range(3):
        for name, lam, correct in (("ce", 0, [1, 1, 0, 0]), ("scl", 0.5, [1, 0, 1, 1])):
            of = setting(lam, sample=sample)
            lines.append(line(f"{name}{sample}", of, 60.0, 25.0 * sum(correct), num_test=4))
            write_predictions(tmp_path, f"{name}{sample}", "0101", correct)
    over_runs, over_examples = raw_rows(report_of(tmp_path, lines, []), "tests")
    assert (over_runs["first"], over_runs["second"]) == ("CE", "CE+SCL")
    assert over_runs["test"] == "Welch's t-test over runs"
    assert (over_runs["n"], over_runs["difference"], over_runs["p"]) == ("3 and 3 runs", 25.0, "")
    assert over_runs["undefined because"] == "no variance on either side"
    assert over_examples["test"] == "paired bootstrap over test examples"
    assert over_examples["n"] == "3 pairs of runs, 4 examples"
    assert over_examples["difference"] == pytest.approx(25)
    assert over_examples["low"] < 25 < over_examples["high"]
    assert 0.2 < over_examples["p"] < 1


def test_missing_predictions_are_said(tmp_path):
    rows = raw_rows(report_of(tmp_path), "tests")
    assert [row["second"] for row in rows] == ["CE+SCL"] * 2 + ["CE+SCL 0.9/0.3"] * 2
    assert [row["p"] for row in rows[::2]] == [pytest.approx(0.757, abs=0.01), pytest.approx(1.0)]
    assert all("predictions.tsv is missing" in row["undefined because"] for row in rows[1::2])


def test_predictions_of_another_run_are_refused(tmp_path):
    write_predictions(tmp_path, "ce0", "0101", [1, 1, 0, 0])
    for one in ("chosen0", "ce1", "chosen1", "ce2", "chosen2", "ce3", "chosen3"):
        write_predictions(tmp_path, one, "0101", [1, 1, 0, 0])
    with pytest.raises(ValueError, match=r"4 predictions, 50.00 % of them correct; .* has 100"):
        report_of(tmp_path)


GLUE_CONFIG = """\
name: glue
published: glue
data: glue/{task}/bin
grid:
  task: [SST-2, CoLA, MRPC, RTE, QNLI, MNLI]
  seed: [1, 2]
  scl-lambda: [0, 0.9]
options: {lr: 5e-5, batch-size: 16, max-epoch: 2, arch: roberta, finetune-from-model: model.pt}
"""


def glue_lines(tasks):
    """Of each task two seeds; CE's better one is at 80, CE+SCL's at 81, 82, ... on the test set."""
    lines = []
    for number, task in enumerate(tasks):
        for lam, best in ((0, 80.0), (0.9, 81.0 + number)):
            for seed, valid, test in ((1, 60.0, 95.0), (2, 70.0, best)):
                of = setting(lam, None, None, seed, task, None, arch="roberta")
                lines.append(line(f"{task}{lam}{seed}", of, valid, test))
    return lines


def test_glue_takes_the_one_best_seed_and_averages_six_tasks(tmp_path):
    tasks = ["MNLI", "QNLI", "RTE", "MRPC", "CoLA", "SST-2"]
    report = report_of(tmp_path, glue_lines(tasks), [], GLUE_CONFIG)
    table = table_of(report, "accuracy")
    assert table.header[:3] == ["task", "CE: top 1", "CE: all"]
    rows = {row[0]: row[1:] for row in table.texts}
    assert list(rows) == ["SST-2", "CoLA", "MRPC", "RTE", "QNLI", "MNLI", "average"]
    # 95 and 80: mean 87.5, sd 10.6. MNLI has 81, CoLA 85 and SST-2 86.
    assert rows["MNLI"][:4] == ["80.0", "87.5 ± 10.6 (2)", "81.0", "88.0 ± 9.9 (2)"]
    assert rows["CoLA"][-3:] == ["+5.0", "86.4 [a]", "87.3"]
    # (81 + ... + 86) / 6 = 83.5
    assert rows["average"][0] == "80.0"
    assert rows["average"][2] == "83.5"
    assert rows["average"][-3:] == ["+3.5", "89.7", "90.3"]
    assert "[a] blank in the source documents, read elsewhere." in table.notes[-1]
    # Lambda 0.9 and the default tau alone: no column beside the tuned one, and tau is shown.
    assert not any("0.9/0.3" in name for name in table.header)
    assert any("CE+SCL: at lambda 0.9 and tau 0.3" in note for note in table.notes)
    chosen = [row[:4] for row in table_of(report, "choice").texts]
    assert chosen[:2] == [["SST-2", "CE", "0", "—"], ["SST-2", "CE+SCL", "0.9", "0.3"]]
    assert report.summary[1] == (
        "Encoder: arch roberta, finetune-from-model model.pt; sha256 53aa51172d14."
    )


def test_glue_has_no_average_of_fewer_tasks(tmp_path):
    lines = glue_lines(["MNLI", "QNLI"])
    report = report_of(tmp_path, lines, [], GLUE_CONFIG, ReportSettings(top=2))
    assert [row[0] for row in table_of(report, "accuracy").texts] == ["QNLI", "MNLI"]
    assert table_of(report, "accuracy").header[1] == "CE: top 2"


def test_there_is_no_average_beside_other_tables(tmp_path):
    lines = glue_lines(["SST-2", "CoLA", "MRPC", "RTE", "QNLI", "MNLI"])
    report = report_of(tmp_path, lines, [], GLUE_CONFIG, ReportSettings("none", resamples=10))
    assert len(table_of(report, "accuracy").rows) == 6


def test_published_numbers_of_whole_training_sets_do_not_stand_beside_samples(tmp_path):
    report = report_of(tmp_path, options=ReportSettings("glue", resamples=10))
    (texts,) = table_of(report, "accuracy").texts
    assert texts[-2:] == ["—", "—"]


def test_no_published_table(tmp_path):
    for options in (ReportSettings("none", resamples=10), ReportSettings(resamples=10)):
        config = CONFIG if options.published else CONFIG.replace("published: few-shot\n", "")
        table = table_of(report_of(tmp_path, config=config, options=options), "accuracy")
        assert table.header[-1] == "difference"
        assert not any("published" in note for note in table.notes)


def test_configs_that_name_different_tables_need_a_choice(tmp_path):
    one = read_results(write_sweep(tmp_path / "one", LINES))
    two = read_results(write_sweep(tmp_path / "two", glue_lines(["RTE"]), config=GLUE_CONFIG))
    with pytest.raises(ValueError, match=r"few-shot, glue\); choose with --published"):
        build([one, two], FEW_RESAMPLES)
    report = build([one, two], ReportSettings("few-shot", resamples=10))
    assert report.title == "few-shot and glue"
    assert len(report.summary) == 6
    assert [row[:2] for row in table_of(report, "accuracy").texts] == [
        ["SST-2", "20"],
        ["RTE", "—"],
    ]


def test_batch_sizes_stand_apart_with_their_speed(tmp_path):
    lines = []
    for size, speeds in ((256, (1.0, 9.0, 2.0)), (16, (5.0,))):
        for seed, speed in enumerate(speeds):
            of = setting(0.9, 0.3, None, seed, "CoLA", None, batch_size=size)
            changes = {"updates_per_second": speed, "device": f"GPU {size}"}
            lines.append(line(f"{size}-{seed}", of, 60.0 + seed, 70.0 + seed, **changes))
    config = GLUE_CONFIG.replace("published: glue", "published: batch-size")
    report = report_of(tmp_path, lines, [], config)
    accuracy = table_of(report, "accuracy")
    assert [row[:2] + row[-2:] for row in accuracy.texts] == [
        ["CoLA", "16", "—", "83.4"],
        ["CoLA", "256", "—", "84.9"],
    ]
    assert accuracy.text_columns == {0}  # not the one without any number either
    assert table_of(report, "speed").text_columns == {0, 2, 5}
    assert table_of(report, "speed").texts == [
        ["CoLA", "16", "CE+SCL", "70.0", "5.00", "GPU 16"],
        ["CoLA", "256", "CE+SCL", "72.0", "2.00", "GPU 256"],
    ]
    assert "More than one device: differences" in " ".join(report.summary)


def test_mixed_versions_devices_and_encoders_are_said(tmp_path):
    assert not any("More than one" in text for text in report_of(tmp_path).summary)
    versions = {"scl-fairseq": "0.1.0", "torch": "2.9"}
    lines = [{**LINES[0], "device": "cuda: H200", "versions": versions}, *LINES[1:]]
    lines += runs("q", CE, 0, task="QNLI", encoder_sha256=None)
    lines[-4:] = [{**one, "encoder_sha256": "other"} for one in lines[-4:]]
    summary = "\n".join(report_of(tmp_path, lines).summary)
    assert "Device: cpu: one, 1 thread, cuda: H200." in summary
    assert "Versions: scl-fairseq 0.1.0, torch 2.1 and 2.9." in summary
    assert "More than one device, encoder, version of torch: differences between" in summary


def test_the_embedded_encoder_is_described(tmp_path):
    assert "1.17 billion pairs, among them MultiNLI" in report_of(tmp_path).summary[1]
    summary = report_of(tmp_path, config=CONFIG.replace("encoder: embedded\n", "")).summary
    assert summary[1] == "Encoder: named nowhere; sha256 53aa51172d14."


def test_without_a_config_the_report_says_what_it_does_not_know(tmp_path):
    write_sweep(tmp_path, LINES, FAILURES, None)
    report = build([read_results(tmp_path)], FEW_RESAMPLES)
    assert report.title == "Results"
    assert "There is no config.yaml" in report.summary[-1]
    assert table_of(report, "accuracy").header[-1] == "difference"


def test_no_result_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"no finished trial in .*; 1 failed"):
        report_of(tmp_path, [])


# Formats


def test_csv_is_one_rectangle(tmp_path):
    report = report_of(tmp_path)
    text = FORMATS["csv"](report)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {len(row) for row in csv.reader(io.StringIO(text))} == {len(rows[0])}
    (accuracy,) = [row for row in rows if row["table"] == "accuracy" and not row["note"]]
    assert float(accuracy["CE+SCL all mean"]) == 67.5
    assert accuracy["CE+SCL all runs"] == "4"
    assert accuracy["trial"] == ""
    problems = [row for row in rows if row["table"] == "problems" and not row["note"]]
    assert problems[0]["message"] == "CUDA out of memory | tried <b>2 GiB</b>"
    notes = [row["note"] for row in rows if row["note"]]
    assert notes == [*report.summary, *(note for table in report.tables for note in table.notes)]


def test_latex_is_balanced_and_escaped(tmp_path):
    odd = '50 % of $x_1 & #2 ~ ^ \\ {a} <b> "c" | [d] *'
    text = FORMATS["latex"](
        report_of(tmp_path, failures=[failure("f", setting(0.9, sample=3), odd)])
    )
    assert (
        r"50 \% of \$x\_1 \& \#2 \textasciitilde{} \textasciicircum{} \textbackslash{} \{a\} "
        r"\textless{}b\textgreater{} \textquotedbl{}c\textquotedbl{} \textbar{} {[}d] {*}"
    ) in text
    assert r"SST-2 & 20 & 54.0 $\pm$ 4.0 & 63.0 $\pm$ 18.3 (4, 1 collapsed) & " in text
    body = re.sub(r"^%.*", "", text, flags=re.MULTILINE)
    plain = re.sub(r"\\[{}]", "", body)
    depth = 0
    for character in plain:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    begun = re.findall(r"\\begin\{(\w+)\}", body)
    assert sorted(begun) == sorted(re.findall(r"\\end\{(\w+)\}", body))
    for tabular in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", body, re.DOTALL):
        alignment = re.match(r"\{([lr]+)\}", tabular)[1]
        lines = re.findall(r"^(.*) \\\\$", tabular, re.MULTILINE)
        assert len(lines) >= 2
        for found in lines:
            assert len(re.split(r"(?<!\\)&", found)) == len(alignment)
    assert re.sub(r"[^\x00-\x7f]", "", body) == body


def test_markdown_is_not_broken_by_messages(tmp_path):
    odd = "a | b\n\n# <script>alert(1)</script>\x1b[31m"
    text = FORMATS["markdown"](report_of(tmp_path, failures=[failure("f", setting(0.9), odd)]))
    assert r" | a \| b # \<script>alert(1)\</script> [31m " in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(row) for row in block.splitlines()}) == 1


class Page(html.parser.HTMLParser):
    """Checks that every tag is closed, and collects text and addresses."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.attributes = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def assert_self_contained(text):
    assert not re.search(r"https?:", text)
    assert "@import" not in text
    page = Page(text)
    for tag, name, value in page.attributes:
        assert tag not in ("script", "link", "iframe")
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:image/"))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for address in re.findall(r'(?:href="|url\()#([^")]+)', text):
        assert address in ids
    return page


def test_html_is_one_page(tmp_path):
    pytest.importorskip("matplotlib")
    lines = [*LINES, *runs("l", CE, 0, N=100), *runs("m", CHOSEN, 0.9, N=100)]
    odd = "<script>alert('&')</script>"
    report = report_of(tmp_path, lines, [failure("f", setting(0.9, sample=3), odd)])
    text = FORMATS["html"](report)
    page = assert_self_contained(text)
    assert odd in page.texts
    for table in report.tables:
        for row in table.texts:
            assert {cell for cell in row if cell} <= set(page.texts)
    drawn = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(drawn) >= 2
    assert FORMATS["html"](report) == text  # no date, no random names


def test_figures_are_told_apart_and_labelled(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from scl_fairseq.experiments import result_figures

    asked = []

    def figures_for(results, configs, top):
        asked.append(([result.trial for result in results], configs, top))
        figures = {"first & <last>": Figure(), "second": Figure()}
        for figure in figures.values():
            figure.subplots().plot([1, 2], [3, 4], marker="o")
        return figures

    monkeypatch.setattr(result_figures, "figures_for", figures_for)
    report = report_of(tmp_path, options=ReportSettings(top=2, resamples=10))
    page = assert_self_contained(FORMATS["html"](report))
    labels = [value for tag, name, value in page.attributes if name == "aria-label"]
    assert labels == ["first & <last>", "second"]
    ((trials, configs, top),) = asked
    assert sorted(trials) == sorted(one["trial"] for one in LINES)
    assert ([config.name for config in configs], top) == (["few-shot"], 2)


def test_without_matplotlib_the_page_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = assert_self_contained(FORMATS["html"](report_of(tmp_path)))
    assert NO_MATPLOTLIB in page.texts
    assert "pip install '.[plot]'" in NO_MATPLOTLIB


def test_numbers_are_what_json_holds(tmp_path):
    # 57.11009174311926 and the like: nothing is rounded on the way.
    lines = [line("a", setting(0), 60.0, json.loads("57.11009174311926"))]
    (row,) = raw_rows(report_of(tmp_path, lines, []), "accuracy")
    assert row["CE top mean"] == 57.11009174311926
