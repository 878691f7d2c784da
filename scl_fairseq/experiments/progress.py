"""How far a series of trainings is, and how long is left."""

from __future__ import annotations

import sys
import time


class EpochProgress:
    """A bar over epochs on a terminal; elsewhere only the lines of ``report``.

    Args:
        epochs: how many there are in all.
    """

    def __init__(self, epochs: int):
        from tqdm import tqdm

        self._total = epochs
        self._done = self._trained = 0
        self._started = time.monotonic()
        self._bar = tqdm(total=epochs, unit="epoch", disable=not sys.stderr.isatty(), leave=False)

    def advance(self, epochs: int = 1, trained: bool = True) -> None:
        """Count epochs as done; those not trained now say nothing about the pace."""
        self._done += epochs
        self._trained += epochs * trained
        self._bar.update(epochs)

    def report(self, text: str) -> None:
        """Print a line above the bar, with the time left."""
        left = self._total - self._done
        if left and self._trained:
            seconds = (time.monotonic() - self._started) / self._trained * left
            text += f"; about {int(seconds) // 60} min {int(seconds) % 60:02d} s left"
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
