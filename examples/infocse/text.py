"""Unlabelled lines for sentence embeddings, from the sentences of GLUE or generated ones.

usage: python examples/infocse/text.py GLUE FOLDER NUM_LINES
       python examples/infocse/text.py --smoke FOLDER

GLUE is a folder with the official SST-2, MRPC, RTE, QNLI and MNLI, or some of them. FOLDER receives
train.txt, NUM_LINES different sentences of their training sets in an order that is always the same,
and valid.txt, 1,000 others. With --smoke: 96 and 16 generated ones, and FOLDER/sts, a generated STS
benchmark in SentEval's layout, whose scores are the share of common words.
"""

import hashlib
import sys
from pathlib import Path

from scl_fairseq.data import synthetic
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.files import write_text
from scl_fairseq.utf8 import begin_command

TASK_NAMES = ("SST-2", "MRPC", "RTE", "QNLI", "MNLI")
NUM_VALID = 1000
FEWEST_WORDS = 4  # SST-2 has phrases of a word or two
SMOKE_TRAIN, SMOKE_VALID = 96, 16


def of_glue(glue: Path, num_lines: int) -> list[str]:
    """Different sentences of GLUE's training sets, ``num_lines`` and those of the validation set.

    Raises:
        ValueError: there are fewer.
    """
    found: dict[str, None] = {}
    for name in TASK_NAMES:
        path = glue / name / "train.tsv"
        if path.exists():
            for row in read_rows(TASKS[name], path):
                found.update(dict.fromkeys(" ".join(text.split()) for text in row.sentences))
    kept = [text for text in found if len(text.split()) >= FEWEST_WORDS]
    wanted = num_lines + NUM_VALID
    if len(kept) < wanted:
        raise ValueError(f"{glue} has {len(kept)} different sentences, fewer than {wanted}")
    # By a checksum: the same on every machine, whatever the order of the files.
    return sorted(kept, key=lambda text: hashlib.sha256(text.encode()).digest())[:wanted]


def write_lines(folder: Path, lines: list[str], num_train: int) -> None:
    """``train.txt`` and ``valid.txt``."""
    for name, part in (("train", lines[:num_train]), ("valid", lines[num_train:])):
        write_text(folder / f"{name}.txt", "".join(f"{line}\n" for line in part))


def write_smoke(folder: Path) -> None:
    """All generated."""
    sentences = [sentence for sentence, _ in synthetic.generate(SMOKE_TRAIN + SMOKE_VALID + 40)]
    write_lines(folder, sentences[40:], SMOKE_TRAIN)
    for name, part in (("dev", sentences[:20]), ("test", sentences[20:40])):
        rows = []
        for number, (first, other) in enumerate(zip(part, part[1:] + part[:1], strict=True)):
            words = first.split()
            second = " ".join(words[: number % len(words)] + other.split())
            common = len(set(words) & set(second.split())) / len(set(words) | set(second.split()))
            rows.append(f"generated\tnone\t0000\t{number}\t{5 * common:.2f}\t{first}\t{second}\n")
        write_text(folder / "sts" / "STSBenchmark" / f"sts-{name}.csv", "".join(rows))


def main() -> None:
    """Write what the command line asks for."""
    begin_command()
    if len(sys.argv) == 3 and sys.argv[1] == "--smoke":
        write_smoke(Path(sys.argv[2]))
    elif len(sys.argv) == 4 and sys.argv[3].isdecimal():
        count = int(sys.argv[3])
        try:
            write_lines(Path(sys.argv[2]), of_glue(Path(sys.argv[1]), count), count)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
    else:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
