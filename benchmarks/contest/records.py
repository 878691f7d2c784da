"""Results: a JSON line for each finished trial, and its predictions in a file beside."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scl_fairseq.files import write_text

RESULTS, PREDICTIONS = "results.jsonl", "predictions"


class Records:
    """The results in a folder.

    Args:
        folder: is made if missing.

    Raises:
        ValueError: ``results.jsonl`` has a line that is none.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / RESULTS
        self._lock = threading.Lock()

    def read(self) -> dict[str, dict[str, Any]]:
        """Key -> record; of a repeated key the last. A last line without an end was cut off."""
        if not self.path.exists():
            return {}
        found = {}
        lines = self.path.read_text("utf-8").split("\n")[:-1]
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                found[record["key"]] = record
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{self.path}, line {number}: not a record") from None
        return found

    def add(self, record: Mapping[str, Any], predictions: Sequence[str]) -> None:
        """Write predictions, then the line, which says that the trial is done."""
        write_text(
            self.folder / PREDICTIONS / f"{record['key']}.txt",
            "".join(f"{label}\n" for label in predictions),
        )
        with self._lock:
            self._mend_end()
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")

    def predictions(self, key: str) -> list[str]:
        """Label names, in the order of the test rows."""
        path = self.folder / PREDICTIONS / f"{key}.txt"
        return path.read_text("utf-8").split("\n")[:-1]

    def _mend_end(self) -> None:
        """Cut off what an interrupted write has left of a line."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            with open(self.path, "r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
