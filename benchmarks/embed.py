"""Vectors of sentences: ``scl-embed`` against sentence-transformers and fairseq's own hub.

    .venv/bin/python -m benchmarks.embed --quick        or        ... --help

All three run the embedded encoder (all-MiniLM-L6-v2) over the same sentences, half of SST-2 and
half of QNLI, with as many threads, each in a process of its own, taking turns. Loading the model is
timed for none of them; the whole ``scl-embed`` command is timed once beside. Prints a table and,
with ``--record``, writes it to ``benchmarks/results/embed.md`` with machine and versions.
"""

import argparse
import importlib.metadata
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import embedders
from benchmarks.cases import read_table, synthetic_rows
from benchmarks.device import described, result_file
from benchmarks.few_shot_samples import SHARED
from benchmarks.pipelines import ROOT, Failed
from benchmarks.turns import medians
from scl_fairseq.checkpoints.embedded import convert_encoder
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text

PROG = "benchmarks.embed"
TASKS = ("SST-2", "QNLI")
OURS, *PEERS = embedders.CONTENDERS
MIN_RATIO = dict(zip(PEERS, (1.2, 2), strict=True))
HEADER = ["contender", "seconds", "sentences/s", "scl-embed is faster", "target", "largest error"]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Time vectors of sentences by scl-embed, sentence-transformers and fairseq's hub.",
        f"python -m {PROG} --record",
    )
    add = parser.add_argument
    add("--sentences", type=positive, default=5000, help="of each task (5000)")
    add("--repetitions", type=positive, default=3, help="turns of each contender (3)")
    add("--glue-dir", type=Path, default=SHARED, help="holds SST-2/ and QNLI/; else synthetic text")
    add("--quick", action="store_true", help="few sentences, to see that it works (a minute)")
    add("--record", action="store_true", help="write embed.md, or embed-cuda.md, in results/")
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(sentences=500, repetitions=1)
    return parser.parse_args(argv)


def load_sentences(options: argparse.Namespace) -> tuple[list[str], str]:
    """The sentences, and what they are."""
    found, kinds = [], []
    for task in TASKS:
        path = options.glue_dir / task / "train.tsv"
        if path.is_file():
            rows, kind = read_table(path, task), task
        else:
            rows, kind = synthetic_rows(task, options.sentences)[0], f"synthetic text for {task}"
        rows = rows[: options.sentences]
        # The last text of a row: QNLI's sentence, not its question.
        found += [row[-2] for row in rows]
        kinds.append(f"{len(rows):,} of {kind}")
    return found, ", ".join(kinds)


def time_command(folder: Path, sentences: Path) -> float:
    """Seconds of the whole ``scl-embed`` command, its start included."""
    words = [sys.executable, "-m", "scl_fairseq.cli.embed", folder / "encoder"]
    words += ["--embedding", "cls"]
    words += ["--input", sentences, "--output", folder / "command.npy"]
    started = time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise Failed(done.stderr[-2000:])
    return time.perf_counter() - started


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[list[str]], str]:
    """Rows of the table, and what was embedded."""
    convert_encoder(folder / "encoder")
    lines, kind = load_sentences(options)
    sentences = folder / "sentences.txt"
    sentences.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    module, device = embedders.__name__, "cuda" if torch.cuda.is_available() else "cpu"
    vectors = {name: folder / f"{index}.npy" for index, name in enumerate(embedders.CONTENDERS)}
    contenders = {
        name: [module, name, str(sentences), str(path), str(folder / "encoder")]
        for name, path in vectors.items()
    }
    found = {
        name: one["seconds"]
        for name, one in medians(contenders, options.repetitions, "embed", device).items()
    }
    expected = np.load(vectors[PEERS[-1]])
    table = []
    for name, seconds in found.items():
        error = np.abs(np.load(vectors[name]) - expected).max()
        ratio = "" if name == OURS else f"{seconds / found[OURS]:.2f}"
        target = f"≥ {MIN_RATIO[name]}" if name in MIN_RATIO else ""
        speed = f"{len(lines) / seconds:,.0f}"
        table.append([name, f"{seconds:.2f}", speed, ratio, target, f"{error:.1e}"])
    whole = time_command(folder, sentences)
    error = np.abs(np.load(folder / "command.npy") - expected).max()
    speed = f"{len(lines) / whole:,.0f}"
    table.append(["scl-embed, the whole command", f"{whole:.2f}", speed, "", "", f"{error:.1e}"])
    return table, kind


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        table, kind = measure(options, Path(folder))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = "in one process" if device == "cuda" else "each in a process of its own"
    peers = ("torch", "sentence-transformers", "transformers")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in peers)
    text = (
        f"`{' '.join(['python -m', PROG, *(argv or [])])}`\n\n"
        f"Sentences: {kind}; CLS vectors of the embedded encoder, float32. Medians of "
        f"{options.repetitions} turns, {where}, loading not counted; the "
        "command once, with all. Error: the largest difference of a component to fairseq's "
        "extract_features; sentence-transformers' layer norms use eps 1e-12, fairseq's 1e-5.\n\n"
        f"{markdown(HEADER, table)}\n\n"
        f"{described(device)}; {versions}, Python "
        f"{platform.python_version()}.\n"
    )
    print(f"\n{text}")
    if options.record:
        write_text(result_file("embed", device), f"# Vectors of sentences\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
