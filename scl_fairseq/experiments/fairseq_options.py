"""Whether fairseq accepts a command line, asked of its own parser."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence


def check_arguments(arguments: Sequence[str]) -> None:
    """Parse arguments of ``fairseq-train`` as it would itself.

    Raises:
        ValueError: it would refuse them; the message is the parser's.
    """
    from fairseq import options

    said = io.StringIO()
    logging.disable(logging.INFO)  # fairseq announces what it imports
    try:
        with contextlib.redirect_stderr(said):
            options.parse_args_and_arch(options.get_training_parser(), list(arguments))
    except SystemExit:
        message = said.getvalue().strip().splitlines()[-1:]
        raise ValueError(message[0].partition("error: ")[2] if message else "refused") from None
    finally:
        logging.disable(logging.NOTSET)
