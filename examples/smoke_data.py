"""Small generated data in the official layout of a task, for the smoke runs of the recipes.

usage: python examples/smoke_data.py TASK FOLDER [NUM_TRAIN NUM_DEV]

The labels can be told from the sentences. SST-2, Yelp-2 and Amazon-2 are the project's synthetic
sentiment; CoLA has sentences forwards and backwards; the second sentence of a pair is the first one
shortened (entailment, paraphrase), the first one denied (contradiction) or another one.
"""

import sys
from pathlib import Path

from scl_fairseq.data import synthetic
from scl_fairseq.files import write_text
from scl_fairseq.utf8 import begin_command

NUM_TRAIN, NUM_DEV = 96, 32
# The columns of each file, in the official order, as the project's own readers expect them.
_MNLI = [
    *("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2"),
]
_MNLI_TRAIN = [*_MNLI, "label1", "gold_label"]
_MNLI_DEV = [*_MNLI, "label1", "label2", "label3", "label4", "label5", "gold_label"]
_COLUMNS = {
    "CoLA": ["source", "label", "mark", "sentence"],
    "MRPC": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
    "RTE": ["index", "sentence1", "sentence2", "label"],
    "QNLI": ["index", "question", "sentence", "label"],
}
FILES = {task: {"train": columns, "dev": columns} for task, columns in _COLUMNS.items()}
FILES["MNLI"] = {"train": _MNLI_TRAIN, "dev_matched": _MNLI_DEV, "dev_mismatched": _MNLI_DEV}
HEADERLESS = {"CoLA"}
REVIEWS = ("Yelp-2", "Amazon-2")
LABELS = {
    "CoLA": ("0", "1"),
    "MRPC": ("0", "1"),
    "RTE": ("entailment", "not_entailment"),
    "QNLI": ("entailment", "not_entailment"),
    "MNLI": ("contradiction", "neutral", "entailment"),
}


def write(task: str, folder: Path, num_train: int = NUM_TRAIN, num_dev: int = NUM_DEV) -> None:
    """Write the training and development files of a task; labels are balanced within one.

    Args:
        task: SST-2, CoLA, MRPC, RTE, QNLI, MNLI, Yelp-2 or Amazon-2.
        folder: where to; made if it is not there.
        num_train: rows of the training file, 2 or more.
        num_dev: rows of each development file, 2 or more.

    Raises:
        ValueError: there is no such task, or a size is too small or too large.
    """
    if task == "SST-2":
        synthetic.write_corpus(folder, num_train, num_dev)
        return
    if task not in (*FILES, *REVIEWS):
        known = ", ".join(("SST-2", *FILES, *REVIEWS))
        raise ValueError(f"no generated data for {task!r}, expected {known}")
    if min(num_train, num_dev) < 2:
        raise ValueError("2 rows or more are expected in each file")
    if task in REVIEWS:
        _write_reviews(task, folder, num_train, num_dev)
        return
    sizes = {name: num_train if name == "train" else num_dev for name in FILES[task]}
    sentences = [sentence for sentence, _ in synthetic.generate(sum(sizes.values()) + 1)]
    for name, columns in FILES[task].items():
        rows = [] if task in HEADERLESS else [columns]
        for index in range(sizes[name]):
            label = LABELS[task][index % len(LABELS[task])]
            values = _values(task, label, sentences.pop(), sentences[-1]) | {"index": str(index)}
            rows.append([values.get(column, "") for column in columns])
        write_text(folder / f"{name}.tsv", "".join("\t".join(row) + "\n" for row in rows))


def _write_reviews(task: str, folder: Path, num_train: int, num_dev: int) -> None:
    """CSV files without a header: 1 or 2, in Amazon-2 a title, and the text."""
    # Neither the other's sentences nor, by its seed, SST-2's.
    rows = synthetic.generate(num_train + num_dev, seed=2 + REVIEWS.index(task))
    for name, part in (("train", rows[:num_train]), ("test", rows[num_train:])):
        lines = []
        for sentence, label in part:
            title = [" ".join(sentence.split()[:3])] if task == "Amazon-2" else []
            fields = (str(label + 1), *title, sentence)
            lines.append(",".join(f'"{field}"' for field in fields) + "\n")
        write_text(folder / f"{name}.csv", "".join(lines))


def _values(task: str, label: str, sentence: str, other: str) -> dict[str, str]:
    """What the columns of a row hold, under the names they have in any of the tasks."""
    first = sentence
    if label == "contradiction":
        second = f"it is not true that {sentence}"
    else:
        words = (sentence if label in ("entailment", "1") else other).split()
        second = " ".join(word for at, word in enumerate(words) if at % 4 != 3)
    if task == "CoLA" and label == "0":
        first = " ".join(reversed(sentence.split()))
    values = dict.fromkeys(("sentence", "sentence1", "#1 String"), first)
    values |= dict.fromkeys(("question", "sentence2", "#2 String"), second)
    values |= dict.fromkeys(("label", "gold_label", "Quality"), label)
    return values | {f"label{annotator}": label for annotator in range(1, 6)}


def main() -> None:
    """Write the data that the command line names."""
    begin_command()
    if len(sys.argv) not in (3, 5):
        sys.exit(__doc__.split("\n\n")[1])
    task, folder, *sizes = sys.argv[1:]
    write(task, Path(folder), *map(int, sizes))


if __name__ == "__main__":
    main()
