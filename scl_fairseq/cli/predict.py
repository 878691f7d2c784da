"""``scl-predict``: sentences to labels with probabilities."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.serve import SERVE_OPTIONS, add_serve_options, serve
from scl_fairseq.cli.task_options import refuse
from scl_fairseq.cli.text_model import (
    Block,
    add_model_options,
    loaded_classifier,
    run_blocks,
    sentence_blocks,
    tell_truncated,
)
from scl_fairseq.inference.choices import BACKENDS

if TYPE_CHECKING:
    from scl_fairseq.inference.predictions import Predictions

PROG = "scl-predict"
TSV, JSONL = "tsv", "jsonl"


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Label sentences, one or two a line as in training: a line of output for each, as soon as\n"
        "its block of lines is done.",
        f"{PROG} outputs/sst2/checkpoint_best.pt < sentences.txt > labels.tsv\n"
        f"  {PROG} outputs/sst2 --serve",
    )
    add_model_options(parser)
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what runs the model (what CHECKPOINT is for); onnx takes a file of scl-convert --to "
        "onnx, or its folder, of which it means model.onnx",
    )
    parser.add_argument(
        "--format",
        choices=(TSV, JSONL),
        help="tsv (default): with a header, the label and the probability of each label; jsonl: an "
        "object a line",
    )
    add_serve_options(parser)
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)
    if options.serve:
        refuse(options, ("input", "format"), "does not go with --serve")
        return serve(PROG, options)
    refuse(options, SERVE_OPTIONS, "goes with --serve")
    options.format = options.format or TSV
    count = 0
    with (
        loaded_classifier(options) as model,
        sentence_blocks(PROG, options, model, model.num_inputs) as blocks,
    ):
        names = model.predict([]).class_names  # refused here where there is no classifier
        if options.format == TSV:
            print("label", *names, sep="\t", flush=True)

        def predict(block: Block) -> Predictions:
            return model.predict(block, max_tokens=options.batch_tokens)

        for found in run_blocks(predict, blocks, options, "the output ends after {}"):
            count += model.truncated
            sys.stdout.write(_lines(found, options.format))
            sys.stdout.flush()
        tell_truncated(PROG, count, model)
    return 0


def _lines(found: Predictions, form: str) -> str:
    rows = zip(found.labels, found.probabilities.tolist(), strict=True)
    if form == TSV:
        lines = ("\t".join([label, *(f"{value:.6f}" for value in row)]) for label, row in rows)
    else:
        lines = (
            json.dumps(
                {
                    "label": label,
                    "probabilities": {
                        name: round(value, 6)
                        for name, value in zip(found.class_names, row, strict=True)
                    },
                },
                ensure_ascii=False,
                allow_nan=False,
            )
            for label, row in rows
        )
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
