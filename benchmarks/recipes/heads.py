"""``python -m benchmarks.recipes.heads``: what a head on CLS gains from each of the things by which
Hugging Face's fine-tuning differs from this project's, one at a time and all at once.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.contest.contenders import CONTENDERS
from benchmarks.contest.encoders import encoders
from benchmarks.contest.machine import made_on
from benchmarks.contest.rows import read_rows
from benchmarks.contest.running import ENVIRONMENT, measured
from benchmarks.contest.samples import Draw, Entrant
from benchmarks.recipes.folders import binarised
from benchmarks.recipes.table import judged_of, table
from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.sweep import main as sweep
from scl_fairseq.cli.task_options import positive
from scl_fairseq.data.choices import TRUNCATE
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.experiments.settings import Value
from scl_fairseq.files import write_text
from scl_fairseq.training.recipes import CE, WARMUP_RATIO, recipe_for

PROG = "benchmarks.recipes.heads"
RESULT = Path(__file__).parent.parent / "results" / "heads.md"
TASK, SIZE, SEED = "SST-2", 100, 1
HEAD = "classification_heads.sentence_classification_head"
SCALE = 0.02  # initializer_range of BERT
BASE, HUGGING_FACE = "CLS, as this project trains", "Hugging Face itself"
DROPOUT: Mapping[str, Value] = {"pooler-dropout": 0.1}
CLIPPING: Mapping[str, Value] = {"clip-norm": 1.0}
ADAMW: Mapping[str, Value] = {"adam-betas": "(0.9,0.999)", "adam-eps": 1e-8, "weight-decay": 0}
# name -> (options, the pooler of the checkpoint, scale of what is drawn, or None for torch's)
ARMS: dict[str, tuple[Mapping[str, Value], bool, float | None]] = {
    BASE: ({}, False, None),
    "dropout 0.1 in the head": (DROPOUT, False, None),
    "gradients clipped at 1": (CLIPPING, False, None),
    "betas 0.9, 0.999, no weight decay": (ADAMW, False, None),
    "no warm-up": ({"warmup-ratio": 0}, False, None),
    "weights drawn with deviation 0.02": ({}, False, SCALE),
    "the encoder's pooler in the head": ({}, True, None),
    "all of them": ({**DROPOUT, **CLIPPING, **ADAMW, "warmup-ratio": 0}, True, SCALE),
    "head on the mean, else as the first": ({"head-pooling": "mean"}, False, None),
}
NOTES = """\
Accuracy in percent of {task} at N = {size}, CE, {samples} samples, on a part of dev that trained \
and chose nothing (at most {judged} rows), after the last of 10 epochs at lr 1e-4, batches of 16; \
the optimizer is fused AdamW everywhere. Hugging Face itself keeps the epoch that is best on 50 \
other rows of dev. Differences are paired with the first row; 95 % intervals over samples and \
rows."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = Parser(
        PROG,
        "Train a head on CLS with CE, changing towards Hugging Face's fine-tuning one thing at a\n"
        "time, and compare on a part of dev. Run again, the command goes on where it was.",
        f"python -m {PROG} --glue-dir glue --record",
    )
    add = parser.add_argument
    add("--glue-dir", type=Path, required=True, metavar="DIR", help=f"holds {TASK}")
    add("--num-samples", type=positive, default=10, metavar="S", help="how many (10)")
    add("--most-judged", type=positive, default=300, metavar="M", help="rows of dev (300)")
    add("--workers", type=positive, default=1, metavar="W", help="of one thread each (1)")
    add("--out", type=Path, default=Path("outputs/heads"), metavar="DIR", help="(outputs/heads)")
    add("--only-report", action="store_true", help="run nothing, tell what is done")
    add("--record", action="store_true", help=f"write {RESULT.name} in results/")
    return parser.parse_args(argv)


def write_start(path: Path, paths: Mapping[str, str], pooler: bool, scale: float, seed: int):
    """The encoder with a head of two classes, whose weights have a deviation of ``scale``."""
    state = torch.load(Path(paths["fairseq_encoder"], "model.pt"), weights_only=False)
    weights = load_file(Path(paths["encoder"], "model.safetensors"))
    generator = torch.Generator().manual_seed(seed)
    dense = weights["pooler.dense.weight"]
    if not pooler:
        dense = scale * torch.randn(dense.shape, generator=generator)
    bias = weights["pooler.dense.bias"] if pooler else torch.zeros(len(dense))
    out = scale * torch.randn(2, len(dense), generator=generator)
    state["model"] |= {
        **{f"{HEAD}.dense.weight": dense, f"{HEAD}.dense.bias": bias},
        **{f"{HEAD}.out_proj.weight": out, f"{HEAD}.out_proj.bias": torch.zeros(2)},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def run_arm(name: str, options: argparse.Namespace, paths: Mapping[str, str]) -> int:
    """Train on all samples that have no result; returns the exit code of the sweep."""
    more, pooler, scale = ARMS[name]
    of_torch = 1 / np.sqrt(3 * 384)  # deviation of what torch draws for 384 inputs
    samples = range(options.num_samples)
    folder = options.out / "arms" / str(list(ARMS).index(name))
    start = str(Path(paths["fairseq_encoder"], "model.pt"))
    if pooler or scale:
        for index in samples:
            path = folder.resolve() / "starts" / f"{index}.pt"
            if not path.exists():
                write_start(path, paths, pooler, scale or of_torch, index + 1)
        start = str(folder.resolve() / "starts" / "{sample}.pt")
    recipe = recipe_for(SIZE)
    used = {**recipe.options(CE, "cls"), "max-epoch": 10, "batch-size": 16, "lr": 1e-4}
    used |= {"validate-interval": 10, "save-interval": 10, **more, "finetune-from-model": start}
    values = {
        "name": name,
        "data": f"{options.out.resolve()}/bin/{{task}}/{{N}}/sample{{sample}}",
        "warmup-ratio": used.pop("warmup-ratio", WARMUP_RATIO),
        "grid": {"task": [TASK], "N": [SIZE], "sample": list(samples), "system": [name]},
        "options": used,
        "overrides": [
            {"when": {"system": name}, "options": {"seed": 1}},
            *({"when": {"sample": i}, "options": {"seed": i + 1}} for i in samples),
        ],
    }
    config = folder / "sweep.yaml"
    write_text(config, json.dumps(values, indent=1, allow_nan=False))  # JSON is YAML
    line = [config, "--out", folder / "out", "--cpu", "--workers", options.workers, "--threads", 1]
    return sweep([str(word) for word in line])


def run_hugging_face(options: argparse.Namespace, paths: Mapping[str, str]) -> dict[int, list]:
    """Which judged rows it has right, by sample."""
    task, contender, found = TASKS[TASK], CONTENDERS["huggingface"], {}
    for index in range(options.num_samples):
        sample = options.out.resolve() / "judged" / TASK / str(SIZE) / f"sample{index}"
        kept = options.out / "arms" / "huggingface" / f"{index}.json"
        order = {"sample": str(sample), "labels": list(task.labels), "task": TASK, **paths}
        order |= {"num_inputs": 1, "seed": index + 1, "max_length": 64, "answer": ""}
        order["settings"] = dict(contender.settings(SIZE, 1, 2))
        if not kept.exists() and not options.only_report:
            with tempfile.TemporaryDirectory() as folder:
                order |= {"folder": folder, "answer": f"{folder}/answer.json"}
                path = Path(folder, "order.json")
                path.write_text(json.dumps(order, allow_nan=False), encoding="utf-8")
                module = f"benchmarks.contest.{contender.module}"
                measured([contender.python, "-m", module, path], ENVIRONMENT)
                write_text(kept, Path(order["answer"]).read_text("utf-8"))
            print(f"{HUGGING_FACE}: sample {index}", flush=True)
        if kept.exists():
            said = json.loads(kept.read_text("utf-8"))["predictions"]
            labels = [task.labels[place] for place in read_rows(order, "test").labels]
            found[index] = np.array(said) == np.array(labels)
    return found


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, 1 where a training failed, 2 for bad input)."""
    options = parse(argv)
    entrant = Entrant(TASK, TASKS[TASK], options.glue_dir / TASK)
    paths = encoders(options.out)
    failed = 0
    if not options.only_report:
        wanted = Draw(SIZE, options.num_samples, SEED, most_test=1000)
        encoding = Settings("wordpiece", Path(paths["fairseq_encoder"]), 64, TRUNCATE)
        binarised(entrant, wanted, options.out, options.most_judged, encoding)
        for name in ARMS:
            failed |= run_arm(name, options, paths)
    judged = {}
    for number in range(len(ARMS)):
        judged |= judged_of(options.out / "arms" / str(number) / "out")
    judged[HUGGING_FACE] = {TASK: run_hugging_face(options, paths)}
    notes = NOTES.format(
        task=TASK, size=SIZE, samples=options.num_samples, judged=options.most_judged
    )
    words = sys.argv[1:] if argv is None else argv
    line = f"`python -m {PROG} {shlex.join(words)}`"
    text = "\n\n".join([line, notes, table([*ARMS, HUGGING_FACE], [TASK], judged), made_on()])
    print(text)
    if options.record:
        write_text(RESULT, f"# What a head on CLS lacks\n\n{text}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
