"""Data preparation: ``scl-preprocess`` against fairseq's own pipeline, side by side.

    .venv/bin/python benchmarks/preprocess.py --quick        or        ... --help

Both turn the same GLUE files into the same binary files: this project with one command, fairseq
with those of its GLUE recipe, which are the GPT-2 BPE encoder for each file of sentences and
``fairseq-preprocess`` for each column; cutting the columns out of the TSV files is not timed. Whole
commands are timed as a user starts them, with as many workers each. The two alternate, so that
whatever else the machine does meets both, and every repetition ends with a comparison of all that
they wrote, byte by byte. Then the peak memory of ``scl-preprocess`` is measured on a small and on a
large file, summed over its processes. Prints tables and, with ``--record``, writes them to
``benchmarks/results/preprocess.md`` with machine and versions.
"""

import argparse
import contextlib
import filecmp
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import random
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.data import synthetic
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text

PROG = "benchmarks/preprocess.py"
ROOT = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).parent / "results" / "preprocess.md"
SHARED = Path("..") / "shared" / "data"  # from ROOT
SCL_PREPROCESS = [sys.executable, "-m", "scl_fairseq.cli.preprocess"]
FAIRSEQ_PREPROCESS = Path(sys.executable).parent / "fairseq-preprocess"
ENCODER = Path("examples", "roberta", "multiprocessing_bpe_encoder.py")

SPLITS = {"train": "train", "dev": "valid"}  # GLUE's name, fairseq's name
HEADERS = {"SST-2": ("sentence", "label"), "QNLI": ("index", "question", "sentence", "label")}
SENTENCES = {"SST-2": (0,), "QNLI": (1, 2)}  # the label is always the last column
MIN_RATIO = {"SST-2": 8, "QNLI": 10}  # how many times faster a case is to be
MAX_GROWTH_MB = 100
MB = 1_000_000
POLL_SECONDS = 0.02
SMALL_ROWS = 100
SYNTHETIC_DEV_ROWS = 872
SYNTHETIC_VOCABULARY = 5000
QUICK_DEV_ROWS = 50
QUICK = {"sst2_rows": 400, "qnli_rows": 300, "memory_rows": [200, 2000], "repetitions": 1}

Row = Sequence[str]


class Failed(RuntimeError):
    """A command failed, or the two sides wrote different files."""


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Time data preparation by scl-preprocess and by fairseq's own pipeline.",
        f"python {PROG} --repetitions 5 --record",
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    add = parser.add_argument
    add("--workers", type=positive, default=cores, help="of every command (all cores)")
    add("--repetitions", type=positive, default=3, help="timed runs of each side and case (3)")
    add("--sst2-rows", type=positive, default=67_349, help="training rows of SST-2 (67349)")
    add("--qnli-rows", type=positive, default=104_743, help="training rows of QNLI (104743)")
    add(
        "--memory-rows",
        type=positive,
        nargs="*",
        default=[10_000, 1_000_000],
        help="sizes at which memory is measured (10000 1000000); none: not at all",
    )
    add(
        "--glue-dir",
        type=Path,
        help=f"holds SST-2/ and QNLI/ ({SHARED / 'glue'}, or else synthetic text)",
    )
    add(
        "--bpe-dir",
        type=Path,
        help="holds encoder.json, vocab.bpe and dict.txt "
        f"({SHARED / 'gpt2_bpe'}, or else a BPE trained on synthetic text)",
    )
    add("--quick", action="store_true", help="small sizes, to see that it works (a minute)")
    add("--record", action="store_true", help=f"write {RESULT.name} in results/")
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Case:
    """A folder in GLUE's layout to prepare, and the same cut into columns.

    Attributes:
        name: as the table calls it.
        task: the task's name.
        folder: holds ``train.tsv`` and ``dev.tsv``.
        columns: holds ``train.input0`` … ``valid.label``, one text file a column.
        rows: in the training file.
        dev_rows: in the other.
    """

    name: str
    task: str
    folder: Path
    columns: Path
    rows: int
    dev_rows: int

    @property
    def parts(self) -> list[str]:
        """The names of the inputs: ``input0``, and ``input1`` of pairs."""
        return [f"input{part}" for part in range(len(SENTENCES[self.task]))]


def read_table(path: Path, task: str) -> list[Row]:
    """Rows of an official file, the older spelling ``not entailment`` replaced by today's.

    Raises:
        ValueError: the file is not in the official layout.
        FileNotFoundError: there is no such file.
    """
    lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    header = HEADERS[task]
    if tuple(lines[0].split("\t")) != header:
        raise ValueError(f"{path}:1: the header is not {' '.join(header)}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise ValueError(f"{path}:{number}: {len(fields)} fields, expected {len(header)}")
        rows.append((*fields[:-1], fields[-1].replace("not entailment", "not_entailment")))
    return rows


def synthetic_rows(task: str, count: int) -> tuple[list[Row], list[Row]]:
    """Training and dev rows of the task's layout, made from the project's synthetic corpus."""
    limit = synthetic.MAX_SENTENCES - SYNTHETIC_DEV_ROWS
    corpus = synthetic.generate(SYNTHETIC_DEV_ROWS + max(2, min(count, limit)))
    if task == "SST-2":
        rows = [(sentence, str(label)) for sentence, label in corpus]
    else:
        # A question of one sentence and an answer of three: about as long as QNLI's.
        draw = random.Random(0)
        rows = []
        for index, (sentence, label) in enumerate(corpus):
            answer = " ".join(draw.choice(corpus)[0] for _ in range(3))
            rows.append((str(index), sentence, answer, ("entailment", "not_entailment")[label]))
    return rows[SYNTHETIC_DEV_ROWS:], rows[:SYNTHETIC_DEV_ROWS]


def numbered(row: Row, task: str, number: int) -> Row:
    """The row with a number behind each of its sentences: a word that no other row has."""
    at = SENTENCES[task]
    return tuple(f"{cell.rstrip()} {number}" if i in at else cell for i, cell in enumerate(row))


def repeated(rows: Sequence[Row], task: str, count: int) -> Iterator[Row]:
    """``count`` rows: the given ones, then as often as needed the same, numbered."""
    for index, row in enumerate(itertools.islice(itertools.cycle(rows), count)):
        yield row if index < len(rows) else numbered(row, task, index)


def drawn(rows: Sequence[Row], task: str, count: int) -> Iterator[Row]:
    """``count`` rows drawn with replacement, all numbered; more of them begin with the fewer."""
    draw = random.Random(0)
    return (numbered(draw.choice(rows), task, index) for index in range(count))


def write_case(
    folder: Path, name: str, task: str, train: Iterable[Row], dev: Iterable[Row]
) -> Case:
    """Write both files and their columns, a row at a time."""
    tables, columns = folder / "glue", folder / "columns"
    tables.mkdir(parents=True)
    columns.mkdir()
    counts = {}
    for (file, split), rows in zip(SPLITS.items(), (train, dev), strict=True):
        parts = {f"input{i}": column for i, column in enumerate(SENTENCES[task])} | {"label": -1}
        with contextlib.ExitStack() as stack:

            def create(path, stack=stack):
                return stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))

            table = create(tables / f"{file}.tsv")
            cuts = [(create(columns / f"{split}.{part}"), at) for part, at in parts.items()]
            table.write("\t".join(HEADERS[task]) + "\n")
            counts[file] = 0
            for row in rows:
                table.write("\t".join(row) + "\n")
                for cut, at in cuts:
                    cut.write(row[at] + "\n")
                counts[file] += 1
    return Case(name, task, tables, columns, counts["train"], counts["dev"])


def train_bpe(folder: Path, lines: Sequence[str], vocabulary: int = SYNTHETIC_VOCABULARY) -> None:
    """Train a byte-level BPE and write it as GPT-2's and RoBERTa's files.

    Args:
        folder: receives ``encoder.json``, ``vocab.bpe`` and ``dict.txt``.
        lines: the text to train on.
        vocabulary: the most tokens to make, the 256 bytes included.
    """
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(lines, vocabulary, special_tokens=[], show_progress=False)
    folder.mkdir(parents=True)
    tokenizer.save_model(str(folder))
    (folder / "merges.txt").rename(folder / "vocab.bpe")
    ids = json.loads((folder / "vocab.json").read_text("utf-8"))
    (folder / "vocab.json").unlink()
    # ASCII, as GPT-2's own: fairseq opens this file in the locale's encoding.
    write_text(folder / "encoder.json", json.dumps(ids))
    counts = Counter(dict.fromkeys(ids.values(), 0))
    for encoding in tokenizer.encode_batch(list(lines)):
        counts.update(encoding.ids)
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    write_text(folder / "dict.txt", "".join(f"{token} {count}\n" for token, count in by_count))


def load_rows(
    options: argparse.Namespace, task: str, count: int
) -> tuple[list[Row], list[Row], str]:
    """Training rows, dev rows and what they are: real where they are at hand."""
    folder = (options.glue_dir or ROOT / SHARED / "glue") / task
    # A folder that was asked for has to be there.
    if options.glue_dir is None and not (folder / "train.tsv").exists():
        return *synthetic_rows(task, count), "synthetic text"
    train, dev = (read_table(folder / f"{name}.tsv", task) for name in SPLITS)
    if not train or not dev:
        raise ValueError(f"{folder}: no rows")
    if count > len(train):
        return train, dev, f"GLUE's text ({len(train):,} rows, then the same with numbers added)"
    return train, dev, "GLUE's text"


def find_bpe(options: argparse.Namespace, folder: Path) -> tuple[Path, str]:
    """Where the BPE files lie, and what they are; trained in ``folder`` where there are none."""
    bpe_dir = options.bpe_dir or ROOT / SHARED / "gpt2_bpe"
    missing = [n for n in ("encoder.json", "vocab.bpe", "dict.txt") if not (bpe_dir / n).is_file()]
    if not missing:
        return bpe_dir.resolve(), "GPT-2's BPE"
    if options.bpe_dir is not None:
        raise ValueError(f"{bpe_dir}: no {', '.join(missing)}")
    train, _ = synthetic_rows("SST-2", options.sst2_rows)
    train_bpe(folder, [sentence for sentence, _ in train])
    return folder, "a small byte-level BPE trained on synthetic text"


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


class Memory(NamedTuple):
    """Bytes, and how they were counted: ``PSS``, ``RSS``, or ``PSS and RSS``."""

    size: int
    kind: str


def tree(root: int) -> list[int]:
    """Processes that descend from ``root``, itself included, or belong to its session.

    A process whose parent has ended hangs below another one, but stays in the session.
    """
    parents, found = {}, {root}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            status = Path(entry.path, "stat").read_text("utf-8", errors="replace")
        except OSError:  # it has just ended
            continue
        # The name, in parentheses, may hold anything.
        _, parent, _, session = status.rpartition(")")[2].split()[:4]
        parents[int(entry.name)] = int(parent)
        if int(session) == root:
            found.add(int(entry.name))
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found)


def resident(pid: int) -> Memory:
    """Memory of one process; pages that it shares count in part (PSS) where the kernel says so."""
    folder = Path("/proc", str(pid))
    try:
        for line in (folder / "smaps_rollup").read_text("ascii").split("\n"):
            if line.startswith("Pss:"):
                return Memory(int(line.split()[1]) * 1024, "PSS")
    except ProcessLookupError:  # it has ended, or holds nothing any more
        return Memory(0, "PSS")
    except OSError:
        pass
    try:
        pages = int((folder / "statm").read_text("ascii").split()[1])
    except OSError:
        return Memory(0, "PSS")
    return Memory(pages * os.sysconf("SC_PAGE_SIZE"), "RSS" if pages else "PSS")


def peak_memory(words: Sequence[str], log: Path) -> Memory:
    """The most memory that a command and its children held at once, looked at every 20 ms."""
    peak, kinds = 0, set()
    with started(words, log) as process:
        while process.poll() is None:
            start = time.monotonic()
            parts = [resident(pid) for pid in tree(process.pid)]
            peak = max(peak, sum(part.size for part in parts))
            kinds.update(part.kind for part in parts if part.size)
            time.sleep(max(0.0, POLL_SECONDS - (time.monotonic() - start)))
    return Memory(peak, " and ".join(sorted(kinds)))


def time_case(
    case: Case, work: Path, setup: Setup, repetitions: int, progress: tqdm
) -> dict[str, float]:
    """Median seconds of each side."""
    taken = {"scl": [], "fairseq": []}
    for repetition in range(repetitions):
        commands = sides(case, work, setup)
        # Each side goes first in turn.
        for name in list(commands)[:: 1 if repetition % 2 == 0 else -1]:
            progress.set_description(f"{case.name}, {name}")
            taken[name].append(seconds(commands[name], setup.log))
            progress.update()
        compare(work / "scl", work / "fairseq")
    return {name: statistics.median(values) for name, values in taken.items()}


def measure_memory(
    rows: Sequence[Row], options: argparse.Namespace, work: Path, setup: Setup, progress: tqdm
) -> tuple[list[Memory], Memory]:
    """Peak of scl-preprocess at each size, and of fairseq's commands at the smallest."""
    sizes, peaks, fairseqs = options.memory_rows, [], Memory(0, "")
    for size in sizes:
        progress.set_description(f"memory, {size:,} rows")
        shutil.rmtree(work / "case", ignore_errors=True)
        train, dev = drawn(rows, "SST-2", size), rows[:SYNTHETIC_DEV_ROWS]
        case = write_case(work / "case", "memory", "SST-2", train, dev)
        commands = sides(case, work, setup)
        peaks.append(peak_memory(commands["scl"][0], setup.log))
        if size == min(sizes) and not options.quick:
            fairseqs = max(peak_memory(words, setup.log) for words in commands["fairseq"])
            compare(work / "scl", work / "fairseq")
        progress.update()
    return peaks, fairseqs


def time_table(results: Sequence[tuple[Case, dict[str, float]]]) -> str:
    """Seconds of both sides and their ratio, a row a case."""
    header = ["case", "rows", "fairseq s", "scl-preprocess s", "ratio", "target"]
    table = []
    for case, median in results:
        ratio = f"{median['fairseq'] / median['scl']:.2f}"
        target = f"≥ {MIN_RATIO[case.name]:g}" if case.name in MIN_RATIO else "-"
        rows = f"{case.rows:,} + {case.dev_rows:,}"
        times = [f"{median[name]:.2f}" for name in ("fairseq", "scl")]
        table.append([case.name, rows, *times, ratio, target])
    return markdown(header, table)


def memory_report(sizes: Sequence[int], peaks: Sequence[Memory], fairseqs: Memory) -> str:
    """Table of the peaks, and how much more the most rows took than the fewest."""
    small, large = sizes.index(min(sizes)), sizes.index(max(sizes))
    table = [[f"{n:,}", f"{p.size / MB:.0f}", "-"] for n, p in zip(sizes, peaks, strict=True)]
    if fairseqs.size:
        table[small][2] = f"{fairseqs.size / MB:.0f}"
    text = markdown(["rows", "scl-preprocess peak MB", "fairseq peak MB"], table)
    if small != large:
        growth = (peaks[large].size - peaks[small].size) / MB
        text += (
            f"\n\nGrowth of scl-preprocess from {sizes[small]:,} to {sizes[large]:,} rows: "
            f"{growth:.0f} MB, target < {MAX_GROWTH_MB} MB."
        )
    kinds = " and ".join(sorted({peak.kind for peak in (*peaks, fairseqs) if peak.size}))
    return text + (
        f"\n\nPeak of all processes of a command together ({kinds}, looked at every "
        f"{1000 * POLL_SECONDS:.0f} ms, MB of 10^6 bytes), of fairseq's commands the largest; rows "
        "are drawn from those of SST-2, each with a number of its own added."
    )


def machine() -> str:
    """Processor and versions."""
    names = sorted(set(importlib.metadata.packages_distributions().get("fairseq", ())))
    fairseq = " ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    tokenizers = importlib.metadata.version("tokenizers")
    return (
        f"CPU ({platform.machine()}), {os.cpu_count()} cores; tokenizers {tokenizers}, {fairseq}, "
        f"Python {platform.python_version()}."
    )


def own_command(arguments: Sequence[str]) -> str:
    """How the command is recorded: paths relative to the repository."""

    def relative(argument: str) -> str:
        option, sign, value = argument.rpartition("=")
        return option + sign + (os.path.relpath(value, ROOT) if os.path.isabs(value) else value)

    return shlex.join(["python", PROG, *map(relative, arguments)])


def benchmark(options: argparse.Namespace, folder: Path) -> str:
    """Measure all; returns the report. ``folder`` is for what is needed on the way."""
    encoder = find_encoder(fairseq_folder())
    bpe_dir, bpe = find_bpe(options, folder / "bpe")
    setup = Setup(encoder, bpe_dir, options.workers, folder / "labels", folder / "log")
    counts = {"SST-2": options.sst2_rows, "QNLI": options.qnli_rows}
    tables = {task: load_rows(options, task, count) for task, count in counts.items()}
    dev_rows = QUICK_DEV_ROWS if options.quick else None
    has_memory = bool(options.memory_rows) and Path("/proc/self/statm").exists()
    steps = (4 if options.quick else 6) * options.repetitions
    steps += len(options.memory_rows) * has_memory

    results = []
    with tqdm(total=steps, unit="run", disable=not sys.stderr.isatty()) as progress:
        for task, (train, dev, _) in tables.items():
            work = folder / task
            first = train[:SMALL_ROWS], dev[:SMALL_ROWS]
            small = write_case(work / "small", "start-up, SST-2", task, *first)
            write_labels(small, work, setup)
            if task == "SST-2" and not options.quick:
                # Once untimed: what is read from disk for the first time is then at hand for both.
                time_case(small, work, setup, 1, tqdm(disable=True))
                seconds_of = time_case(small, work, setup, options.repetitions, progress)
                results.append((small, seconds_of))
            rows = repeated(train, task, counts[task])
            case = write_case(work / "case", task, task, rows, dev[:dev_rows])
            results.append((case, time_case(case, work, setup, options.repetitions, progress)))
            shutil.rmtree(work)
        memory = ""
        if has_memory:
            train = tables["SST-2"][0]
            found = measure_memory(train, options, folder / "memory", setup, progress)
            memory = memory_report(options.memory_rows, *found)
        elif options.memory_rows:
            memory = "Memory was not measured: this system has no /proc."

    data = "; ".join(f"{task}: {table[2]}" for task, table in tables.items())
    setting = (
        f"Whole commands, wall time, {options.workers} workers each; medians of "
        f"{options.repetitions} alternating repetitions, after each of which all .bin and .idx "
        f"files of the two were byte-identical.\nRows are training + dev. {data}; {bpe}."
    )
    parts = [setting, time_table(results), memory, machine()]
    return "\n\n".join(part for part in parts if part)


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, record."""
    options = parse(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="scl-benchmark-") as folder:
            report = benchmark(options, Path(folder))
    except Failed as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 1
    print(report)
    if options.record:
        invocation = own_command(sys.argv[1:] if argv is None else argv)
        write_text(RESULT, f"# Data preparation\n\n`{invocation}`\n\n{report}\n")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # to clean up then too
    sys.exit(main())
