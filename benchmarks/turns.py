"""Contenders that take turns, each time in a process of their own."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from benchmarks.pipelines import ROOT, Failed


def medians(
    contenders: Mapping[str, Sequence[str]], repetitions: int, note: str = ""
) -> dict[str, dict[str, float]]:
    """Run Python modules that print numbers as one line of JSON; the median of each number.

    Args:
        contenders: name -> the module's name and arguments.
        repetitions: turns of each. Every turn begins with another contender, so that whatever else
            the machine does meets all of them.
        note: what the progress bar says.

    Raises:
        Failed: one of them failed; the message ends with what it said.
    """
    names = list(contenders)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    total = repetitions * len(names)
    with tqdm(total=total, desc=note, unit="run", disable=not sys.stderr.isatty()) as progress:
        for turn in range(repetitions):
            first = turn % len(names)
            for name in [*names[first:], *names[:first]]:
                words = [sys.executable, "-m", *map(str, contenders[name])]
                done = subprocess.run(
                    words, cwd=ROOT, capture_output=True, encoding="utf-8", check=False
                )
                if done.returncode != 0:
                    raise Failed(f"{name} failed:\n{done.stderr[-2000:]}")
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
                progress.update()
    return {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for name, runs in found.items()
    }
