"""What every stage of the check has: results that are written as they come, and the time left."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.device import clear
from benchmarks.pipelines import ROOT

PACKED = ROOT / ".gpu"  # what scripts/pack_for_gpu.sh has brought


@dataclass(frozen=True)
class Check:
    """One run of the check, as a stage sees it.

    Attributes:
        out: folder for results and logs.
        work: folder for data and models, made by the first stage.
        dry: tiny, on a CPU.
        began: when the check began, by ``time.time``.
        stop: when this stage has to be done.
        glue_dir: holds SST-2/ and QNLI/, else text is generated.
        bpe_dir: GPT-2's BPE, else one is trained.
    """

    out: Path
    work: Path
    dry: bool
    began: float
    stop: float
    glue_dir: Path
    bpe_dir: Path

    @property
    def device(self) -> str:
        """``cuda``, or ``cpu`` in a dry run."""
        return "cpu" if self.dry else "cuda"

    def add(self, kind: str, **values: object) -> None:
        """Write a result at once, so that a kill loses nothing."""
        found = {"kind": kind, "at": round(time.time() - self.began, 1), **values}
        line = json.dumps(_finite(found), default=str, allow_nan=False)
        with open(self.out / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line[:300], flush=True)

    def left(self) -> float:
        """Seconds that the stage still has."""
        return self.stop - time.time()

    @contextlib.contextmanager
    def part(self, kind: str, **about: object) -> Iterator[None]:
        """A part whose failure is a result, and does not end the stage."""
        try:
            yield
        except Exception as error:
            said, trace = f"{type(error).__name__}: {error}"[:600], traceback.format_exc()[-1500:]
            self.add(kind, **about, ok=False, failed=said, trace=trace)
        clear(self.device)

    def has_time(self, kind: str, seconds: float, **about: object) -> bool:
        """Whether a part may begin; what is skipped is recorded."""
        if self.left() >= seconds:
            return True
        self.add(kind, **about, skipped=f"less than {seconds:.0f} s were left")
        return False


def _finite(value: object) -> object:
    """The same with words for numbers that JSON does not have: a result may be one."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
