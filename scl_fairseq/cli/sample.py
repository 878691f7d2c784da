"""``scl-sample``: few-shot samples of a task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser, byte_bar, command
from scl_fairseq.cli.task_options import (
    CUSTOM_OPTIONS,
    add_task_options,
    at_least,
    positive,
    refuse,
    task_of,
)

PROG = "scl-sample"


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Draw few-shot samples as the paper does: N labelled examples in total, following the\n"
        "training set's label distribution; half of dev as test set, up to 500 of the rest as\n"
        "validation set, the same for every sample and N of a task and seed. The same seed\n"
        "gives the same rows on every machine.",
        f"{PROG} --task SST-2 --data-dir glue/SST-2 --num-examples 20 --num-samples 10 --seed 1 "
        f"--out few-shot\n  {PROG} --from-manifest manifest.json --data-dir glue/SST-2 --out again",
    )
    add_task_options(parser)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--num-examples", type=positive, metavar="N", help="labelled examples in all")
    size.add_argument(
        "--per-class", type=positive, metavar="K", help="labelled examples of each class instead"
    )
    size.add_argument(
        "--from-manifest",
        type=Path,
        metavar="FILE",
        help="write the one sample of this manifest.json again, from the same files",
    )
    parser.add_argument("--num-samples", type=positive, metavar="S", help="how many samples (10)")
    parser.add_argument("--seed", type=at_least(0), help="of the draw (0)")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="OUT",
        help="receives sample0, sample1, ... (each with train.tsv, dev.tsv, test.tsv, "
        "manifest.json), or the one sample; earlier samples there are replaced whole",
    )
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)
    if options.from_manifest:
        return _again(options)
    if options.num_examples is None and options.per_class is None:
        raise ValueError("one of --num-examples, --per-class and --from-manifest is required")
    task = task_of(options)

    from scl_fairseq.data.file_report import told_repeated
    from scl_fairseq.data.sampling import Size, write_samples

    with byte_bar() as show:
        written = write_samples(
            task,
            options.data_dir,
            options.out,
            Size(options.num_examples, options.per_class),
            options.num_samples or 10,
            options.seed or 0,
            strict=options.strict,
            workers=options.workers,
            on_progress=show,
            dev_share=options.dev_share,
        )
    for name, counts in written.label_counts.items():
        listed = ", ".join(f"{label} {count}" for label, count in counts.items())
        print(f"{name}.tsv: {sum(counts.values())} rows ({listed})")
    for report in written.reports:
        for line in report.lines(is_sampled=True):
            print(f"note: {line}")
    if written.repeated:
        print(f"note: {told_repeated(written.repeated, 'dev')}")
    first, last = written.folders[0], written.folders[-1]
    through = f" to {last.name}" if len(written.folders) > 1 else ""
    each = "each is" if through else "it is"
    print(f"wrote {first}{through}; {each} a --data-dir for scl-preprocess")
    return 0


def _again(options: argparse.Namespace) -> int:
    from scl_fairseq.data.manifest import Manifest
    from scl_fairseq.data.sampling import redraw

    given = ("num_samples", "seed", "strict", *CUSTOM_OPTIONS)
    refuse(options, given, "is the manifest's with --from-manifest")
    manifest = Manifest.read(options.from_manifest)
    if options.task is not None and options.task.casefold() != manifest.task.casefold():
        raise ValueError(f"{options.from_manifest} is of {manifest.task}, not of {options.task}")
    redraw(manifest, options.data_dir, options.out, options.workers)
    print(f"wrote {options.out}, the sample of {options.from_manifest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
