"""What every command shares: UTF-8, and bad input is one line on standard error, exit code 2."""

import argparse
import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from scl_fairseq.utf8 import begin_command, print_utf8

BAD_INPUT = 2
UNREAD = 141
INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors take one line, without the usage in front.

    ``example`` ends the help text and keeps its line breaks.
    """

    def __init__(self, prog: str, description: str, example: str):
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and leave with exit code 2."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def byte_bar() -> contextlib.AbstractContextManager[Callable[[int, int | None], None]]:
    """A progress bar on a terminal, elsewhere nothing: call it with bytes done and bytes in all.

    What is not known in advance is None.
    """
    return bar_of("B", scaled=True)


@contextlib.contextmanager
def bar_of(unit: str, scaled: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """The same of anything else, such as examples; ``scaled`` writes 1.2k for 1200."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from tqdm import tqdm

    with tqdm(unit=unit, unit_scale=scaled, leave=False) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def part_of(show: Callable[[int, int], None], place: int, count: int) -> Callable[[int, int], None]:
    """The progress of one of ``count`` equally large pieces of work, shown as that of all."""
    return lambda done, total: show(place * total + done, count * total)


def command(prog: str) -> Callable:
    """Decorate ``main(argv) -> int``: a ValueError or OSError becomes one line and exit code 2.

    Any other exception is a fault of the program and keeps its traceback. SIGTERM, which batch
    systems send, and SIGHUP of a closed terminal end the command like Ctrl-C: what it was writing
    is removed.
    """

    def decorate(main: Callable[[Sequence[str] | None], int]) -> Callable:
        @functools.wraps(main)
        def guarded(argv: Sequence[str] | None = None) -> int:
            if argv is None:
                begin_command()
            else:  # called from Python, whose process is not ours
                print_utf8()
            try:
                with _terminated_as_interrupted():
                    return main(argv)
            except BrokenPipeError:  # whoever read the output wanted no more of it
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return UNREAD
            except (ValueError, OSError) as error:
                print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
                return BAD_INPUT
            except KeyboardInterrupt:
                print(f"{prog}: interrupted", file=sys.stderr)
                return INTERRUPTED

        return guarded

    return decorate
