"""Data preparation: ``scl-preprocess`` against fairseq's own pipeline, side by side.

    .venv/bin/python -m benchmarks.preprocess --quick        or        ... --help

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
import importlib.metadata
import os
import platform
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.cases import (
    SPLITS,
    SYNTHETIC_DEV_ROWS,
    Case,
    Row,
    drawn,
    read_table,
    repeated,
    synthetic_rows,
    train_bpe,
    write_case,
)
from benchmarks.pipelines import (
    ROOT,
    Failed,
    Setup,
    compare,
    fairseq_folder,
    find_encoder,
    seconds,
    sides,
    write_labels,
)
from benchmarks.process_memory import POLL_SECONDS, Memory, peak_memory
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text

PROG = "benchmarks.preprocess"
RESULT = Path(__file__).parent / "results" / "preprocess.md"
SHARED = Path("..") / "shared" / "data"  # from ROOT
MIN_RATIO = {"SST-2": 8, "QNLI": 10}  # how many times faster a case is to be
MAX_GROWTH_MB = 100
MB = 1_000_000
SMALL_ROWS = 100
QUICK_DEV_ROWS = 50
QUICK = {"sst2_rows": 400, "qnli_rows": 300, "memory_rows": [200, 2000], "repetitions": 1}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Time data preparation by scl-preprocess and by fairseq's own pipeline.",
        f"python -m {PROG} --repetitions 5 --record",
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

    return shlex.join(["python", "-m", PROG, *map(relative, arguments)])


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
    sys.exit(main())
