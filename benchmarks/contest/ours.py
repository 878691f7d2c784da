"""CE or CE+SCL of this project, in this process: what its commands do in several.

python -m benchmarks.contest.ours ORDER
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest.rows import read_order, write_answer
from scl_fairseq.data.choices import TRUNCATE
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import CUSTOM, TASKS, Task, custom_task
from scl_fairseq.experiments import worker
from scl_fairseq.experiments.results import read_results
from scl_fairseq.experiments.sweep import OnEvent, Plan, plan, run_sweep
from scl_fairseq.experiments.sweep_config import config_of


class Unwatched:
    """Is told how the sweep goes on, and says nothing."""

    def __getattr__(self, name: str):
        return lambda *told: None


def task_of(order: dict[str, Any]) -> Task:
    """How the sample's tables are read."""
    if order["task"] != CUSTOM:
        return TASKS[order["task"]]
    columns = [f"sentence{place + 1}" for place in range(order["num_inputs"])]
    return custom_task(order["labels"], "label", columns, (), "text")


def planned(order: dict[str, Any], data: Path) -> Plan:
    """A sweep of one training."""
    settings = dict(order["settings"])
    values = {
        "data": str(data),
        "warmup-ratio": settings.pop("warmup-ratio"),
        "grid": {"task": [order["task"]], "scl-lambda": [settings.pop("scl-lambda")]},
        "options": {
            **settings,
            "seed": order["seed"],
            "finetune-from-model": str(Path(order["fairseq_encoder"], "model.pt")),
        },
    }
    return plan(config_of(values, "this trial"), on_cpu=True)


def run_here(tasks: Sequence[dict[str, Any]], on_event: OnEvent) -> None:
    """Run trials in this process."""
    from scl_fairseq.experiments.warm_training import WarmTraining

    for task in tasks:
        record = worker.run(WarmTraining(), task)
        on_event({"event": worker.DONE, "trial": task["trial"], "record": record})


def main(path: str) -> None:
    """Binarise, train with validation, and predict with the best epoch's weights."""
    order = read_order(path)
    folder, encoder = Path(order["folder"]), Path(order["fairseq_encoder"])
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    encoding = Settings("wordpiece", encoder, order["max_length"], TRUNCATE)
    preprocess(task_of(order), Path(order["sample"]), folder / "bin", encoding, workers=1)
    sweep = planned(order, folder / "bin")
    run_sweep(sweep, folder / "out", "none", True, run_here, Unwatched())
    (result,) = read_results(folder / "out").results
    rows = result.predictions_path.read_text("utf-8").split("\n")[1:-1]
    write_answer(
        order,
        [order["labels"].index(row.split("\t")[2]) for row in rows],
        dev_accuracy=result.best_valid_accuracy / 100,
        epoch=result.best_epoch,
        updates=result.num_updates,
    )


if __name__ == "__main__":
    main(sys.argv[1])
