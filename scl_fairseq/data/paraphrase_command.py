"""Any other paraphraser: a command that reads lines and writes as many."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scl_fairseq.data.paraphrase import EMPTY, Outcome, Request
from scl_fairseq.data.stable_random import StableRandom

PLACES = ("temperature", "seed")
_LARGEST_SEED = 1 << 31


class ParaphraseCommand:
    """Runs a command for each shard, without a shell.

    Args:
        command: as one would type it. ``{temperature}`` and ``{seed}`` are filled in; the seed is
            another one for each shard.

    Raises:
        ValueError: it cannot be taken apart, or has other names in braces.
    """

    def __init__(self, command: str):
        try:
            self._words = shlex.split(command)
            for word in self._words:
                word.format(**dict.fromkeys(PLACES, ""))
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(
                f"--command {command}: {error}; {{temperature}} and {{seed}} are filled in, other "
                "braces are doubled"
            ) from None
        if not self._words:
            raise ValueError("--command is empty")
        self._command = command
        self.name = re.sub(r"\s+", "_", Path(self._words[0]).name)

    @property
    def needs_temperature(self) -> bool:
        """Whether it is told the temperature."""
        filled = (word.format(temperature="\0", seed="") for word in self._words)
        return any("\0" in word for word in filled)

    def describe(self) -> dict[str, Any]:
        """The command."""
        return {"kind": "command", "command": self._command}

    def paraphrase(
        self,
        requests: Sequence[Request],
        temperature: float | None,
        seed: int,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> list[Outcome]:
        """Its lines, one for each request.

        Raises:
            ValueError: it fails, or writes another number of lines, or no UTF-8.
            OSError: it cannot be run.
        """
        if not requests:
            return []
        keys = hashlib.sha256(repr([request.key for request in requests]).encode()).hexdigest()
        number = StableRandom(seed, "command", keys).below(_LARGEST_SEED)
        shown = "" if temperature is None else f"{temperature:g}"
        words = [word.format(temperature=shown, seed=number) for word in self._words]
        text = "".join(f"{request.sentence}\n" for request in requests)
        done = subprocess.run(words, input=text.encode(), capture_output=True, check=False)
        if done.returncode:
            told = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise ValueError(
                f"--command: {shlex.join(words)} failed with exit code {done.returncode}"
                + (f": {told[0]}" if told else "")
            )
        try:
            lines = done.stdout.decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError:
            raise ValueError(f"--command: {shlex.join(words)} wrote no UTF-8") from None
        if len(lines) != len(requests):
            raise ValueError(
                f"--command: {shlex.join(words)} wrote {len(lines)} lines, expected "
                f"{len(requests)}, one for each line that it read"
            )
        on_done(len(requests))
        return [Outcome(line) if line.strip() else Outcome(None, EMPTY) for line in lines]
