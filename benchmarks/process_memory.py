"""Memory of a command and of all processes that it starts, from /proc."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.pipelines import started

POLL_SECONDS = 0.02


class Memory(NamedTuple):
    """Bytes, and how they were counted: ``PSS``, ``RSS``, or ``PSS and RSS``."""

    size: int
    kind: str


def tree(root: int) -> list[int]:
    """Processes that descend from ``root``, itself included, or belong to its session.

    A process whose parent has ended hangs below another one, but stays in the session.
    """
    parents, found = {}, {root}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            status = Path(entry.path, "stat").read_text("utf-8", errors="replace")
        except OSError:  # it has just ended
            continue
        # The name, in parentheses, may hold anything.
        _, parent, _, session = status.rpartition(")")[2].split()[:4]
        parents[int(entry.name)] = int(parent)
        if int(session) == root:
            found.add(int(entry.name))
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found)


def resident(pid: int) -> Memory:
    """Memory of one process; pages that it shares count in part (PSS) where the kernel says so."""
    folder = Path("/proc", str(pid))
    try:
        for line in (folder / "smaps_rollup").read_text("ascii").split("\n"):
            if line.startswith("Pss:"):
                return Memory(int(line.split()[1]) * 1024, "PSS")
    except ProcessLookupError:  # it has ended, or holds nothing any more
        return Memory(0, "PSS")
    except OSError:
        pass
    try:
        pages = int((folder / "statm").read_text("ascii").split()[1])
    except OSError:
        return Memory(0, "PSS")
    return Memory(pages * os.sysconf("SC_PAGE_SIZE"), "RSS" if pages else "PSS")


def held(root: int) -> Memory:
    """What ``tree(root)`` holds now, added up process by process."""
    parts = [resident(pid) for pid in tree(root)]
    kinds = sorted({part.kind for part in parts if part.size})
    return Memory(sum(part.size for part in parts), " and ".join(kinds))


def peak_memory(words: Sequence[str], log: Path) -> Memory:
    """The most memory that a command and its children held at once, looked at every 20 ms."""
    peak, kinds = 0, set[str]()
    with started(words, log) as process:
        while process.poll() is None:
            start = time.monotonic()
            now = held(process.pid)
            peak = max(peak, now.size)
            kinds.update(now.kind.split(" and ") if now.kind else ())
            time.sleep(max(0.0, POLL_SECONDS - (time.monotonic() - start)))
    return Memory(peak, " and ".join(sorted(kinds)))
