"""Large batches in little memory: ``--scl-chunk-size`` against other ways to the same batch.

    .venv/bin/python -m benchmarks.large_batch --quick        or        ... --help

One update of roberta-base's size on the CPU (forward, backward, Adam), each in a process of its
own, the ways taking turns. Small batches one after another (``--update-freq``) are contrasted in
themselves only; they are what the memory of a small batch otherwise buys. The cached loss of
sentence-transformers contrasts the whole batch too, in pairs. Prints a table and, with
``--record``, writes it to ``benchmarks/results/large_batch.md`` with machine and versions.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import large_batch_update
from benchmarks.turns import medians
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text

PROG = "benchmarks.large_batch"
RESULT = Path(__file__).parent / "results" / "large_batch.md"
HEADER = ["an update of", "contrast set", "seconds", "/ update-freq", "peak memory, MB", "/ batch"]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Time and measure an update of a large batch against other ways to it.",
        f"python -m {PROG} --record",
    )
    add = parser.add_argument
    add("--batch", type=positive, default=512, help="sentences of an update (512)")
    add("--chunk", type=positive, default=16, help="sentences at a time (16)")
    add("--tokens", type=positive, default=64, help="of each sentence (64)")
    add("--repetitions", type=positive, default=3, help="turns of each (3)")
    add("--quick", action="store_true", help="a small batch, to see that it works")
    add("--record", action="store_true", help=f"write {RESULT.name} in results/")
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(batch=16, chunk=4, tokens=16, repetitions=1)
    options = parser.parse_args(argv)
    if options.batch % options.chunk:
        parser.error(f"--batch {options.batch} is no multiple of --chunk {options.chunk}")
    return options


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse(argv)
    batch, chunk, tokens = options.batch, options.chunk, str(options.tokens)
    module = large_batch_update.__name__
    large = [str(batch), str(chunk), tokens]
    small, frequent = f"batch {chunk}", f"{batch // chunk} × {chunk}, --update-freq"
    contenders = {
        small: [module, "whole", str(chunk), str(chunk), tokens],
        frequent: [module, "update-freq", *large],
        f"{batch}, --scl-chunk-size {chunk}": [module, "chunks", *large],
        f"{batch}, sentence-transformers, cached": [module, "sentence-transformers", *large],
    }
    found = medians(contenders, options.repetitions)
    table = [
        [
            name,
            str(chunk if name in (small, frequent) else batch),
            f"{one['seconds']:.1f}",
            "—" if name == small else f"{one['seconds'] / found[frequent]['seconds']:.2f}",
            f"{one['peak_bytes'] / 1e6:,.0f}",
            f"{one['peak_bytes'] / found[small]['peak_bytes']:.2f}",
        ]
        for name, one in found.items()
    ]
    header = [*HEADER[:-1], f"/ {small}"]
    fairseq = "fairseq-fixed" if sys.version_info >= (3, 11) else "fairseq"
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in (fairseq, "sentence-transformers", "transformers")
    )
    text = (
        f"`{' '.join(['python -m', PROG, *(argv or [])])}`\n\n"
        f"One update (forward, backward, Adam), roberta-base's size, {tokens} tokens a sentence, "
        f"float32, dropout 0.1; medians of {options.repetitions} turns, each in a process of its "
        "own. Memory is that of the whole process: weights, gradients and Adam's state are in it."
        f"\n\n{markdown(header, table)}\n\n"
        f"CPU ({platform.machine()}), {os.cpu_count()} cores, {torch.get_num_threads()} threads; "
        f"torch {torch.__version__}, {versions}, Python {platform.python_version()}.\n"
    )
    print(text)
    if options.record:
        write_text(RESULT, f"# Large batches in little memory\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
