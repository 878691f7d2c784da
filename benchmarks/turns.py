"""Contenders that take turns: on a CPU each in a process of its own, on a GPU in this one."""

import importlib
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from benchmarks.device import clear
from benchmarks.pipelines import ROOT, Failed


def medians(
    contenders: Mapping[str, Sequence[str]],
    repetitions: int,
    note: str = "",
    device: str = "cpu",
) -> dict[str, dict[str, float]]:
    """Run Python modules that measure something; the median of each number.

    On a GPU they share a process, whose start and whose kernels' loading would cost more than what
    is measured: there a module's ``measured`` is called. Otherwise the module is run, and prints
    what ``measured`` returns as one line of JSON.

    Args:
        contenders: name -> the module's name and arguments.
        repetitions: turns of each. Every turn begins with another contender, so that whatever else
            the machine does meets all of them.
        note: what the progress bar says.
        device: ``cpu`` or ``cuda``.

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
                words = list(map(str, contenders[name]))
                found[name].append(_here(words) if device != "cpu" else _apart(name, words))
                progress.update()
    return {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for name, runs in found.items()
    }


def _apart(name: str, words: Sequence[str]) -> dict[str, float]:
    words = [sys.executable, "-m", *words]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise Failed(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _here(words: Sequence[str]) -> dict[str, float]:
    module, *arguments = words
    found = importlib.import_module(module).measured(*arguments)
    clear("cuda")
    return found
