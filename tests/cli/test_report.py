"""``scl-report``: what it prints and writes, and bad input."""

import json
import os
import subprocess
import sys

import pytest

from scl_fairseq.cli.report import main
from tests import runs
from tests.experiments.test_report import BY_HAND, FAILURES, LINES
from tests.experiments.test_results import write_sweep


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path / "out", LINES, FAILURES)


def test_markdown_is_printed(sweep, capsys):
    assert main([str(sweep), "--resamples", "100"]) == 0
    printed = capsys.readouterr().out
    assert BY_HAND in printed
    assert "100 resamples, seed 0" in printed
    assert main([str(sweep / "results.jsonl"), "--resamples", "100"]) == 0
    assert capsys.readouterr().out == printed


def test_options_reach_the_report(sweep, capsys):
    options = ["--top", "1", "--published", "none", "--resamples", "7", "--seed", "5"]
    assert main([str(sweep), *options]) == 0
    printed = capsys.readouterr().out
    # One run: 54 at the best validation accuracy, 55 of two equal ones.
    assert "| SST-2 | 20 |      54.0 | 63.0 ± 18.3 (4, 1 collapsed) |          55.0 |" in printed
    assert "published" not in printed
    assert "7 resamples, seed 5" in printed
    assert main([str(sweep), *options, "--title", "Another heading"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "# Another heading"


@pytest.mark.parametrize(
    ("name", "start"),
    [("markdown", "# few"), ("latex", "% few"), ("csv", "table,"), ("html", "<!")],
)
def test_a_file_is_written_whole(sweep, tmp_path, capsys, name, start):
    file = tmp_path / "new" / "report"
    assert main([str(sweep), "--format", name, "--out", str(file), "--resamples", "10"]) == 0
    assert file.read_text("utf-8").startswith(start)
    assert os.listdir(file.parent) == ["report"]
    assert capsys.readouterr().out == f"wrote {file}\n"


def refused(capsys, *arguments):
    """The one line of standard error."""
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    (line,) = captured.err.splitlines()
    assert line.startswith("scl-report: error: ")
    return line


def test_bad_input_is_one_line_and_exit_code_2(sweep, tmp_path, capsys):
    assert "results.jsonl does not exist" in refused(capsys, tmp_path)
    assert "nowhere does not exist" in refused(capsys, tmp_path / "nowhere")
    assert "--format html needs --out" in refused(capsys, sweep, "--format", "html")
    assert "invalid choice: 'table-2'" in refused(capsys, sweep, "--published", "table-2")
    assert "--top" in refused(capsys, sweep, "--top", 0)
    assert "--resamples" in refused(capsys, sweep, "--resamples", 0)
    assert "is there twice" in refused(capsys, sweep, sweep)
    assert refused(capsys).endswith("(see scl-report --help)")


def test_bad_files_are_named_and_nothing_is_written(sweep, tmp_path, capsys):
    old = tmp_path / "report"
    old.write_text("old")
    for text, message in [
        ("", "no finished trial in"),
        ("{}\n", "results.jsonl:1: missing trial"),
        (json.dumps(LINES[0]) + "\nx\n", "results.jsonl:2: no JSON object"),
        (json.dumps(LINES[0])[:50], "no finished trial in"),
    ]:
        (sweep / "results.jsonl").write_text(text, "utf-8")
        assert message in refused(capsys, sweep, "--out", old)
        assert old.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["out", "report"]


def test_help_is_light():
    code = (
        "import sys\nfrom scl_fairseq.cli.report import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "print({'torch', 'fairseq', 'numpy', 'scipy', 'matplotlib', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=runs.ENVIRONMENT,
        check=True,
    )  # fmt: skip
    assert "example:\n  scl-report outputs/few-shot\n" in done.stdout
    assert done.stdout.endswith("set()\n")


def test_a_report_needs_neither_torch_nor_fairseq(sweep):
    code = (
        "import sys\nfrom scl_fairseq.cli.report import main\n"
        f"main([{str(sweep)!r}])\nprint({{'torch', 'fairseq'}} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=runs.ENVIRONMENT,
        check=True,
    )  # fmt: skip
    assert done.stdout.endswith("set()\n"), done.stdout[-300:] + done.stderr
