"""What an update of CE+SCL costs over stock CE: the two take turns on one model."""

from __future__ import annotations

import statistics

import torch
from fairseq.criterions.sentence_prediction import (
    SentencePredictionConfig,
    SentencePredictionCriterion,
)

from benchmarks.device import WARM_UP, seconds
from benchmarks.gpu.check import Check
from benchmarks.roberta import make_model, make_sample, make_task, make_words
from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig,
    SentencePredictionSCLCriterion,
)

STOCK, MOST = "stock CE", 1.02
CASES = [("large", torch.bfloat16, 32), ("base", torch.bfloat16, 256), ("base", torch.float32, 16)]
WAYS = {
    "CE+SCL, cls": {},
    "CE+SCL, pooled": {"scl_embedding": "pooled"},
    "CE+SCL, mean": {"scl_embedding": "mean"},
    "CE+SCL, diagnostics": {"scl_diagnostics": True},
}


def run(check: Check) -> None:
    """Each case: size, precision, batch of 64 tokens each."""
    for size, dtype, batch in [("MiniLM", torch.float32, 4)] if check.dry else CASES:
        about = {"size": size, "dtype": str(dtype), "batch": batch}
        if check.has_time("update", 6, **about):
            with check.part("update", **about):
                _compare(check, about, size, dtype, batch)


def _compare(check: Check, about: dict, size: str, dtype: torch.dtype, batch: int) -> None:
    task = make_task()
    model = make_model(task, size).to(check.device, dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    words = make_words(batch, 8 if check.dry else 64).to(check.device)
    sample = make_sample(words, (torch.arange(batch) % 2).to(check.device))
    criterions = {STOCK: SentencePredictionCriterion(SentencePredictionConfig(), task)}
    for name, options in WAYS.items():
        config = SentencePredictionSCLConfig(**options)
        criterions[name] = SentencePredictionSCLCriterion(config, task)
    names, took = list(criterions), {name: [] for name in criterions}

    def update(criterion) -> None:
        optimizer.zero_grad()
        loss, count, _ = criterion(model, sample)
        (loss / count).backward()
        optimizer.step()

    for index in range(-WARM_UP[check.device], 1 if check.dry else 15):
        turn = index % len(names)
        for name in [*names[turn:], *names[:turn]]:
            spent = seconds(lambda name=name: update(criterions[name]), check.device)
            if index >= 0:
                took[name].append(spent)
    stock = statistics.median(took[STOCK])
    for name, values in took.items():
        found = statistics.median(values)
        judged = {} if check.dry or name != "CE+SCL, cls" else {"ok": found / stock <= MOST}
        check.add("update", **about, way=name, seconds=found, over_stock=found / stock, **judged)
