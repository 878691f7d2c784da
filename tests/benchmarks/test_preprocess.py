"""What a benchmark could get wrong in silence: what it sums, what it compares, what it feeds."""

import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import cases, pipelines, preprocess, process_memory

MB = preprocess.MB
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is read from /proc"
)

# Each holds so many bytes, written so that they are resident, says so by a file in a folder, and
# ends when told to by another: however busy the machine is, they are looked at meanwhile.
HOLD = """
import os, sys, time
folder, held = sys.argv[1], b"x" * int(sys.argv[2])
def wait():
    open(f"{folder}/held-{os.getpid()}", "w").close()
    for _ in range(30_000):  # ten minutes, should nobody look
        if os.path.exists(f"{folder}/release"):
            break
        time.sleep(0.02)
"""
ALONE = f"{HOLD}wait()"
PARENT = f"""{HOLD}
import subprocess
child = subprocess.Popen([sys.executable, "-c", {ALONE!r}, folder, sys.argv[3]])
wait()
child.wait()
"""
# The middle one ends at once, and the one that it started is nobody's child here any more.
ORPHANING = f"""{HOLD}
import subprocess
start = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]])"
subprocess.run([sys.executable, "-c", start, {ALONE!r}, folder, sys.argv[3]], check=True)
wait()
"""
FORK = f"""{HOLD}
child = os.fork()
wait()
if child:
    os.wait()
"""


@pytest.fixture
def peak(tmp_path, monkeypatch):
    """``peak(script, *sizes)``: the most memory of a process for each size.

    Every one of them is released once the memory has been looked at while they all held theirs.
    """
    look = process_memory.held

    def measure(script, *sizes):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()

        def held(root):
            are_ready = len(list(folder.glob("held-*"))) == len(sizes)
            found = look(root)
            if are_ready:
                (folder / "release").touch()
            return found

        monkeypatch.setattr(process_memory, "held", held)
        words = [sys.executable, "-c", script, str(folder), *map(str, sizes)]
        return process_memory.peak_memory(words, folder / "log")

    return measure


@needs_proc
def test_memory_is_summed_over_parent_and_child(peak):
    empty = peak(PARENT, 1, 1)
    full = peak(PARENT, 100 * MB, 150 * MB)
    assert empty.size < 60 * MB
    assert full.size - empty.size > 240 * MB
    assert full.kind in ("PSS", "RSS")


@needs_proc
def test_memory_of_an_orphaned_process_counts(peak):
    assert peak(ORPHANING, 1, 150 * MB).size > 150 * MB


@needs_proc
def test_memory_of_others_does_not_count(peak, tmp_path):
    own = tmp_path / "others"
    own.mkdir()
    other = subprocess.Popen([sys.executable, "-c", ALONE, str(own), str(300 * MB)])
    try:
        while not list(own.glob("held-*")):
            assert other.poll() is None
            time.sleep(0.02)
        assert peak(ALONE, 1).size < 60 * MB
    finally:
        other.kill()
        other.wait()


@needs_proc
def test_pages_that_processes_share_count_once(tmp_path):
    """Looked at while both stand still: a look takes one process after the other."""
    process = subprocess.Popen([sys.executable, "-c", FORK, str(tmp_path), "200000000"])
    try:
        while len(list(tmp_path.glob("held-*"))) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        measured = process_memory.held(process.pid)
    finally:
        (tmp_path / "release").touch()
        process.wait()
    if measured.kind != "PSS":
        pytest.skip("this kernel does not tell what is shared")
    assert 200 * MB < measured.size < 260 * MB


def test_a_failing_command_is_named(tmp_path):
    words = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    with pytest.raises(pipelines.Failed, match="exit code 1: no such thing"):
        pipelines.seconds([words], tmp_path / "log")


def test_seconds_are_summed_over_commands(tmp_path):
    words = [sys.executable, "-c", "import time; time.sleep(0.2)"]
    assert pipelines.seconds([words, words], tmp_path / "log") > 0.4


def test_an_interrupted_command_does_not_go_on(tmp_path):
    mark = tmp_path / "went on"
    late = f"import pathlib, time; time.sleep(1); pathlib.Path({str(mark)!r}).touch()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {late!r}])"

    def interrupted():
        with pipelines.started([sys.executable, "-c", nested], tmp_path / "log"):
            time.sleep(0.3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    time.sleep(1.5)
    assert not mark.exists()


@pytest.fixture
def twice(tmp_path):
    """Two equal prepared folders, in which a file differs in nothing but what a test changes."""
    for side in ("scl", "fairseq"):
        for part, split, end in itertools.product(
            ("input0", "input1", "label"), ("train", "valid"), ("bin", "idx")
        ):
            path = tmp_path / side / part / f"{split}.{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{part} {split} {end}".encode() * 1000)
    (tmp_path / "fairseq" / "label" / "preprocess.log").touch()
    (tmp_path / "fairseq" / "encoded").mkdir()
    (tmp_path / "fairseq" / "encoded" / "train.input0").touch()
    return tmp_path / "scl", tmp_path / "fairseq"


def test_equal_folders_pass(twice):
    assert pipelines.compare(*twice) == 12


@pytest.mark.parametrize("name", ["input0/train.bin", "input1/valid.idx", "label/train.bin"])
def test_a_differing_byte_is_found(twice, name):
    path = twice[0] / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(pipelines.Failed, match=f"{name} of scl-preprocess differs"):
        pipelines.compare(*twice)


@pytest.mark.parametrize(("side", "named"), [(0, "scl-preprocess"), (1, "fairseq's pipeline")])
def test_a_missing_file_is_found(twice, side, named):
    (twice[side] / "input1" / "valid.bin").unlink()
    with pytest.raises(pipelines.Failed, match=f"{named} did not write input1/valid.bin"):
        pipelines.compare(*twice)


def test_two_empty_folders_are_not_equal(twice):
    for folder in twice:
        shutil.rmtree(folder)
        folder.mkdir()
    with pytest.raises(pipelines.Failed, match="no binary files"):
        pipelines.compare(*twice)


def test_the_trained_bpe_is_one_that_fairseq_reads(tmp_path):
    from fairseq.data import Dictionary
    from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

    train, dev = cases.synthetic_rows("SST-2", 500)
    cases.train_bpe(tmp_path / "bpe", [sentence for sentence, _ in train], vocabulary=600)
    files = tmp_path / "bpe" / "encoder.json", tmp_path / "bpe" / "vocab.bpe"
    fairseqs = get_encoder(*map(str, files))
    assert len(fairseqs.encoder) == 600
    merges = files[1].read_text("utf-8")
    assert merges.startswith("#version: 0.2\n")
    assert merges.endswith("\n")
    assert len(fairseqs.bpe_ranks) == merges.count("\n") - 1 == 600 - 256

    from tokenizers import ByteLevelBPETokenizer

    ours = ByteLevelBPETokenizer(*map(str, files))
    dictionary = Dictionary.load(str(tmp_path / "bpe" / "dict.txt"))
    assert len(dictionary) == 600 + 4
    for line in [*(row[0] for row in dev[:50]), "  naïve 😀\tcafé 12345", "don't you'LL"]:
        ids = fairseqs.encode(line)
        assert fairseqs.decode(ids) == line
        assert ours.encode(line).ids == ids
        assert dictionary.unk() not in dictionary.encode_line(" ".join(map(str, ids)))
    lines = (tmp_path / "bpe" / "dict.txt").read_text().splitlines()
    counts = [int(line.split()[1]) for line in lines]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0


def test_repeated_rows_are_all_different():
    rows = [("0", "why ?", "because . ", "entailment"), ("1", "who ?", "me", "not_entailment")]
    made = list(cases.repeated(rows, "QNLI", 5))
    assert made[:2] == rows
    assert made[2] == ("0", "why ? 2", "because . 2", "entailment")
    assert len({row[1:3] for row in made}) == len(made) == 5
    assert list(cases.repeated(rows, "QNLI", 1)) == rows[:1]


def test_more_drawn_rows_begin_with_the_fewer():
    rows = [(letter, "0") for letter in "abc"]
    few, many = (list(cases.drawn(rows, "SST-2", count)) for count in (10, 20))
    assert many[:10] == few
    assert [sentence.split()[1] for sentence, _ in many] == [str(i) for i in range(20)]


def test_columns_are_those_of_the_table(tmp_path):
    rows = [("0", 'a "q"', "s  ", "entailment"), ("1", "b", "", "not_entailment")]
    case = cases.write_case(tmp_path, "name", "QNLI", rows, rows[1:])
    assert (case.rows, case.dev_rows, case.parts) == (2, 1, ["input0", "input1"])
    assert cases.read_table(case.folder / "train.tsv", "QNLI") == rows
    assert (case.columns / "train.input0").read_text() == 'a "q"\nb\n'
    assert (case.columns / "train.input1").read_text() == "s  \n\n"
    assert (case.columns / "valid.label").read_text() == "not_entailment\n"


def test_the_older_spelling_of_a_label_is_replaced(tmp_path):
    lines = ["\t".join(cases.HEADERS["QNLI"]), "7\tq\ts\tnot entailment"]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    rows = cases.read_table(tmp_path / "train.tsv", "QNLI")
    assert rows == [("7", "q", "s", "not_entailment")]


def test_fairseqs_encoder_is_found_or_missed_clearly(tmp_path):
    assert pipelines.find_encoder(pipelines.fairseq_folder()).is_file()
    with pytest.raises(ValueError, match=r"no examples/roberta/multiprocessing_bpe_encoder\.py"):
        pipelines.find_encoder(tmp_path / "fairseq")


def test_the_recorded_command_names_no_place_on_this_machine():
    inside, beside = pipelines.ROOT / "glue", pipelines.ROOT.parent / "bpe"
    arguments = ["--glue-dir", str(inside), f"--bpe-dir={beside}", "--workers", "2"]
    assert preprocess.own_command(arguments) == (
        "python -m benchmarks.preprocess --glue-dir glue --bpe-dir=../bpe --workers 2"
    )


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert preprocess.main(["--bpe-dir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no encoder.json, vocab.bpe, dict.txt" in line
    with pytest.raises(SystemExit) as left:
        preprocess.main(["--workers", "0"])
    assert left.value.code == 2
