"""Both ways to prepare data, as commands; running them, and comparing what they wrote."""

import contextlib
import filecmp
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cases import SPLITS, Case

ROOT = Path(__file__).resolve().parent.parent
SCL_PREPROCESS = [sys.executable, "-m", "scl_fairseq.cli.preprocess"]
FAIRSEQ_PREPROCESS = Path(sys.executable).parent / "fairseq-preprocess"
ENCODER = Path("examples", "roberta", "multiprocessing_bpe_encoder.py")


class Failed(RuntimeError):
    """A command failed, or the two sides wrote different files."""


class Setup(NamedTuple):
    """What the commands of every case share.

    Attributes:
        encoder: fairseq's BPE encoder, a script.
        bpe_dir: holds the BPE files and ``dict.txt``.
        workers: of every command.
        labels: folder of each task's label dictionary, as ``scl-preprocess`` wrote it.
        log: what the command that ran last said.
    """

    encoder: Path
    bpe_dir: Path
    workers: int
    labels: Path
    log: Path


def find_encoder(package: Path) -> Path:
    """Fairseq's BPE encoder: in the installed package, or beside it in a checkout.

    Raises:
        ValueError: this fairseq came without its examples.
    """
    for folder in (package, package.parent):
        if (folder / ENCODER).is_file():
            return folder / ENCODER
    raise ValueError(
        f"this fairseq has no {ENCODER.as_posix()}: install fairseq-fixed, or fairseq from a "
        "checkout of its repository"
    )


def fairseq_folder() -> Path:
    """The folder of fairseq's ``__init__.py``, found without importing it, which takes seconds."""
    spec = importlib.util.find_spec("fairseq")
    if spec is None or spec.origin is None or not FAIRSEQ_PREPROCESS.is_file():
        raise ValueError("fairseq and fairseq-preprocess are not installed beside this Python")
    return Path(spec.origin).parent


def scl_commands(case: Case, out: Path, setup: Setup) -> list[list[str]]:
    """The one command of this project."""
    options = {
        "--task": case.task,
        "--data-dir": case.folder,
        "--bpe": "gpt2",
        "--bpe-dir": setup.bpe_dir,
        "--split": "glue",
        "--destdir": out,
        "--workers": setup.workers,
    }
    return [[*SCL_PREPROCESS, *(str(word) for option in options.items() for word in option)]]


def fairseq_commands(case: Case, out: Path, setup: Setup) -> list[list[str]]:
    """The commands of fairseq's ``preprocess_GLUE_tasks.sh``, in its order.

    The label dictionary is given: fairseq would number labels by how often they occur.
    """
    encoded = out / "encoded"
    workers = ["--workers", str(setup.workers)]
    commands = []
    for split in SPLITS.values():
        for part in case.parts:
            words = [sys.executable, setup.encoder, *workers, "--keep-empty"]
            words += ["--encoder-json", setup.bpe_dir / "encoder.json"]
            words += ["--vocab-bpe", setup.bpe_dir / "vocab.bpe"]
            words += ["--inputs", case.columns / f"{split}.{part}"]
            commands.append([*words, "--outputs", encoded / f"{split}.{part}"])
    for part in (*case.parts, "label"):
        source = case.columns if part == "label" else encoded
        dictionary = setup.bpe_dir / "dict.txt"
        if part == "label":
            dictionary = setup.labels / f"{case.task}.txt"
        words = [FAIRSEQ_PREPROCESS, "--only-source", "--srcdict", dictionary, *workers]
        for split in SPLITS.values():
            words += [f"--{split}pref", source / f"{split}.{part}"]
        commands.append([*words, "--destdir", out / part])
    return [[str(word) for word in words] for words in commands]


@contextlib.contextmanager
def started(words: Sequence[str], log: Path) -> Iterator[subprocess.Popen]:
    """A running command in a session of its own, which does not outlive the block.

    Raises:
        Failed: the command ended with an error.
    """
    with open(log, "wb") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=output, cwd=ROOT, start_new_session=True
        )
    try:
        yield process
        code = process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if code:
        said = log.read_text("utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "it said nothing")
        raise Failed(f"{shlex.join(words)} ended with exit code {code}: {last.strip()}")


def seconds(commands: Sequence[Sequence[str]], log: Path) -> float:
    """Wall time of the commands, one after the other."""
    total = 0.0
    for words in commands:
        start = time.perf_counter()
        with started(words, log) as process:
            process.wait()
            total += time.perf_counter() - start
    return total


def compare(ours: Path, fairseqs: Path) -> int:
    """Compare all binary files of two prepared folders; returns how many there are.

    Raises:
        Failed: a file is on one side only, or differs in a byte.
    """

    def binaries(folder: Path) -> set[Path]:
        files = (path.relative_to(folder) for path in folder.glob("*/*"))
        return {path for path in files if path.suffix in (".bin", ".idx")}

    mine, theirs = binaries(ours), binaries(fairseqs)
    if not theirs:
        raise Failed("fairseq's pipeline wrote no binary files")
    for path in sorted(mine ^ theirs):
        side = "fairseq's pipeline" if path in mine else "scl-preprocess"
        raise Failed(f"{side} did not write {path.as_posix()}, the other did")
    for path in sorted(mine):
        if not filecmp.cmp(ours / path, fairseqs / path, shallow=False):
            raise Failed(f"{path.as_posix()} of scl-preprocess differs from fairseq's")
    return len(mine)


def sides(case: Case, work: Path, setup: Setup) -> dict[str, list[list[str]]]:
    """The commands of both sides, by name; their output folders are emptied."""
    for name in ("scl", "fairseq"):
        shutil.rmtree(work / name, ignore_errors=True)
    (work / "fairseq" / "encoded").mkdir(parents=True)
    return {
        "scl": scl_commands(case, work / "scl", setup),
        "fairseq": fairseq_commands(case, work / "fairseq", setup),
    }


def write_labels(case: Case, work: Path, setup: Setup) -> None:
    """Let ``scl-preprocess`` write the task's label dictionary, for both sides to use."""
    seconds(sides(case, work, setup)["scl"], setup.log)
    setup.labels.mkdir(exist_ok=True)
    shutil.copyfile(work / "scl" / "label" / "dict.txt", setup.labels / f"{case.task}.txt")
