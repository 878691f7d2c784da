"""nDCG@10 of sentence-transformers models on BEIR's data sets, by BEIR's own package.

usage: python examples/infocse/retrieval.py SCORES BEIR NAME=MODEL [NAME=MODEL ...]

BEIR is a folder of data sets as its archives unpack: corpus.jsonl, queries.jsonl, qrels/test.tsv in
each, or in the parts of one (cqadupstack), whose mean counts. MODEL is a folder that scl-convert
--to sentence-transformers wrote. SCORES, a .json file, is written after each data set; what it has
of the same model and data is not computed again.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scl_fairseq.experiments.sts_report import read_record
from scl_fairseq.files import file_sha256, write_text
from scl_fairseq.utf8 import begin_command
from scl_fairseq.versions import installed

FILES = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")
DEPTH = 10
PACKAGES = ("beir", "sentence-transformers", "transformers", "torch", "numpy")


def data_sets(folder: Path) -> dict[str, list[Path]]:
    """Folders of each data set: one, or that of each part.

    Raises:
        FileNotFoundError: there are none, or one lacks a file.
        ValueError: judgements without a header.
    """
    found = {}
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):
        parts = [path] if (path / FILES[0]).exists() else []
        found[path.name] = parts or sorted(part.parent for part in path.glob(f"*/{FILES[0]}"))
    found = {name: parts for name, parts in found.items() if parts}
    if not found:
        raise FileNotFoundError(
            f"{folder} has no data set of BEIR, which is a folder with {', '.join(FILES)}"
        )
    for part in (part for parts in found.values() for part in parts):
        for name in FILES:
            if not (part / name).is_file():
                raise FileNotFoundError(f"{part / name} is missing")
        with open(part / FILES[2], encoding="utf-8") as file:
            header = file.readline().rstrip("\n").split("\t")
        if len(header) != 3 or header[2].isdecimal():  # beir takes any first line for a header
            raise ValueError(f"{part / FILES[2]}:1: expected query-id, corpus-id, score")
    return found


def ndcg(model: Any, part: Path) -> float:
    """By cosines, 0 to 1, of a loaded ``beir.retrieval.models.SentenceBERT``.

    Raises:
        ValueError: the package cannot work on such a data set.
    """
    from beir.datasets.data_loader import GenericDataLoader
    from beir.retrieval.evaluation import EvaluateRetrieval
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    search = DenseRetrievalExactSearch(model, show_progress_bar=sys.stderr.isatty())
    retriever = EvaluateRetrieval(search, k_values=[DEPTH], score_function="cos_sim")
    try:
        corpus, queries, judged = GenericDataLoader(str(part)).load("test")
        if len(queries) < 2 or not all(isinstance(row["title"], str) for row in corpus.values()):
            raise ValueError("it wants two judged queries, and a title in each row of the corpus")
        results = retriever.retrieve(corpus, queries)
        return retriever.evaluate(judged, results, [DEPTH])[0][f"NDCG@{DEPTH}"]
    except (LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{part}: BEIR's package cannot work on it: {reason}") from error


def evaluate(path: Path, folder: Path, models: dict[str, Path]) -> None:
    """Score each model on each data set, and keep the scores."""
    sets = data_sets(folder)
    for name, model in models.items():
        if not (model / "modules.json").is_file():
            raise FileNotFoundError(f"{name}={model} is no folder of sentence-transformers")
    try:
        from beir.retrieval.models import SentenceBERT
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is missing; it comes with: pip install '.[beir]'") from None
    record = {"beir": {}, "made-of": {}, **(read_record(path) if path.exists() else {})}
    record |= {"metric": f"nDCG@{DEPTH} of cosines", "versions": installed(PACKAGES)}
    data = {name: _digest(parts, FILES) for name, parts in sets.items()}
    for name, place in models.items():
        weights, loaded = _digest([place], _files_of(place)), None
        made_of = record["made-of"].get(name, {})
        # Scores on data that is not here now stay too, if they are of this model.
        made_of = {
            of: made for of, made in made_of.items() if made == [weights, data.get(of, made[1])]
        }
        scores = {of: score for of, score in record["beir"].get(name, {}).items() if of in made_of}
        record["beir"][name], record["made-of"][name] = scores, made_of
        for of, parts in sets.items():
            if of not in scores:
                loaded = loaded or SentenceBERT(str(place))
                scores[of] = statistics.fmean(ndcg(loaded, part) for part in parts)
                made_of[of] = [weights, data[of]]
                write_text(
                    path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
                )
            print(f"{name}, {of}: {scores[of]:.4f}", flush=True)


def _files_of(model: Path) -> list[str]:
    """All that tells a model from another; its card has the date."""
    files = (path for path in model.rglob("*") if path.is_file() and path.suffix != ".md")
    return sorted(path.relative_to(model).as_posix() for path in files)


def _digest(folders: Sequence[Path], names: Sequence[str]) -> str:
    found = hashlib.sha256()
    for folder in folders:
        for name in names:
            found.update(f"{name} {file_sha256(folder / name)}\n".encode())
    return found.hexdigest()


def main() -> None:
    """Do what the command line asks for."""
    begin_command()
    arguments = sys.argv[1:]
    if len(arguments) < 3 or not all("=" in one for one in arguments[2:]):
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        sys.exit(2)
    models = (one.split("=", 1) for one in arguments[2:])
    folders = {name: Path(folder) for name, folder in models}
    try:
        evaluate(Path(arguments[0]), Path(arguments[1]), folders)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
