"""Few-shot accuracy with ``--scl-packed`` and without: whether leaving the padding out shows.

    .venv/bin/python -m benchmarks.packed_accuracy --quick        or        ... --help

The two trainings compute the same function, but draw other dropout masks, so a run of one is not a
run of the other. CE+SCL of the embedded encoder on samples of SST-2, each with a seed of its own,
by ``scl-sweep``; prints the difference in test accuracy, paired by sample, with its 95 % interval
(Student's t), and with ``--record`` writes it to ``benchmarks/results/packed_accuracy.md``.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from benchmarks.device import described, result_file
from benchmarks.few_shot_samples import SHARED, write_binarised_samples
from benchmarks.pipelines import ROOT, Failed
from scl_fairseq.checkpoints.embedded import convert_encoder
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text

PROG = "benchmarks.packed_accuracy"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Compare few-shot accuracies of training without padding and with it.",
        f"python -m {PROG} --record",
    )
    add = parser.add_argument
    add("--samples", type=positive, default=10, help="each with a seed of its own (10)")
    add("--num-examples", type=positive, default=100, help="training sentences (100)")
    add("--epochs", type=positive, default=10, help="of each trial (10)")
    add("--glue-dir", type=Path, default=SHARED, help="holds SST-2/; else synthetic text")
    add("--quick", action="store_true", help="few short trials, to see that it works (a minute)")
    add(
        "--record", action="store_true", help="write packed_accuracy.md, or packed_accuracy-cuda.md"
    )
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(samples=2, epochs=1)
    return parser.parse_args(argv)


def run(options: argparse.Namespace, folder: Path) -> list[tuple[float, float]]:
    """Test accuracies of each sample, with padding and without, in percent."""
    convert_encoder(folder / "encoder")
    write_binarised_samples(
        "SST-2",
        options.glue_dir,
        folder,
        folder / "encoder",
        options.num_examples,
        options.samples,
    )
    samples = list(range(options.samples))
    values = {
        "data": f"{folder}/bin/SST-2/{{sample}}",
        "encoder": "embedded",
        "warmup-ratio": 0.06,
        "grid": {"task": ["SST-2"], "sample": samples, "scl-packed": [False, True]},
        "options": {
            "scl-lambda": 0.9,
            "scl-temperature": 0.3,
            "batch-size": 16,
            "lr": 5e-5,
            "max-epoch": options.epochs,
        },
        "overrides": [
            {"when": {"sample": [sample]}, "options": {"seed": 1 + sample}} for sample in samples
        ],
    }
    config = folder / "sweep.yaml"
    write_text(config, json.dumps(values, allow_nan=False))  # JSON is YAML
    words = [sys.executable, "-m", "scl_fairseq.cli.sweep", config, "--out", folder / "out"]
    words += ["--workers", str(os.cpu_count()), "--threads", "1"]
    done = subprocess.run(words, cwd=ROOT, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise Failed(done.stderr[-2000:])
    found: dict[tuple[int, bool], float] = {}
    for line in (folder / "out" / "results.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        setting = record["setting"]
        found[setting["sample"], setting["scl-packed"]] = record["test_accuracy"]
    return [(found[sample, False], found[sample, True]) for sample in samples]


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run both, and compare."""
    options = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        pairs = run(options, Path(folder))
    differences = np.array([packed - padded for padded, packed in pairs])
    mean = differences.mean()
    error = differences.std(ddof=1) / len(differences) ** 0.5
    low, high = stats.t.interval(0.95, len(differences) - 1, mean, error)
    rows = [
        [str(index), *(f"{value:.1f}" for value in pair), f"{pair[1] - pair[0]:+.1f}"]
        for index, pair in enumerate(pairs)
    ]
    padded, packed = np.mean(pairs, axis=0)
    rows.append(["mean", f"{padded:.1f}", f"{packed:.1f}", f"{mean:+.1f}"])
    text = (
        f"`{' '.join(['python -m', PROG, *(argv or [])])}`\n\n"
        f"Test accuracy (%) on SST-2, CE+SCL, N = {options.num_examples}, {options.epochs} epochs, "
        "embedded encoder; each sample with a seed of its own, the same on both sides.\n\n"
        f"{markdown(['sample', 'with padding', '--scl-packed', 'difference'], rows)}\n\n"
        f"Difference: {mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f} (paired, "
        f"Student's t, {len(pairs)} samples).\n\n"
        f"{described(DEVICE)}; torch {torch.__version__}, Python "
        f"{platform.python_version()}.\n"
    )
    print(f"\n{text}")
    if options.record:
        write_text(
            result_file("packed_accuracy", DEVICE), f"# Few-shot accuracy without padding\n\n{text}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
