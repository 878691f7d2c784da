"""Data sets for retrieval in the layout of BEIR, where BEIR's own are not at hand.

usage: python examples/infocse/retrieval_data.py --qnli GLUE/QNLI FOLDER
       python examples/infocse/retrieval_data.py --smoke FOLDER

--qnli makes one in FOLDER of QNLI's dev.tsv, in which a question is to find the sentence that
answers it among all sentences; --smoke makes two small ones below FOLDER, generated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.data import synthetic
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.files import write_text
from scl_fairseq.utf8 import begin_command

NAMES = ("corpus.jsonl", "queries.jsonl", "qrels")


def write_qnli(source: Path, folder: Path) -> None:
    """Questions whose sentence answers them, and all sentences."""
    rows = read_rows(TASKS["QNLI"], source / "dev.tsv")
    sentences = dict.fromkeys(row.sentences[1] for row in rows)
    place = {text: number for number, text in enumerate(sentences)}
    answered: dict[str, set[int]] = {}
    for row in rows:
        if row.label == "entailment":
            answered.setdefault(row.sentences[0], set()).add(place[row.sentences[1]])
    _write(folder, list(sentences), answered)


def write_smoke(folder: Path) -> None:
    """A set, and one of two parts: halves of generated sentences are to find the other halves."""
    sentences = [sentence.split(" ") for sentence, _ in synthetic.generate(60)]
    for number, name in enumerate(("halves", "parts/one", "parts/two")):
        lines = sentences[20 * number : 20 * number + 20]
        starts = [" ".join(line[: len(line) // 2]) for line in lines]
        ends = [" ".join(line[len(line) // 2 :]) for line in lines]
        found: dict[str, set[int]] = {}
        for place, start in enumerate(starts):
            found.setdefault(start, set()).add(place)
        _write(folder / name, ends, found)


def _write(folder: Path, documents: Sequence[str], answered: dict[str, set[int]]) -> None:
    """A data set: texts, and for each query the places of those that answer it.

    Raises:
        FileExistsError: there is something else in the folder.
    """
    if folder.exists() and {path.name for path in folder.iterdir()} - {*NAMES}:
        raise FileExistsError(f"{folder} holds other files, and is left as it is")
    corpus = ({"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(documents))
    queries = ({"_id": f"q{i}", "text": text} for i, text in enumerate(answered))
    judged = [(i, d) for i, found in enumerate(answered.values()) for d in sorted(found)]
    files = {
        "corpus.jsonl": map(json.dumps, corpus),
        "queries.jsonl": map(json.dumps, queries),
        "qrels/test.tsv": ["query-id\tcorpus-id\tscore", *(f"q{i}\td{d}\t1" for i, d in judged)],
    }
    for name, lines in files.items():
        write_text(folder / name, "".join(f"{line}\n" for line in lines))
    print(f"wrote {folder}: {len(documents)} texts, {len(answered)} queries, {len(judged)} answers")


def main() -> None:
    """Write what the command line asks for."""
    begin_command()
    arguments = sys.argv[1:]
    try:
        if len(arguments) == 2 and arguments[0] == "--smoke":
            write_smoke(Path(arguments[1]))
        elif len(arguments) == 3 and arguments[0] == "--qnli":
            write_qnli(Path(arguments[1]), Path(arguments[2]))
        else:
            print(__doc__.split("\n\n")[1], file=sys.stderr)
            sys.exit(2)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
