"""``scl-convert``: a Hugging Face encoder as a fairseq checkpoint."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser, command

PROG = "scl-convert"


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Turn a local Hugging Face BERT or RoBERTa folder (config.json, model.safetensors and its\n"
        "vocabulary) into a folder that fairseq fine-tunes from: model.pt, dict.txt, BPE files.",
        f"{PROG} roberta-base checkpoints/roberta-base",
    )
    parser.add_argument("source", metavar="HF_DIR", type=Path, help="the Hugging Face folder")
    parser.add_argument(
        "destination",
        metavar="OUT_DIR",
        type=Path,
        help="the folder to write; an earlier conversion there is replaced",
    )
    parser.add_argument(
        "--sha256", metavar="HEX", help="refuse a model.safetensors that has another SHA-256"
    )
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)

    # After parsing: torch takes seconds to import, and --help does not need it.
    from scl_fairseq.checkpoints.huggingface import convert

    done = convert(options.source, options.destination, expected_sha256=options.sha256)
    size = done.architecture
    print(f"wrote {options.destination}: {', '.join(done.files)}")
    print(
        f"{size.model_type} encoder, {done.parameters / 1e6:.1f} M parameters: "
        f"{size.layers} layers, {size.width} wide, {size.heads} heads, "
        f"{size.max_positions} positions, {size.vocabulary_size} tokens ({done.bpe})"
    )
    print("fairseq-train needs:")
    print(f"  --restore-file {shlex.quote(str(options.destination / 'model.pt'))} \\")
    print(f"  {shlex.join(done.flags)}")
    for note in done.notes:
        print(f"note: {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
