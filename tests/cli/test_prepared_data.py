"""fairseq-train learns from what scl-sample and scl-preprocess write."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from scl_fairseq.data.tasks import TASKS
from tests import runs

BIN = Path(sys.executable).parent
# A word that gives each class away: what is learnt shows that labels and sentences belong together.
CLUES = {"SST-2": ("bad", "good"), "RTE": ("the film", "a plot"), "MNLI": ("a", "the", "film")}


def call(*arguments, cwd=None, **kwargs):
    return subprocess.run(
        list(map(str, arguments)),
        capture_output=True,
        text=True,
        env={**runs.ENVIRONMENT, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        check=True,
        cwd=cwd,
        **kwargs,
    )


def write_official(task, folder, num_rows=120):
    """Files in the official layout."""
    folder.mkdir(parents=True)
    width = {"MNLI": 7}.get(task.name, 0)
    names = [f"column{i}" for i in range(width)]
    header = ["index", *names, *task.sentence_columns, task.label_column]
    for split in ("train", "dev"):
        lines = ["\t".join(header)]
        for i in range(num_rows):
            label = (i * 7 + (split == "dev")) % len(task.labels)
            clue = CLUES[task.name][label]
            sentences = [f"what {clue} is this"] * len(task.sentence_columns)
            lines.append("\t".join([str(i), *names, *sentences, task.labels[label]]))
        (folder / task.files[split]).write_text("\n".join(lines) + "\n")


def accuracies(tiny, data, task, save_dir):
    separator = ["--separator-token", 2] if task.num_inputs == 2 else []
    options = ["--num-classes", len(task.labels), *separator, "--max-epoch", 40, "--no-save"]
    start = ["--restore-file", "none.pt"]  # another dictionary than the encoder's
    arguments = runs.command(SimpleNamespace(**{**vars(tiny), "data": data}), save_dir,
                             *options, *start)  # fmt: skip
    output = runs.train(arguments).stdout
    assert "skipped" not in output
    valid = "\n".join(line for line in output.splitlines() if "valid on" in line)
    return runs.logged(valid, "accuracy")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "MNLI" else ()) for name in CLUES],
)
def test_fairseq_train_learns_from_samples(name, tiny, gpt2_files, tmp_path):
    task = TASKS[name]
    write_official(task, tmp_path / "data")
    call(BIN / "scl-sample", "--task", name, "--data-dir", tmp_path / "data", "--per-class", 20,
         "--num-samples", 1, "--out", tmp_path / "samples")  # fmt: skip
    bpe = ["--bpe", "gpt2", "--bpe-dir", gpt2_files]
    call(BIN / "scl-preprocess", "--task", name, "--data-dir", tmp_path / "samples" / "sample0",
         *bpe, "--destdir", tmp_path / "bin")  # fmt: skip
    report = json.loads((tmp_path / "bin" / "preprocess.json").read_text())
    assert report["splits"]["train"]["rows"] == 20 * len(task.labels)
    assert max(accuracies(tiny, tmp_path / "bin", task, tmp_path / "run")) == 100


def test_fairseq_train_learns_from_official_files(tiny, gpt2_files, tmp_path):
    """Through the script that does several tasks in one call."""
    task = TASKS["MNLI"]
    write_official(task, tmp_path / "glue" / "MNLI")
    write_official(TASKS["RTE"], tmp_path / "glue" / "RTE")
    script = runs.ROOT / "scripts" / "preprocess_glue.sh"
    done = subprocess.run(
        [script, tmp_path / "glue", gpt2_files, tmp_path / "out"],
        env={**runs.ENVIRONMENT, "TASKS": "MNLI RTE", "PATH": f"{BIN}{os.pathsep}{os.defpath}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "note: " in done.stdout  # names the files that are not there
    assert "RTE: done" in done.stdout
    assert max(accuracies(tiny, tmp_path / "out" / "MNLI-bin", task, tmp_path / "run")) == 100


def test_the_few_shot_script_does_the_whole_way(gpt2_files, tmp_path):
    write_official(TASKS["RTE"], tmp_path / "glue" / "RTE")
    script = runs.ROOT / "scripts" / "preprocess_few_shot.sh"
    environment = {"TASKS": "RTE", "NUM_EXAMPLES": "4 10", "PATH": f"{BIN}{os.pathsep}{os.defpath}"}
    for num_samples in ("3", "2"):  # the second call replaces the first
        subprocess.run(
            [script, tmp_path / "glue", gpt2_files, tmp_path / "out"],
            env={**runs.ENVIRONMENT, **environment, "NUM_SAMPLES": num_samples},
            capture_output=True,
            check=True,
        )
    for size in ("4", "10"):
        folder = tmp_path / "out" / "RTE" / size
        assert sorted(path.name for path in (folder / "bin").iterdir()) == ["sample0", "sample1"]
        report = json.loads((folder / "bin" / "sample1" / "preprocess.json").read_text())
        assert report["splits"]["train"]["rows"] == int(size)


def assert_no_process_of_group(group):
    """The system may take a moment to forget a process that has ended."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("workers are still there")


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_the_old_result(name, gpt2_files, tmp_path):
    """Ctrl-C reaches every process of the terminal; a batch system's SIGTERM the command alone."""
    task = TASKS["SST-2"]
    write_official(task, tmp_path / "data")
    arguments = [BIN / "scl-preprocess", "--task", "SST-2", "--data-dir", tmp_path / "data",
                 "--bpe", "gpt2", "--bpe-dir", gpt2_files, "--destdir", tmp_path / "out",
                 "--workers", "2"]  # fmt: skip
    call(*arguments)
    before = sorted(path.read_bytes() for path in (tmp_path / "out").rglob("*.*"))
    rows = "".join(
        f"{i}\tunique{i} words{i * 7} of{i * 11} every{i} row\t1\n" for i in range(900_000)
    )
    (tmp_path / "data" / "train.tsv").write_text("index\tsentence\tlabel\n" + rows)
    process = subprocess.Popen(
        list(map(str, arguments)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob(".out.*.new/input0/train.bin")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    if name == signal.SIGINT:
        os.killpg(process.pid, name)
    else:
        process.send_signal(name)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert output == "scl-preprocess: interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
    assert sorted(path.read_bytes() for path in (tmp_path / "out").rglob("*.*")) == before
    assert_no_process_of_group(process.pid)


def wait_until_caught(process, number):
    """Until the command catches a signal, which on a busy machine takes a while."""
    deadline = time.monotonic() + 600
    while process.poll() is None:
        assert time.monotonic() < deadline
        status = Path("/proc", str(process.pid), "status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) >> (number - 1) & 1:
            return
        time.sleep(0.01)


def test_signals_while_many_workers_start(tmp_path):
    """Whenever it comes, the command ends at once with one line, or has finished its work."""
    rows = "".join(f"{i}\tunique{i} words{i * 7}\t{i % 2}\n" for i in range(900_000))
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("index\tsentence\tlabel\n" + rows)
    draw = ["--num-examples", 20, "--num-samples", 1, "--workers", 24]
    arguments = [BIN / "scl-sample", "--task", "SST-2", "--data-dir", tmp_path, *draw]
    for turn in range(10):
        process = subprocess.Popen(
            [*map(str, arguments), "--out", str(tmp_path / "out")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        wait_until_caught(process, signal.SIGTERM)
        time.sleep(0.05 * turn)
        if turn % 2:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.terminate()
        output, _ = process.communicate(timeout=600)
        assert (process.returncode, output) == (130, "scl-sample: interrupted\n")
        assert not (tmp_path / "out").exists()
        assert_no_process_of_group(process.pid)


def test_workers_end_when_the_command_was_killed(gpt2_files, tmp_path):
    write_official(TASKS["SST-2"], tmp_path / "data")
    rows = "".join(f"{i}\tunique{i} words{i * 7}\t1\n" for i in range(900_000))
    (tmp_path / "data" / "train.tsv").write_text("index\tsentence\tlabel\n" + rows)
    process = subprocess.Popen(
        [BIN / "scl-preprocess", "--task", "SST-2", "--data-dir", tmp_path / "data",
         "--bpe", "gpt2",
         "--bpe-dir", gpt2_files, "--destdir", tmp_path / "out", "--workers", "2"],
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob(".out.*.new/input0/train.bin")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert_no_process_of_group(process.pid)


def test_nothing_heavy_is_imported(gpt2_files, tmp_path):
    """Half of fairseq's own time is its start."""
    write_official(TASKS["RTE"], tmp_path / "data")
    for module, arguments in (
        ("sample", ["--num-examples", 4, "--num-samples", 1, "--out", tmp_path / "samples"]),
        ("preprocess", ["--bpe", "gpt2", "--bpe-dir", gpt2_files, "--destdir", tmp_path / "out"]),
    ):
        named = ["--task", "RTE", "--data-dir", tmp_path / "data", *arguments]
        code = (
            f"import sys; from scl_fairseq.cli.{module} import main\n"
            f"assert main({list(map(str, named))!r}) == 0\n"
            "print(sorted({'torch', 'fairseq', 'transformers', 'tqdm'} & set(sys.modules)))"
        )
        done = call(sys.executable, "-c", code)
        assert done.stdout.endswith("[]\n"), done.stdout
