"""``scl-report``: the tables of a sweep."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import at_least, positive

PROG = "scl-report"
OF_SWEEPS = ("few-shot", "glue", "batch-size", "noise", "transfer")
OF_SENTENCE_EMBEDDINGS = ("sts", "sts-ablation", "beir")


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Tabulate what scl-sweep has finished as the paper does: hyper-parameters and runs are\n"
        "chosen by validation accuracy, test accuracies stand beside the published ones, with\n"
        "tests of the difference, and with what is missing, failed or collapsed. Scores of\n"
        "scl-evaluate --sts stand beside InfoCSE's tables.",
        f"{PROG} outputs/few-shot\n"
        f"  {PROG} simcse.json infocse.json --published sts\n"
        f"  {PROG} outputs/few-shot --format html --out outputs/few-shot/report.html",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="the --out folder of a scl-sweep, or its results.jsonl; several are put together; or "
        "files of scl-evaluate --sts --json, or of examples/infocse/retrieval.sh",
    )
    parser.add_argument(
        "--format",
        choices=("markdown", "latex", "csv", "html"),
        default="markdown",
        help="markdown (default); latex with booktabs; csv with raw numbers; html, one page with "
        "figures",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="to write to (standard output; html needs it)"
    )
    parser.add_argument(
        "--published",
        choices=(*OF_SWEEPS, *OF_SENTENCE_EMBEDDINGS, "none"),
        help="published table that stands beside (what the config names; for scores of sentence "
        "embeddings sts, sts-ablation or beir)",
    )
    parser.add_argument("--title", help="its heading (what the config is named)")
    parser.add_argument(
        "--top",
        type=positive,
        metavar="K",
        help="how many runs to select (3; beside glue and batch-size 1, as in the paper)",
    )
    parser.add_argument(
        "--resamples", type=positive, default=10_000, metavar="B", help="of the bootstrap (10000)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the bootstrap (0)")
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)
    if options.format == "html" and not options.out:
        raise ValueError("--format html needs --out FILE")

    from scl_fairseq.experiments import sts_report
    from scl_fairseq.experiments.report import ReportSettings, build
    from scl_fairseq.experiments.report_formats import FORMATS
    from scl_fairseq.experiments.results import read_results
    from scl_fairseq.files import write_text

    if all(map(sts_report.is_scores, options.results)):
        report = sts_report.build(options.results, options.published)
    else:
        parts = [read_results(path) for path in options.results]
        settings = ReportSettings(options.published, options.top, options.resamples, options.seed)
        report = build(parts, settings)
    if options.title:
        report = dataclasses.replace(report, title=options.title)
    text = FORMATS[options.format](report)
    if options.out:
        write_text(options.out, text)
        print(f"wrote {options.out}")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
