"""The contrastive loss of large batches: this package against its peers, each in its own process.

    .venv/bin/python -m benchmarks.contrast --quick        or        ... --help

Forward and backward of the loss alone, repeated with the contenders taking turns; seconds are
medians over the turns, memory is the most that was held beyond embeddings and labels. The gradients
are compared with the plain formula's. At the largest sizes this package runs alone: one matrix of
all similarities would take more memory than most machines have. Then the same over several workers
(gloo, on the CPU). Prints tables and, with ``--record``, writes them to
``benchmarks/results/contrast.md`` with machine and versions.
"""

import argparse
import importlib.metadata
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import contrast_losses, contrast_workers
from benchmarks.device import described, kind_of, result_file
from benchmarks.turns import medians
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text

PROG = "benchmarks.contrast"
OURS, PLAIN, *_ = contrast_losses.PEERS
HEADER = [
    "N",
    "loss",
    "seconds",
    "times ours",
    "extra memory, MB",
    "times ours",
    "gradient's error",
]
WORKERS_HEADER = ["workers × rows", "loss", "seconds", "times ours"]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Time the contrastive loss of large batches against peers.",
        f"python -m {PROG} --record",
    )
    add = parser.add_argument
    add("--sizes", nargs="+", type=positive, default=[2048, 8192], help="N (2048 8192)")
    add(
        "--alone", nargs="*", type=positive, default=[65536], help="N of this package alone (65536)"
    )
    add("--dimension", type=positive, default=1024, help="of the embeddings (1024)")
    add("--repetitions", type=positive, default=5, help="turns of each, but one alone (5)")
    add("--device", default="cpu", help="cpu (default) or cuda")
    add("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the embeddings")
    add("--workers", type=positive, default=2, help="processes of the second table, 1: none (2)")
    add("--rows", type=positive, default=1024, help="of each worker (1024)")
    add("--quick", action="store_true", help="small sizes, to see that it works")
    add("--record", action="store_true", help="write contrast.md, or contrast-cuda-DTYPE.md")
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(sizes=[2500], alone=[4096], dimension=64, repetitions=1, rows=1500)
    return parser.parse_args(argv)


def compare(size: int, options: argparse.Namespace, folder: Path) -> list[list[str]]:
    """Lines of one size: every loss, and a plain product of as many operations as ours has."""
    is_alone = size in options.alone
    names = [OURS] if is_alone else list(contrast_losses.PEERS)
    how = [str(size), str(options.dimension), options.device, options.dtype]
    module = contrast_losses.__name__
    contenders = {
        name: [module, name, *how, str(folder / f"{index}.pt")] for index, name in enumerate(names)
    }
    # The loss multiplies in float32, whatever the embeddings are.
    contenders["product"] = [module, "product", *how[:-1], "float32"]
    times = 1 if is_alone else options.repetitions
    found = medians(contenders, times, f"N = {size}", kind_of(options.device))
    expected = None if is_alone else torch.load(folder / f"{names.index(PLAIN)}.pt")
    ours = found[OURS]
    lines = []
    for index, name in enumerate(names):
        error = "—"
        if expected is not None and name != PLAIN:
            gradient = torch.load(folder / f"{index}.pt")
            error = f"{((gradient - expected).norm() / expected.norm()).item():.1e}"
        took, extra = found[name]["seconds"], found[name]["extra_bytes"]
        lines.append([
            f"{size:,}", name, f"{took:.2f}", f"{took / ours['seconds']:.2f}",
            f"{extra / 1e6:,.0f}", f"{extra / ours['extra_bytes']:.1f}", error,
        ])  # fmt: skip
    seconds = found["product"]["seconds"]
    gigaflops = contrast_losses.operations(size, options.dimension) / seconds / 1e9
    name = f"(only its products: {gigaflops:,.0f} GFLOP/s)"
    share = f"{seconds / ours['seconds']:.2f}"
    return [*lines, [f"{size:,}", name, f"{seconds:.2f}", share, "", "", ""]]


def compare_workers(options: argparse.Namespace) -> list[list[str]]:
    """Lines of the second table."""
    how = [str(options.rows), str(options.dimension), "3", str(options.workers)]
    module = contrast_workers.__name__
    contenders = {name: [module, name, *how] for name in contrast_workers.PEERS}
    note = f"{options.workers} × {options.rows:,}"
    found = medians(contenders, options.repetitions, note)
    ours = found[OURS]["seconds"]
    return [
        [note, name, f"{one['seconds']:.2f}", f"{one['seconds'] / ours:.2f}"]
        for name, one in found.items()
    ]


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse(argv)
    table: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in [*options.sizes, *options.alone]:
            table += compare(size, options, Path(folder))
            print(markdown(HEADER, table), flush=True)
    is_gpu = options.device.startswith("cuda")
    where = "in one process" if is_gpu else "each in a process of its own"
    text = (
        f"`{' '.join(['python -m', PROG, *(argv or [])])}`\n\n"
        f"Forward and backward, D = {options.dimension}, two classes, {options.dtype} embeddings; "
        f"medians of {options.repetitions} turns (one turn where this package runs alone), "
        f"{where}. Error: the norm of the difference to the plain gradient, over its "
        f"norm.\n\n{markdown(HEADER, table)}\n\n"
    )
    if options.workers > 1 and not is_gpu:
        text += (
            f"Over {options.workers} workers, gather and gradients to other workers included:\n\n"
            f"{markdown(WORKERS_HEADER, compare_workers(options))}\n\n"
        )
    peer = "pytorch-metric-learning"
    text += (
        f"{described(options.device)}; torch "
        f"{torch.__version__}, {peer} {importlib.metadata.version(peer)}, Python "
        f"{platform.python_version()}.\n"
    )
    print(f"\n{text}")
    if options.record:
        file = result_file("contrast", options.device, f"-{options.dtype}")
        write_text(file, f"# The contrastive loss of large batches\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
