"""Made-up results of sweeps, written as scl-sweep writes them."""

import hashlib
import itertools
import json
import math

import numpy as np

GRID_KEYS = ["task", "N", "sample", "seed", "scl-lambda", "scl-temperature"]


def line(setting, valid_accuracy, test_accuracy, grid_keys=GRID_KEYS, **others):
    """A line of results.jsonl, of the keys of its contract."""
    trial = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()[:12]
    epochs = len(valid_accuracy)
    best = max(valid_accuracy)
    return {
        "trial": trial,
        "setting": setting,
        "grid_keys": list(grid_keys),
        "valid_accuracy": valid_accuracy,
        "valid_epochs": list(range(1, epochs + 1)),
        "train_loss": [round(1 / epoch, 3) for epoch in range(1, epochs + 1)],
        "best_epoch": max(i for i, value in enumerate(valid_accuracy, 1) if value == best),
        "best_valid_accuracy": best,
        "test_accuracy": test_accuracy,
        "num_test": 436,
        "majority_share": 50.9,
        "collapsed": best <= 50.9,
        "num_updates": 20,
        "updates_per_second": 10.0,
        "wall_seconds": 12.5,
        "peak_memory_bytes": None,
        "epoch_metrics": {"valid": [], "train": []},
        "data": {"path": "data", "sha256": "0" * 64},
        "encoder_sha256": "1" * 64,
        "versions": {"scl-fairseq": "0.1.0", "python": "3.11.7"},
        "device": "cpu: a test, 1 thread",
        "predictions": f"trials/{trial}/predictions.tsv",
        "checkpoint": None,
        "command": "fairseq-train data",
        "finished": "2026-11-21T17:30:25+00:00",
        **others,
    }


def setting(task="SST-2", size=20, sample=0, scl_lambda=0, scl_temperature=None, **others):
    """A setting; CE has no temperature, and a whole training set no N."""
    chosen = {"task": task, "N": size, "sample": sample, "seed": 1, "scl-lambda": scl_lambda}
    if size is None:
        del chosen["N"]
    if scl_lambda:
        chosen["scl-temperature"] = scl_temperature
    return {**chosen, "lr": 5e-5, "batch-size": 16, **others}


def few_shot(
    tasks=("SST-2", "QNLI", "MNLI"),
    sizes=(20, 100, 1000),
    samples=10,
    lambdas=(0, 0.1, 0.3, 0.5, 0.7, 0.9),
    temperatures=(0.1, 0.3, 0.5, 0.7),
    epochs=30,
):
    """Lines that look like those of a few-shot sweep."""
    chance = {"SST-2": 51.0, "QNLI": 50.5, "MNLI": 35.0}
    lines = []
    for task, size, scl_lambda in itertools.product(tasks, sizes, lambdas):
        for temperature in temperatures if scl_lambda else (None,):
            for sample in range(samples):
                key = [ord(c) for c in task] + [size, round(100 * scl_lambda), sample]
                random = np.random.default_rng([*key, round(100 * (temperature or 0))])
                top = chance[task] + 15 * math.log10(size / 8)
                if scl_lambda:
                    top += 3 * scl_lambda - 12 * abs(temperature - 0.3) ** 2
                top += random.normal(0, 25 / math.log(size) ** 1.5)
                rise = 1 - np.exp(-np.arange(1, epochs + 1) / 6)
                curve = chance[task] + (top - chance[task]) * rise + random.normal(0, 0.8, epochs)
                valid = [round(float(value), 1) for value in np.clip(curve, 0, 100)]
                given = setting(task, size, sample, scl_lambda, temperature)
                loss = (1 - scl_lambda) * 1.0 + scl_lambda * 3.4
                train = loss * np.exp(-np.arange(epochs) / 15) + random.uniform(0, 0.06, epochs)
                test = max(valid) - 1 + float(random.normal(0, 1))
                train_loss = [round(float(value), 3) for value in train]
                lines.append(line(given, valid, test, train_loss=train_loss))
    return lines


def batch_sizes(tasks=("SST-2", "CoLA", "QNLI"), sizes=(16, 64, 256), seeds=5):
    """Lines that look like those of the batch-size ablation, on whole training sets."""
    base = {"SST-2": 93.6, "CoLA": 83.0, "QNLI": 91.8}
    lines = []
    for task, size, scl_lambda, seed in itertools.product(tasks, sizes, (0, 0.9), range(seeds)):
        random = np.random.default_rng([len(task), size, seed, round(10 * scl_lambda)])
        top = base[task] + (0.25 if scl_lambda else 0.05) * math.log2(size / 16)
        valid = [round(top - 3 / epoch + float(random.normal(0, 0.2)), 1) for epoch in range(1, 6)]
        given = setting(task, None, 0, scl_lambda, 0.3, **{"batch-size": size, "seed": seed})
        del given["sample"]
        speed = 4.8 / (size / 16) ** 0.8 * (0.97 if scl_lambda else 1) * random.uniform(0.97, 1.03)
        keys = ["task", "seed", "batch-size", "scl-lambda", "scl-temperature"]
        test = max(valid) + float(random.normal(0, 0.2))
        lines.append(line(given, valid, test, keys, updates_per_second=speed))
    return lines


CONFIG = """\
name: example
published: {published}
data: data/{{task}}/{{N}}/sample{{sample}}
grid:
  task: [SST-2]
  N: [20]
  sample: [0]
  seed: [1]
  scl-lambda: [0, 0.9]
  scl-temperature: [0.3]
options:
  lr: 5.0e-5
  batch-size: 16
  max-epoch: 30
"""


def write(folder, lines, published=None):
    """``folder`` with results.jsonl as scl-sweep leaves it; ``published`` adds a config.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "results.jsonl").write_text(text, encoding="utf-8")
    if published:
        (folder / "config.yaml").write_text(CONFIG.format(published=published), encoding="utf-8")
    return folder
