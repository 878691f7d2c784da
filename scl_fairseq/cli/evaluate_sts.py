"""``scl-evaluate --sts``: sentence vectors of checkpoints against people's judgement."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser, bar_of, part_of
from scl_fairseq.cli.task_options import refuse
from scl_fairseq.cli.text_model import add_text_options
from scl_fairseq.embeddings import EMBEDDINGS

# What only scores on labels have.
LABEL_OPTIONS = ("predictions", "f1_label", "glue_submission", "task")
STS_OPTIONS = ("embedding", "bpe", "bpe_dir")


def add_sts_options(parser: Parser) -> None:
    """Add ``--sts`` and what goes with it."""
    sts = parser.add_argument_group(
        "semantic textual similarity",
        "Spearman's correlation of cosines with people's scores on STS12 to STS16, STS-B and\n"
        "SICK-R, as far as they are there; --data names dictionaries.",
    )
    sts.add_argument(
        "--sts", type=Path, metavar="DIR", help="SentEval's data/downstream, or its STS folder"
    )
    sts.add_argument(
        "--embedding",
        nargs="+",
        choices=EMBEDDINGS,
        metavar="KIND",
        help=f"{', '.join(EMBEDDINGS)}, one or several (for each checkpoint what its classifier "
        "reads, or of an encoder what its training contrasted)",
    )
    add_text_options(parser, data_dir=False)


def evaluate_sts(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Evaluate and print.

    Raises:
        ValueError, OSError: bad input.
    """
    refuse(options, LABEL_OPTIONS, "goes with labels, not with --sts")
    import scl_fairseq
    from scl_fairseq.experiments.sts_table import text
    from scl_fairseq.files import write_text
    from scl_fairseq.inference import sts
    from scl_fairseq.inference.sts_files import read_sts

    sets, missing = read_sts(options.sts)
    paths = options.checkpoints
    told = list(dict.fromkeys(options.embedding or []))
    found = []
    with bar_of("sentences") as show:
        for name, path in zip(names, paths, strict=True):
            model = scl_fairseq.load(
                path, options.data, options.bpe, options.bpe_dir, options.device
            )
            kinds = told or [model.embedding]
            for kind in kinds:
                advance = part_of(show, len(found), len(paths) * len(kinds))
                found.append(sts.evaluate_sts(model, name, path, kind, sets, advance))
    print(text(options.sts, sets, missing, found), end="")
    for one in found:
        if one.truncated:
            print(
                f"scl-evaluate: note: {one.name}, {one.embedding}: {one.truncated} sentences were "
                "cut to the positions of the model",
                file=sys.stderr,
            )
    if options.json:
        write_text(options.json, sts.as_json(options.sts, sets, found))
        print(f"wrote {options.json}")
