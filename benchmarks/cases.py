"""What the data benchmark prepares: files in GLUE's layout, real or synthetic, and a BPE."""

import contextlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data import synthetic
from scl_fairseq.files import write_text

SPLITS = {"train": "train", "dev": "valid"}  # GLUE's name, fairseq's name
HEADERS = {"SST-2": ("sentence", "label"), "QNLI": ("index", "question", "sentence", "label")}
SENTENCES = {"SST-2": (0,), "QNLI": (1, 2)}  # the label is always the last column
SYNTHETIC_DEV_ROWS = 872
SYNTHETIC_VOCABULARY = 5000

Row = Sequence[str]


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
    write_text(folder / "encoder.json", json.dumps(ids, allow_nan=False))
    counts = Counter(dict.fromkeys(ids.values(), 0))
    for encoding in tokenizer.encode_batch(list(lines)):
        counts.update(encoding.ids)
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    write_text(folder / "dict.txt", "".join(f"{token} {count}\n" for token, count in by_count))
