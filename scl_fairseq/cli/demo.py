"""``make demo``: CE against CE+SCL on a handful of labelled sentences."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.cli.common import Parser, command
from scl_fairseq.cli.task_options import positive

PROG = "make demo"


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Fine-tune a small pre-trained encoder with cross-entropy (CE) and with CE+SCL on\n"
        "the same few-shot samples, and set both beside classifiers that train no encoder.",
        'make demo GLUE_DIR=glue DEMO="--num-examples 20 --num-samples 4"',
    )
    parser.add_argument(
        "--glue-dir", type=Path, metavar="DIR", help="use SST-2 from DIR/SST-2 (default: synthetic)"
    )
    parser.add_argument(
        "--num-examples",
        type=positive,
        default=100,
        metavar="N",
        help="labelled sentences in a sample (100)",
    )
    parser.add_argument(
        "--num-samples", type=positive, default=8, metavar="K", help="training samples (8)"
    )
    parser.add_argument("--epochs", type=positive, help="of each training (by recipe)")
    parser.add_argument("--scl-lambda", type=float, metavar="L", help="weight of SCL (by recipe)")
    parser.add_argument(
        "--scl-temperature", type=float, metavar="TAU", help="temperature (by recipe)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the draw and the trainings (1)")
    parser.add_argument(
        "--workers", type=positive, metavar="W", help="trainings side by side (one a core or GPU)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("outputs/demo"),
        metavar="DIR",
        help="folder for everything it writes (outputs/demo); a repeated call skips finished runs",
    )
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, 1 where a training failed, 2 for bad input)."""
    options = _parser().parse_args(argv)
    is_lambda = options.scl_lambda is None or 0 < options.scl_lambda < 1
    if not is_lambda or not (options.scl_temperature is None or options.scl_temperature > 0):
        raise ValueError(
            "--scl-lambda must be greater than 0 and below 1, which would leave the classifier "
            "untrained, and --scl-temperature greater than 0"
        )

    from scl_fairseq.demo.demo import TrainingError, run_demo
    from scl_fairseq.demo.settings import DemoSettings

    # fairseq logs the whole configuration for each model that it loads, and turns on debugging logs
    # of other libraries.
    logging.disable(logging.INFO)
    try:
        run_demo(DemoSettings(**vars(options)))
    except TrainingError as error:
        print(f"{PROG}: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
