"""Training and evaluation without padding, against stock fairseq and Hugging Face.

    .venv/bin/python -m benchmarks.packed --quick        or        ... --help

Random batches of real sentences, the same for all, the contenders taking turns, on a CPU each in a
process of its own. First one pass over the batches at several sizes: evaluation, forward and
backward, and a whole update with Adam, with CE. Then updates per second of CE and CE+SCL at growing
batch sizes, as in the paper's ablation; at last batches without any padding, where there is nothing
to gain.
Prints tables and, with ``--record``, writes them to ``benchmarks/results/packed.md`` with machine
and versions. On a GPU: bf16, timed by events, and the least time that the arithmetic can take.
"""

import argparse
import importlib.metadata
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import packed_contenders
from benchmarks.cases import SENTENCES, read_table, synthetic_rows, train_bpe
from benchmarks.device import described, matrix_rate, result_file
from benchmarks.few_shot_samples import SHARED
from benchmarks.packed_contenders import CONTENDERS, DEVICE
from benchmarks.roberta import SIZES
from benchmarks.turns import medians
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text
from scl_fairseq.text.encodings import load_encoder
from scl_fairseq.text.sentences import SentenceEncoder

PROG = "benchmarks.packed"
PACKED, STOCK, _ = CONTENDERS
MEASURES = {"evaluation": "evaluation", "gradients": "forward + backward", "update": "update"}
HEADER = ["encoder", "batches", "real / all tokens", "measure", "contender", "sentences/s"]
HEADER += ["tokens/s", "/ stock", "time / floor"]
ABLATION_HEADER = ["batch", "loss", "contender", "updates/s", "/ stock"]


@dataclass(frozen=True)
class Batches:
    """Batches of one kind, the first of them to warm up.

    Attributes:
        name: as the tables call them.
        file: where they lie, for the contenders.
        sentences: in all but the first.
        tokens: likewise, without padding.
        places: likewise, with padding.
        squares: sum of the squares of the sentences' lengths, likewise.
    """

    name: str
    file: Path
    sentences: int
    tokens: int
    places: int
    squares: int


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Time training and evaluation without padding against stock fairseq and Hugging Face.",
        f"python -m {PROG} --record",
    )
    add = parser.add_argument
    add("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES), help="encoders (all)")
    add("--batch-sizes", nargs="+", type=positive, default=[16, 32], help="(16 32)")
    add("--ablation", nargs="*", type=positive, default=[16, 64, 256], help="(16 64 256)")
    add("--batches", type=positive, default=4, help="timed, of each kind (4)")
    add("--repetitions", type=positive, default=3, help="turns of each contender (3)")
    add("--glue-dir", type=Path, default=SHARED, help="holds SST-2/ and QNLI/; else synthetic text")
    add("--bpe-dir", type=Path, default=SHARED.parent / "gpt2_bpe", help="else a BPE of the text")
    add("--quick", action="store_true", help="the smallest encoder, to see that it works")
    add("--record", action="store_true", help="write packed.md, or packed-cuda.md, in results/")
    if parser.parse_known_args(argv)[0].quick:
        parser.set_defaults(
            sizes=["MiniLM"], batch_sizes=[16], ablation=[16], batches=3, repetitions=1
        )
    return parser.parse_args(argv)


class Drawer:
    """Draws batches of a task's sentences, the same ones each time."""

    def __init__(self, options: argparse.Namespace, task: str, folder: Path):
        path = options.glue_dir / task / "train.tsv"
        is_real = path.is_file()
        rows = read_table(path, task) if is_real else synthetic_rows(task, 4000)[0]
        texts = [tuple(row[part] for part in SENTENCES[task]) for row in rows]
        bpe_dir = options.bpe_dir
        if not bpe_dir.is_dir():
            bpe_dir = folder / f"{task}-bpe"
            train_bpe(bpe_dir, [text for pair in texts for text in pair], vocabulary=5000)
        encoder = SentenceEncoder(load_encoder("gpt2", bpe_dir), 0, 2, 512)
        self._task, self._texts, self._encoder = task, texts, encoder
        self._name = task if is_real else f"synthetic text for {task}"
        self._folder = folder

    def draw(self, size: int, number: int) -> Batches:
        """So many batches of so many sentences, and one more before them."""
        rng = np.random.default_rng(size)
        drawn = rng.choice(len(self._texts), (1 + number, size), replace=False)
        batches = [self._encoder.encode([self._texts[i] for i in batch])[0] for batch in drawn]
        return save(f"{self._name}, {size}", self._folder / f"{self._task}-{size}.npz", batches)


def save(name: str, file: Path, batches: Sequence[Sequence[np.ndarray]]) -> Batches:
    """Write batches for the contenders."""
    rows = [[len(batch), *map(len, batch), *np.concatenate(batch)] for batch in batches]
    np.savez(file, *(np.array(row, np.int64) for row in rows))
    timed = batches[1:]
    return Batches(
        name,
        file,
        sum(map(len, timed)),
        sum(len(row) for batch in timed for row in batch),
        sum(len(batch) * max(map(len, batch)) for batch in timed),
        sum(len(row) ** 2 for batch in timed for row in batch),
    )


def without_padding(folder: Path, number: int) -> Batches:
    """Sentences of 64 random tokens, 16 a batch."""
    words = np.random.default_rng(0).integers(4, 50000, (1 + number, 16, 64))
    return save("64 tokens each, 16", folder / "full.npz", [list(batch) for batch in words])


def operations(size: str, batches: Batches) -> float:
    """Multiplications and additions of a forward pass whose last layer is read at one position."""
    layers, width, inner, _ = SIZES[size]
    of_a_token = 4 * width**2 + 2 * width * inner
    of_the_last = 2 * width**2  # keys and values; the rest at one position of each sentence
    products = batches.tokens * ((layers - 1) * of_a_token + of_the_last)
    products += batches.sentences * (of_a_token - of_the_last)
    attention = 2 * width * ((layers - 1) * batches.squares + batches.tokens)
    return 2 * (products + attention)


def compare(
    options: argparse.Namespace, size: str, batches: Batches, names: Sequence[str], rate: float
) -> Iterator[list[str]]:
    """Rows of the first table."""
    module = packed_contenders.__name__
    contenders = {
        name: [module, name, size, str(batches.file), ",".join(MEASURES)] for name in names
    }
    found = medians(contenders, options.repetitions, f"{size}, {batches.name}", DEVICE)
    for measure, said in MEASURES.items():
        times = 1 if measure == "evaluation" else 3  # backward costs twice as much as forward
        for name in names:
            seconds = found[name][measure]
            yield [
                size,
                batches.name,
                f"{batches.tokens / batches.places:.2f}",
                said,
                name,
                f"{batches.sentences / seconds:,.1f}",
                f"{batches.tokens / seconds:,.0f}",
                f"{found[STOCK][measure] / seconds:.2f}",
                f"{seconds * rate / (times * operations(size, batches)):.2f}",
            ]


def ablate(options: argparse.Namespace, drawer: Drawer, size: int) -> Iterator[list[str]]:
    """Rows of the second table: a batch size."""
    number = max(1, options.batches * 16 // size)
    batches = drawer.draw(size, number)
    contenders = {
        (loss, name): [
            packed_contenders.__name__,
            name,
            "base",
            str(batches.file),
            "update",
            weight,
        ]
        for loss, weight in (("CE", "0"), ("CE+SCL", "0.9"))
        for name in (PACKED, STOCK)
    }
    labelled = {" ".join(key): words for key, words in contenders.items()}
    found = medians(labelled, options.repetitions, f"base, {batches.name}", DEVICE)
    for loss, name in contenders:
        seconds = found[f"{loss} {name}"]["update"]
        ratio = found[f"{loss} {STOCK}"]["update"] / seconds
        yield [str(size), loss, name, f"{number / seconds:.3f}", f"{ratio:.2f}"]


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse(argv)
    rows: list[list[str]] = []
    ablation: list[list[str]] = []
    rate = matrix_rate(DEVICE, torch.bfloat16 if DEVICE == "cuda" else torch.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawers = {task: Drawer(options, task, folder) for task in ("SST-2", "QNLI")}
        for size in options.sizes:
            # The large one takes minutes a batch on a CPU: one kind of batches will do.
            is_slow = size == "large" and DEVICE == "cpu"
            for drawer in list(drawers.values())[: 1 if is_slow else None]:
                for batch_size in options.batch_sizes[: 1 if is_slow else None]:
                    batches = drawer.draw(batch_size, options.batches)
                    rows += compare(options, size, batches, [*CONTENDERS], rate)
        full = without_padding(folder, options.batches)
        for size in [one for one in options.sizes if one != "large"]:
            rows += compare(options, size, full, [PACKED, STOCK], rate)
        for batch_size in options.ablation:
            ablation += ablate(options, drawers["SST-2"], batch_size)
    text = report(options, argv, rate, rows, ablation)
    print(f"\n{text}")
    if options.record:
        write_text(result_file("packed", DEVICE), f"# Training without padding\n\n{text}")
    return 0


def report(
    options: argparse.Namespace,
    argv: Sequence[str] | None,
    rate: float,
    rows: Sequence[Sequence[str]],
    ablation: Sequence[Sequence[str]],
) -> str:
    """Tables with what they are of."""
    is_gpu = DEVICE == "cuda"
    where = "in one process" if is_gpu else "each in a process of its own"
    peers = ("torch", "transformers", "fairseq-fixed", "fairseq")
    versions = ", ".join(f"{one} {found}" for one in peers if (found := version(one)))
    parts = [
        f"`{' '.join(['python -m', PROG, *(argv or [])])}`",
        f"{options.batches} random batches of each kind, the same for all; medians of "
        f"{options.repetitions} turns, {where}. Tokens are those that there "
        "are, without padding; random weights of the encoders' sizes, "
        f"{'bf16' if is_gpu else 'float32'}, dropout 0.1, torch's Adam, CE. The floor is the "
        "arithmetic of the real tokens, the last layer at one position, without Adam's, at the "
        f"{rate / 1e9:,.0f} GFLOP/s that a large product reaches here.",
        markdown(HEADER, rows),
    ]
    if ablation:
        parts += [
            "Updates of the base size on SST-2's sentences, CE and CE+SCL (cls):",
            markdown(ABLATION_HEADER, ablation),
        ]
    parts.append(f"{described(DEVICE)}; {versions}, Python {platform.python_version()}.")
    return "\n\n".join(parts) + "\n"


def version(name: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
