"""Tables of a check's results, and the files in ``benchmarks/results`` and for the kernels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.device import result_file
from scl_fairseq.experiments.tables import markdown
from scl_fairseq.files import write_text
from scl_fairseq.kernels.choice import MEASURED

Row = Mapping[str, object]
# Of each file in results/: its title, and the kinds of results that it has.
FILES = {
    "gpu_check": (
        "The check on a GPU",
        ["target", "tests", "test", "smoke", "loss", "encoder", "gather", "waits", "prepare"],
    ),
    "packed": ("Training without padding", ["target", "matrix_rate", "packed"]),
    "train": ("fairseq-train of RoBERTa-Large's sizes", ["train"]),
    "contrast": (
        "The contrastive loss of large batches",
        ["loss_limited", "product", "loss_time", "loss_peer", "kernel", "tile"],
    ),
    "criterion": ("Cost of an update", ["update"]),
    "sweep": ("Few-shot trials", ["sweep"]),
}
HIDDEN = {"kind", "at", "trace"}


def read(path: Path) -> list[dict]:
    """Results that were written; a last line that a kill has cut is none."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def failures(rows: Sequence[Row]) -> list[Row]:
    """Those that are not right."""
    return [row for row in rows if row.get("ok") is False]


def summary(rows: Sequence[Row]) -> str:
    """What was right, wrong and skipped, a line each."""
    lines = []
    for kind in dict.fromkeys(str(row["kind"]) for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        judged = [row for row in own if "ok" in row]
        skipped = sum("skipped" in row for row in own)
        right = sum(bool(row["ok"]) for row in judged)
        said = f"{right} of {len(judged)} right" if judged else f"{len(own)} results"
        lines.append(f"{kind}: {said}{f', {skipped} skipped' if skipped else ''}")
    for row in failures(rows):
        shown = {key: value for key, value in row.items() if key not in {*HIDDEN, "failed"}}
        said = " ".join(str(row.get("failed", "")).split())[-200:]
        lines.append(f"FAILED {row['kind']} {shown} {said}")
    return "\n".join(lines)


def tables(rows: Sequence[Row], kinds: Sequence[str]) -> str:
    """A table a kind, with the columns that its results have."""
    parts = []
    for kind in kinds:
        own = [row for row in rows if row["kind"] == kind]
        columns = list(dict.fromkeys(key for row in own for key in row if key not in HIDDEN))
        if own:
            cells = [[short(row.get(column, "")) for column in columns] for row in own]
            parts.append(f"{kind}:\n\n{markdown(columns, cells)}")
    return "\n\n".join(parts)


def short(value: object) -> str:
    """A cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {short(one)}" for key, one in value.items())
    return " ".join(str(value).split())[:80].replace("|", "/")


def record(rows: Sequence[Row], about: str) -> list[Path]:
    """Write the files of results, each of what was measured, and which kernels were faster."""
    written = []
    for name, (title, kinds) in FILES.items():
        if any(row["kind"] in kinds and "skipped" not in row for row in rows):
            file = result_file(name, "cuda", "-check" if name != "gpu_check" else "")
            write_text(file, f"# {title}\n\n{about}\n\n{tables(rows, kinds)}\n")
            written.append(file)
    found = [row for row in rows if row["kind"] == "kernel" and "triton_seconds" in row]
    if found:
        keys = ("card", "products", "torch", "N", "torch_seconds", "triton_seconds")
        new = [{key: row[key] for key in keys} for row in found]
        mine = {(one["card"], one["products"]) for one in new}
        old = json.loads(MEASURED.read_text("utf-8"))
        kept = [one for one in old if (one["card"], one["products"]) not in mine]
        write_text(MEASURED, json.dumps([*kept, *new], indent=2, allow_nan=False) + "\n")
        written.append(MEASURED)
    return written
