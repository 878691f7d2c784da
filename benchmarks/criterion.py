"""Cost of an update: CE+SCL against stock ``sentence_prediction``, in one process.

    make bench        or        .venv/bin/python -m benchmarks.criterion --help

Both criterions train the same model of roberta-base's size on the same batch of 16 sentences of 64
tokens; what is timed is forward, backward and Adam's step. Updates of the two alternate, so that
whatever else the machine does meets both; the ratio of their medians is what counts. Prints a table
and, with ``--record``, writes it to ``benchmarks/results/criterion.md`` with machine and versions.
"""

import argparse
import platform
import statistics
import sys

import fairseq
import torch
from fairseq.criterions.sentence_prediction import (
    SentencePredictionConfig,
    SentencePredictionCriterion,
)
from tqdm import tqdm

from benchmarks.device import described, result_file, seconds
from benchmarks.roberta import make_model, make_sample, make_task, make_words
from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig,
    SentencePredictionSCLCriterion,
)
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text


def parse():
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="example: python -m benchmarks.criterion --repetitions 30 --record",
    )
    parser.add_argument("--repetitions", type=int, default=20, help="timed pairs of updates (20)")
    parser.add_argument("--warm-up", type=int, default=3, help="rounds before the first timed (3)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64, help="length of each sentence (64)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--record", action="store_true", help="write criterion.md, or criterion-cuda.md"
    )
    return parser.parse_args()


def build(options):
    """Model, optimizer, batch and the criterions to compare, by name."""
    task = make_task()
    model = make_model(task).to(options.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    words = make_words(options.batch_size, options.tokens).to(options.device)
    batch = make_sample(words, (torch.arange(len(words)) % 2).to(options.device))
    criterions = {"stock CE": SentencePredictionCriterion(SentencePredictionConfig(), task)}
    for embedding in ("cls", "pooled", "mean"):
        cfg = SentencePredictionSCLConfig(scl_embedding=embedding)
        criterions[f"CE+SCL, {embedding}"] = SentencePredictionSCLCriterion(cfg, task)
    return model, optimizer, batch, criterions


def update(model, optimizer, batch, criterion, device):
    """Seconds that one update takes."""

    def step():
        optimizer.zero_grad()
        loss, sample_size, _ = criterion(model, batch)
        (loss / sample_size).backward()
        optimizer.step()

    return seconds(step, device)


def main():
    """Measure, print, record."""
    options = parse()
    model, optimizer, batch, criterions = build(options)
    took = {name: [] for name in criterions}
    names = list(criterions)
    rounds = range(-options.warm_up, options.repetitions)
    for index in tqdm(rounds, unit="round", disable=not sys.stderr.isatty()):
        # Another order each round: no criterion always runs first, or after the same one.
        for name in names[index % len(names) :] + names[: index % len(names)]:
            spent = update(model, optimizer, batch, criterions[name], options.device)
            if index >= 0:
                took[name].append(spent)

    medians = {name: statistics.median(values) for name, values in took.items()}
    stock = medians["stock CE"]
    rows = [
        [name, f"{1000 * median:.1f}", f"{min(took[name]) * 1000:.1f}", f"{median / stock:.4f}"]
        for name, median in medians.items()
    ]
    table = markdown(["criterion", "median ms", "fastest ms", "median / stock"], rows)
    setting = (
        f"One update (forward, backward, Adam), roberta-base sizes, batch {options.batch_size}, "
        f"{options.tokens} tokens, float32, dropout 0.1; medians of {options.repetitions} "
        f"alternating updates.\n{described(options.device)}; torch {torch.__version__}, fairseq "
        f"{fairseq.__version__}, Python {platform.python_version()}."
    )
    print(f"{setting}\n\n{table}")
    if options.record:
        command = "python " + " ".join(["-m benchmarks.criterion", *sys.argv[1:]])
        write_text(
            result_file("criterion", options.device),
            f"# Cost of an update\n\n`{command}`\n\n{setting}\n\n{table}\n",
        )


if __name__ == "__main__":
    main()
