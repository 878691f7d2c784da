"""``scl-predict --serve``: a page of a model's own on this machine."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from scl_fairseq.cli.common import Parser, bar_of
from scl_fairseq.cli.task_options import at_least
from scl_fairseq.cli.text_model import loaded_classifier

if TYPE_CHECKING:
    from scl_fairseq.inference.hub import SentenceModel
    from scl_fairseq.inference.neighbours import Neighbours
    from scl_fairseq.inference.onnx_model import OnnxModel

SERVE_OPTIONS = ("port", "neighbours")
_PORT, _NEIGHBOURS = 8765, 2000
_LAST_PORT = 65535


def add_serve_options(parser: Parser) -> None:
    """Add ``--serve`` and what goes with it."""
    group = parser.add_argument_group("a page in the browser")
    group.add_argument(
        "--serve",
        action="store_true",
        help="instead of reading sentences, serve a page where they are typed, on 127.0.0.1 alone: "
        "labels, probabilities, and the nearest sentences of the training set, where the data of "
        "the training (or --data-dir) is still there",
    )
    group.add_argument(
        "--port", type=at_least(0), metavar="N", help=f"of the page ({_PORT}; 0: any that is free)"
    )
    group.add_argument(
        "--neighbours",
        type=at_least(0),
        metavar="N",
        help=f"training sentences to look among, spread evenly ({_NEIGHBOURS}; 0: none)",
    )


def serve(prog: str, options: argparse.Namespace) -> int:
    """Serve until Ctrl-C; returns the exit code.

    Raises:
        ValueError, OSError: the model cannot be loaded, or the port cannot be had.
    """
    from scl_fairseq.serving.server import ADDRESS, PageServer
    from scl_fairseq.serving.service import Service

    port = _PORT if options.port is None else options.port
    if port > _LAST_PORT:
        raise ValueError(f"--port {port}, expected 0 to {_LAST_PORT}")
    with loaded_classifier(options) as model:
        model.predict([])  # refused here where there is no classifier
        neighbours = _neighbours(prog, options, model)
        service = Service(model, neighbours, options.batch_tokens)
        name = options.checkpoint.resolve().name
        try:
            server = PageServer(service, name, _about(model, neighbours), port)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(
                f"port {port} of {ADDRESS} cannot be had ({reason}); --port names another"
            ) from error
        with server:
            print(f"{name} is at {server.url} (Ctrl-C ends it)", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return 0
    return 0


def _neighbours(
    prog: str, options: argparse.Namespace, model: SentenceModel | OnnxModel
) -> Neighbours | None:
    limit = _NEIGHBOURS if options.neighbours is None else options.neighbours
    if limit == 0:
        return None
    if not hasattr(model, "embed"):
        return _none(prog, options, "an ONNX model gives no vectors")

    from scl_fairseq.inference.neighbours import find_training_data, of_training

    data = options.data_dir or find_training_data(model, options.checkpoint)
    if data is None:
        return _none(prog, options, "the data of the training is gone; --data-dir names it")
    with bar_of("sentences") as show:
        try:
            return of_training(model, options.checkpoint, data, limit, show)
        except (ValueError, OSError) as error:
            if options.data_dir or options.neighbours:
                raise
            return _none(prog, options, str(error))


def _none(prog: str, options: argparse.Namespace, why: str) -> None:
    """No neighbours, said; refused where they were asked for."""
    if options.neighbours:
        raise ValueError(f"--neighbours: {why}")
    print(f"{prog}: note: no nearest training sentences: {why}", file=sys.stderr)


def _about(model: SentenceModel | OnnxModel, neighbours: Neighbours | None) -> str:
    names = ", ".join(model.labels[:20]) + (", …" if len(model.labels) > 20 else "")
    told = f"A classifier of {names}; it reads {model.positions} tokens of a line."
    if neighbours is None:
        return told
    count, total = len(neighbours.texts), neighbours.total
    of = f"{count} of {total}" if count < total else str(total)
    return f"{told} Below each answer: the nearest of {of} training sentences, by the cosine."
