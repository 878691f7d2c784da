"""``scl-convert``: Hugging Face encoders as fairseq checkpoints, and back."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.convert_onnx import DEFAULT_ROWS, export_options, to_onnx
from scl_fairseq.cli.task_options import at_least
from scl_fairseq.cli.text_model import SPLIT_HELP, add_text_options
from scl_fairseq.embeddings import CLS, POOLINGS
from scl_fairseq.inference.choices import ONNX, ONNX_FILES
from scl_fairseq.text.assets import CHECKPOINT_HELP

PROG = "scl-convert"
TARGETS = ("huggingface", "sentence-transformers", ONNX)
_OF_MODULES = ("pooling", "normalize", "with_head")
_OF_ONNX = ("precision", "split", "rows")


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Turn a local Hugging Face BERT, RoBERTa or XLM-R folder (config.json, model.safetensors\n"
        "and its vocabulary), a classifier's or sentence-transformers' too, into a folder that\n"
        "fairseq fine-tunes from: model.pt, dict.txt, BPE files. With --to, turn a fairseq\n"
        "checkpoint into a folder for transformers, sentence-transformers or onnxruntime, which\n"
        "needs no fairseq.",
        f"{PROG} roberta-base checkpoints/roberta-base\n"
        f"  {PROG} --to huggingface --data-dir data/SST-2 --bpe-dir bpe \\\n"
        "    runs/sst2/checkpoint_best.pt exported/sst2\n"
        f"  {PROG} --to onnx --data-dir data/SST-2 runs/sst2 exported/onnx",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help=f"the Hugging Face folder; with --to, a checkpoint {CHECKPOINT_HELP}",
    )
    parser.add_argument(
        "destination",
        metavar="OUT_DIR",
        type=Path,
        help="the folder to write; an earlier conversion there is replaced",
    )
    parser.add_argument(
        "--sha256", metavar="HEX", help="refuse a file of weights that has another SHA-256"
    )
    out = parser.add_argument_group("from fairseq")
    out.add_argument("--to", choices=TARGETS, help="what to write")
    out.add_argument(
        "--task", metavar="NAME", help="the task, for its label names and the model card: SST-2, …"
    )
    out.add_argument(
        "--pooling",
        choices=POOLINGS,
        help="sentence-transformers: which vector is the sentence's (what the checkpoint's "
        "classification head reads, or its training contrasted)",
    )
    out.add_argument(
        "--normalize",
        action="store_true",
        help="sentence-transformers: scale vectors to length 1",
    )
    out.add_argument(
        "--with-head",
        action="store_true",
        help="sentence-transformers: the classifier too, so that encode gives its logits",
    )
    out.add_argument(
        "--precision",
        nargs="+",
        choices=ONNX_FILES,
        help="onnx: which models to write (all): fp32, fp16, or int8, whose weights have 8 bits "
        "and whose activations are rounded as they come",
    )
    out.add_argument("--split", help=f"onnx: compare on this one {SPLIT_HELP}")
    out.add_argument(
        "--rows",
        type=at_least(0),
        metavar="N",
        help=f"onnx: compare on N rows at most, spread evenly over the split; 0: all "
        f"({DEFAULT_ROWS})",
    )
    add_text_options(parser)
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    parser = _parser()
    options = parser.parse_args(argv)
    _check(parser, options)
    if options.to == ONNX:
        return to_onnx(options)
    return _from_fairseq(options) if options.to else _to_fairseq(options)


def _check(parser: Parser, options: argparse.Namespace) -> None:
    given = [
        "--" + name.replace("_", "-")
        for name in ("data_dir", "bpe", "bpe_dir", "task", *_OF_MODULES, *_OF_ONNX)
        if getattr(options, name) not in (None, False)
    ]
    if given and not options.to:
        parser.error(f"{given[0]} needs --to")
    only = [name for name in _OF_MODULES if getattr(options, name)]
    if only and options.to != "sentence-transformers":
        parser.error(f"--{only[0].replace('_', '-')} needs --to sentence-transformers")
    only = [name for name in _OF_ONNX if getattr(options, name) is not None]
    if only and options.to != ONNX:
        parser.error(f"--{only[0]} needs --to onnx")
    if options.normalize and options.with_head:
        parser.error("--normalize scales vectors, and --with-head gives logits: take one of them")


def _to_fairseq(options: argparse.Namespace) -> int:
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
    if done.head:
        print(f"labels: {', '.join(done.head.labels)}" if done.head.labels else "a regression")
    if done.pooling_file:
        print(f"pooling: {done.pooling} ({done.pooling_file})")
    print("fairseq-train needs:")
    print(f"  --finetune-from-model {shlex.quote(str(options.destination / 'model.pt'))} \\")
    # For text: checkpoints remember it, and fairseq's hub would otherwise download GPT-2's.
    words = ["--bpe", done.bpe_options["_name"]]
    for option, path in done.bpe_options.items():
        if option != "_name":
            words += ["--" + option.replace("_", "-"), path]
    print(f"  {shlex.join(words)} \\")
    if done.pooling != CLS:  # which is the default, and stock criterions know no other
        print(f"  --head-pooling {done.pooling} \\")
    print(f"  {shlex.join(done.flags)}")  # the recipes take the line that begins with --arch
    for note in done.notes:
        print(f"note: {note}")
    return 0


def _from_fairseq(options: argparse.Namespace) -> int:
    told = export_options(options)

    from scl_fairseq.checkpoints.export import export

    done = export(options.source, options.destination, options.to, told)
    config = done.config
    print(f"wrote {options.destination}: {', '.join(done.files)}")
    print(
        f"{config['architectures'][0]}, {done.parameters / 1e6:.1f} M parameters: "
        f"{config['num_hidden_layers']} layers, {config['hidden_size']} wide, "
        f"{config['num_attention_heads']} heads, {done.max_positions} positions, "
        f"{config['vocab_size']} tokens ({done.bpe})"
    )
    if "id2label" in config:
        print(f"labels: {', '.join(config['id2label'].values())}")
    if done.pooling:
        print(f"pooling: {done.pooling}")
    for note in done.notes:
        print(f"note: {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
