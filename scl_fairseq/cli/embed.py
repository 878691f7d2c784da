"""``scl-embed``: sentences to vectors."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.text_model import (
    Block,
    add_model_options,
    loaded,
    run_blocks,
    sentence_blocks,
    tell_truncated,
)
from scl_fairseq.embeddings import EMBEDDINGS
from scl_fairseq.files import replaced_file

if TYPE_CHECKING:
    from torch import Tensor

PROG = "scl-embed"


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Turn sentences, one or two a line, into vectors: a row of float32 a line, in their order.",
        f"{PROG} outputs/sst2/checkpoint_best.pt --output vectors.npy < sentences.txt",
    )
    add_model_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="file to write, .npy or .safetensors (key embeddings); by default .npy to standard "
        "output",
    )
    parser.add_argument(
        "--embedding",
        choices=EMBEDDINGS,
        help="cls: the last layer at <s>; pooled: what the classifier's last projection reads; "
        "mean: the last layer's mean over all tokens (what the classifier reads, or of an encoder "
        "what its training contrasted)",
    )
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)
    if options.output is None and sys.stdout.isatty():
        raise ValueError("vectors are no text for a terminal; name a file with --output")

    from scl_fairseq.inference.vector_file import VectorFile, kind_of

    kind = "npy" if options.output is None else kind_of(options.output)
    count = 0
    with (
        loaded(options) as model,
        sentence_blocks(PROG, options, model) as blocks,
        _result(options) as file,
    ):
        vectors = VectorFile(file, kind)
        vectors.write(model.embed([], options.embedding).numpy())  # the width, without any line

        def embed(block: Block) -> Tensor:
            return model.embed(block, options.embedding, max_tokens=options.batch_tokens)

        end = "all was well up to {}; nothing is written"
        for found in run_blocks(embed, blocks, options, end):
            count += model.truncated
            vectors.write(found.numpy())
        vectors.finish()
        tell_truncated(PROG, count, model)
    return 0


@contextlib.contextmanager
def _result(options: argparse.Namespace) -> Iterator[BinaryIO]:
    """A file that becomes the result when the block ends without error."""
    if options.output is None:
        with tempfile.TemporaryFile() as file:  # a pipe cannot be sought in
            yield file
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    with replaced_file(options.output) as file:
        yield file


if __name__ == "__main__":
    sys.exit(main())
