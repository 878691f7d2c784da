"""``scl-plot``: figures of checkpoints and of sweeps."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import at_least, positive
from scl_fairseq.cli.text_model import SPLIT_HELP
from scl_fairseq.text.assets import CHECKPOINT_HELP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scl_fairseq.experiments.result_places import Place

PROG = "scl-plot"
EXAMPLES = {
    "tsne": f"{PROG} tsne ce/checkpoint_best.pt scl/checkpoint_best.pt --data bin/sample0 "
    "--out tsne.png",
    "heatmap": f"{PROG} heatmap outputs/few-shot --task SST-2 --num-examples 20 --out heat.svg",
    "curves": f"{PROG} curves outputs/few-shot --task SST-2 --num-examples 20 --out curves.png",
    "accuracy": f"{PROG} accuracy outputs/few-shot --out accuracy --format png svg",
    "batch-size": f"{PROG} batch-size outputs/batch-size --out batch-size.png",
    "drift": f"{PROG} drift outputs/noise/sweep --task SST-2 --out drift.png --tsne tsne.png",
}
ABOUT = {
    "tsne": "t-SNE of what the classifiers read, a panel for each checkpoint",
    "heatmap": "mean accuracy for each lambda and tau",
    "curves": "validation accuracy and training loss by epoch",
    "accuracy": "test accuracy against the number of labelled examples",
    "batch-size": "test accuracy and updates per second against batch size",
    "drift": "embedding drift against the noise of training sets, from a sweep with --keep best",
}


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Draw the paper's kinds of figures, readable in grey and by colour-blind people.",
        "\n  ".join(EXAMPLES.values()),
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, about in ABOUT.items():
        of_kind = kinds.add_parser(
            kind, help=about, description=f"Draw {about}.", example=EXAMPLES[kind]
        )
        _add_tsne_options(of_kind) if kind == "tsne" else _add_results_options(of_kind, kind)
        of_kind.add_argument(
            "--out",
            action="append",
            required=True,
            type=Path,
            metavar="FILE",
            help="figure to write, .png or .svg; may be given again",
        )
        of_kind.add_argument(
            "--format",
            nargs="+",
            choices=("png", "svg"),
            metavar="FORMAT",
            help="png, svg or both: --out then needs no ending",
        )
        of_kind.add_argument("--title", help="over the figure, instead of what it says by itself")
    return parser


def _add_tsne_options(parser: Parser) -> None:
    parser.add_argument(
        "checkpoints",
        nargs="+",
        type=Path,
        metavar="CHECKPOINT",
        help=f"{CHECKPOINT_HELP}; those trained with CE alone are drawn on the left",
    )
    parser.add_argument(
        "--data",
        required=True,
        type=Path,
        metavar="DIR",
        help="binarised data that the checkpoints were trained with",
    )
    parser.add_argument("--split", help=SPLIT_HELP)
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="panel titles, one for each checkpoint"
    )
    parser.add_argument(
        "--class-names", nargs="+", metavar="NAME", help="for the legend, in the order of labels"
    )
    parser.add_argument(
        "--perplexity", type=float, default=30, metavar="P", help="of t-SNE, at most (N-1)/3 (30)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of t-SNE (0)")
    parser.add_argument(
        "--embeddings-out", type=Path, metavar="FILE.npz", help="keep the embeddings as well"
    )


def _add_results_options(parser: Parser, kind: str) -> None:
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="the --out folder of a scl-sweep, or its results.jsonl; several are put together",
    )
    parser.add_argument("--task", metavar="TASK", help="where the results have several")
    if kind != "accuracy":
        parser.add_argument(
            "--num-examples",
            type=_size,
            metavar="N",
            help="where the results have several; full for whole training sets",
        )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        type=_key_and_value,
        metavar="KEY=VALUE",
        help="a further key that tells results apart, such as batch-size=64; may be given again",
    )
    parser.add_argument(
        "--top",
        type=positive,
        default=3,
        metavar="K",
        help="runs, the best by validation accuracy, by whose mean hyper-parameters are chosen"
        + (", and that are shown (3)" if kind in ("accuracy", "batch-size") else " (3)"),
    )
    if kind == "heatmap":
        parser.add_argument(
            "--metric",
            choices=("valid", "test"),
            default="valid",
            help="accuracy on which set (valid); test is for looking at, never to choose by",
        )
    if kind == "drift":
        parser.add_argument(
            "--tsne",
            type=Path,
            metavar="FILE",
            help="t-SNE as well: of each loss the original training set and the noisiest",
        )
    if kind in ("accuracy", "batch-size"):
        parser.add_argument(
            "--published",
            action=argparse.BooleanOptionalAction,
            help="the paper's numbers as hollow markers (where the sweep's config names them)",
        )


def _size(text: str) -> int | str:
    return text if text == "full" else positive(text)


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}, expected KEY=VALUE")
    return key, value


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)
    needs_tsne = options.kind == "tsne" or getattr(options, "tsne", None)
    _require("matplotlib", *(["sklearn"] if needs_tsne else []))

    from scl_fairseq.experiments.plot_style import save, set_title

    paths = _paths(options.out, options.format)
    # fairseq logs the whole configuration of each model it loads, and turns on debugging logs of
    # other libraries.
    logging.disable(logging.INFO)
    try:
        figure = _tsne(options) if options.kind == "tsne" else _of_results(options)
        if options.title:
            set_title(figure, options.title)
        for path in paths:
            save(figure, path)
            print(f"wrote {path}")
    finally:
        logging.disable(logging.NOTSET)
    return 0


def _require(*modules: str) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            package = {"sklearn": "scikit-learn"}.get(module, module)
            raise ValueError(
                f'{package} is missing: pip install ".[plot]" in a clone of scl-fairseq'
            ) from error


def _paths(names: Sequence[Path], formats: Sequence[str] | None) -> list[Path]:
    from scl_fairseq.experiments.plot_style import format_of

    if formats:
        stems = [
            name.with_suffix("") if name.suffix in (".png", ".svg") else name for name in names
        ]
        names = [stem.with_name(f"{stem.name}.{kind}") for stem in stems for kind in formats]
    for name in names:
        format_of(name)
    return list(dict.fromkeys(names))


def _tsne(options: argparse.Namespace) -> Figure:
    keep = options.embeddings_out
    if keep and keep.suffix != ".npz":
        raise ValueError(f"--embeddings-out {keep}: expected a name that ends with .npz")
    if not options.perplexity > 0:
        raise ValueError(f"--perplexity {options.perplexity:g}: expected more than 0")
    from scl_fairseq.experiments.checkpoint_tsne import embed_panels
    from scl_fairseq.experiments.figures import tsne_figure

    panels = embed_panels(
        options.checkpoints,
        options.data,
        options.split,
        options.names or (),
        options.class_names or (),
    )
    figure = tsne_figure(
        panels.embeddings,
        panels.labels,
        panels.class_names,
        panels.title,
        options.perplexity,
        options.seed,
    )
    if keep:
        panels.save(keep)
        print(f"wrote {keep}")
    return figure


def _of_results(options: argparse.Namespace) -> Figure:
    from scl_fairseq.experiments import published, result_figures
    from scl_fairseq.experiments.outside_grid import told_apart
    from scl_fairseq.experiments.result_places import (
        BATCH_SIZE,
        find_place,
        make_places,
        matching,
    )
    from scl_fairseq.experiments.results import join, read_results

    parts = told_apart([read_results(path) for path in options.results])
    results, failures = join(parts)
    if not results:
        failed = f"; {len(failures)} failed" if failures else ""
        raise ValueError(f"no finished trial in {parts[0].folder}{failed}")
    configs = [part.config for part in parts]
    places = make_places(results, configs)
    where = dict(options.where)
    if options.kind == "drift":
        return _drift(options, places)
    if options.kind in ("heatmap", "curves"):
        place = find_place(places, options.task, options.num_examples, where)
        if options.kind == "heatmap":
            return result_figures.heat_map(place, options.metric, options.top)
        return result_figures.learning_curves(place, options.top)
    axis, draw, table = {
        "accuracy": ("N", result_figures.accuracy_by_size, published.FEW_SHOT),
        "batch-size": (BATCH_SIZE, result_figures.accuracy_by_batch_size, published.BATCH_SIZE),
    }[options.kind]
    size = options.num_examples if options.kind == "batch-size" else None
    places = _comparable(matching(places, options.task, size, where), axis)
    if options.published is None:
        table = result_figures.named_table(table, configs)
    return draw(places, options.top, table if options.published is not False else None)


def _drift(options: argparse.Namespace, places: Sequence[Place]) -> Figure:
    from scl_fairseq.experiments import drift
    from scl_fairseq.experiments.checkpoint_tsne import embed_panels
    from scl_fairseq.experiments.drift_figure import drift_figure
    from scl_fairseq.experiments.figures import tsne_figure
    from scl_fairseq.experiments.plot_style import format_of, save

    if options.tsne:
        format_of(options.tsne)
    pairs = drift.find_pairs(
        places, options.task, options.num_examples, options.top, dict(options.where)
    )
    first = pairs[0].clean
    setting = first.setting
    name = ", ".join(
        [str(setting.get("task", "results")), *([f"N = {setting['N']}"] if "N" in setting else [])]
    )
    if options.tsne:
        panels = drift.tsne_choice(pairs)
        shown = embed_panels(
            [drift.checkpoint_of(result) for _, result in panels],
            Path(first.data["path"]),
            names=[title for title, _ in panels],
        )
        title = options.title or f"{name}: {shown.title}"
        save(tsne_figure(shown.embeddings, shown.labels, shown.class_names, title), options.tsne)
        print(f"wrote {options.tsne}")
    drifts = drift.measure(pairs, drift.embed_test_set)
    return drift_figure(drifts, f"Embedding drift by noisy training sets, {name}")


def _comparable(places: Sequence[Place], axis: str) -> list[Place]:
    from scl_fairseq.experiments.result_places import comparable

    groups = comparable(places, axis)
    if not groups:
        raise ValueError(f"the results do not differ in {axis}: there is nothing to plot against")
    if len(groups) > 1:
        listed = "; ".join(", ".join(group[0].details(without=(axis,))) for group in groups)
        raise ValueError(f"there are several: {listed}; choose with --num-examples or --where")
    return groups[0]


if __name__ == "__main__":
    sys.exit(main())
