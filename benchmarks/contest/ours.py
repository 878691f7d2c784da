"""CE or CE+SCL of this project, by its commands.

python -m benchmarks.contest.ours ORDER
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.contest.rows import read_order, write_answer

SWEEP = "sweep.yaml"


def scl(command: str, *words: object) -> None:
    """Run a command of the package; what it says stands in this process's output."""
    line = [sys.executable, "-m", f"scl_fairseq.cli.{command}", *map(str, words)]
    subprocess.run(line, check=True)


def main(path: str) -> None:
    """Binarise, train with validation, and predict with the best epoch's weights."""
    order = read_order(path)
    folder, encoder = Path(order["folder"]), Path(order["fairseq_encoder"])
    own = ("--task", order["task"])
    if order["task"] == "custom":
        columns = [f"sentence{place + 1}" for place in range(order["num_inputs"])]
        own += ("--labels", *order["labels"], "--sentence-columns", *columns, "--quoting", "text")
    scl(
        *("preprocess", *own, "--data-dir", order["sample"], "--destdir", folder / "bin"),
        *("--bpe", "wordpiece", "--bpe-dir", encoder, "--max-positions", order["max_length"]),
        *("--workers", 1),
    )
    settings = dict(order["settings"])
    values = {
        "data": str(folder / "bin"),
        "warmup-ratio": settings.pop("warmup-ratio"),
        "grid": {"task": [order["task"]], "scl-lambda": [settings.pop("scl-lambda")]},
        "options": {
            **settings,
            "seed": order["seed"],
            "finetune-from-model": str(encoder / "model.pt"),
        },
    }
    config = folder / SWEEP
    config.write_text(json.dumps(values, allow_nan=False), encoding="utf-8")  # JSON is YAML
    scl("sweep", config, "--out", folder / "out", "--cpu", "--workers", 1, "--threads", 1)
    (line,) = (folder / "out" / "results.jsonl").read_text("utf-8").splitlines()
    record = json.loads(line)
    with open(folder / "out" / record["predictions"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    write_answer(
        order,
        [order["labels"].index(row["prediction"]) for row in rows],
        dev_accuracy=record["best_valid_accuracy"] / 100,
        epoch=record["best_epoch"],
        updates=record["num_updates"],
    )


if __name__ == "__main__":
    main(sys.argv[1])
