"""Whether fairseq accepts a command line, asked of its own parser."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
from collections.abc import Callable, Mapping, Sequence

from scl_fairseq.experiments.settings import Value
from scl_fairseq.refusals import one_line

CHOICES = ("arch", "criterion", "optimizer", "lr-scheduler")  # each has options of its own


class OptionError(ValueError):
    """An option that fairseq refuses: ``key``, its ``value``, and the message says why."""

    def __init__(self, key: str, value: Value, message: str):
        super().__init__(message)
        self.key, self.value = key, value


def check_options(
    options: Mapping[str, Value], arguments_of: Callable[[Mapping[str, Value]], Sequence[str]]
) -> None:
    """Ask whether ``fairseq-train`` would accept options.

    Args:
        options: of a trial.
        arguments_of: the whole command line of some of them.

    Raises:
        OptionError: it would refuse one; so is one that takes a value and is switched off.
    """
    refused = refusal(arguments_of(options))
    if refused is not None:
        raise _first_refused(options, arguments_of) or ValueError(refused)
    for key in (key for key, value in options.items() if value is False):
        # Off is left out, which would be fairseq's default.
        if "expected" in (refusal(arguments_of({**options, key: True})) or ""):
            raise OptionError(key, False, "it takes a value")


def _first_refused(
    options: Mapping[str, Value], arguments_of: Callable[[Mapping[str, Value]], Sequence[str]]
) -> OptionError | None:
    """The first option that cannot be added to those before it."""
    tried: dict[str, Value] = {}
    for key in _choices_first(list(options)):
        tried[key] = options[key]
        refused = refusal(arguments_of(tried))
        if refused is not None:
            return OptionError(key, options[key], refused)
    return None


def _choices_first(keys: Sequence[str]) -> list[str]:
    return sorted(keys, key=[*CHOICES, *(key for key in keys if key not in CHOICES)].index)


def known_options(arguments: Sequence[str]) -> set[str]:
    """Every option that ``fairseq-train`` has for the choices of a command line, with its dashes.

    Empty where fairseq refuses the line.
    """
    from fairseq import options

    parser = options.get_training_parser()
    return set() if _parse(parser, arguments) else set(parser._option_string_actions)


def refusal(arguments: Sequence[str]) -> str | None:
    """Why fairseq's parser refuses a command line, in one line; None where it does not."""
    from fairseq import options

    return _parse(options.get_training_parser(), arguments)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> str | None:
    from fairseq import options

    said = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.INFO)  # fairseq announces what it imports
    try:
        with contextlib.redirect_stderr(said):
            options.parse_args_and_arch(parser, list(arguments))
    except SystemExit:
        message = said.getvalue().strip().splitlines()[-1:]
        return one_line(message[0].partition("error: ")[2]) if message else "refused"
    except RuntimeError as error:  # without a word
        return str(error) or "argument --arch: fairseq knows no such architecture"
    except Exception as error:  # fairseq evaluates lists of numbers as Python
        return f"fairseq cannot read it ({type(error).__name__}: {one_line(error)})"
    finally:
        logging.disable(before)
    return None
