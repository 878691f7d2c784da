"""Training and evaluation without padding beside stock fairseq and Hugging Face, in one process."""

from __future__ import annotations

import copy
from argparse import Namespace

import torch

from benchmarks import packed_contenders
from benchmarks.device import clear, matrix_rate
from benchmarks.gpu.check import Check
from benchmarks.packed import MEASURES, PACKED, STOCK, Drawer, operations, without_padding
from benchmarks.roberta import make_model, make_task

HUGGING_FACE = "Hugging Face"
SCL = f"{PACKED}, CE+SCL"
# Batches of a task's sentences: their number, and the least ratio to the others; 1: not slower.
PLAN = [("SST-2", 256), ("QNLI", 256), ("SST-2", 64), ("QNLI", 64), ("SST-2", 16), ("QNLI", 16)]
TARGETS = {"SST-2": 2.5, "QNLI": 2.0}
BATCHES, TIMES = 2, 3
MIN_SHARE = 0.45  # of the card's own matrix rate, at batch 256 with QNLI's lengths
MAX_COST = 1.02  # of CE+SCL over CE


def run(check: Check) -> None:
    """RoBERTa-Large's sizes in bf16."""
    size, plan = ("MiniLM", [("SST-2", 4)]) if check.dry else ("large", PLAN)
    dtype = torch.float32 if check.dry else torch.bfloat16
    rate = matrix_rate(check.device, dtype, 256 if check.dry else None)
    check.add("matrix_rate", tflops=rate / 1e12, dtype=str(dtype))
    folder = check.work / "batches"
    folder.mkdir(exist_ok=True)
    options = Namespace(glue_dir=check.glue_dir, bpe_dir=check.bpe_dir)
    drawers: dict[str, Drawer] = {}
    for task, _ in plan:
        if task not in drawers:
            drawers[task] = Drawer(options, task, folder)
    kinds = [drawers[task].draw(number, 1 if check.dry else BATCHES) for task, number in plan]
    kinds.append(without_padding(folder, 1 if check.dry else BATCHES))
    contenders = {}
    first = make_model(make_task(), size).to(check.device)  # which takes seconds: others are copies
    for name, weight in ((PACKED, 0), (STOCK, 0), (HUGGING_FACE, 0), (SCL, 0.9)):
        with check.part("packed", contender=name, batches="to build it"):
            if name == HUGGING_FACE:
                made = packed_contenders.hugging_face(size, weight)
            else:
                own = copy.deepcopy(first)
                made = packed_contenders.fairseq(size, weight, name != STOCK, own)
            contenders[name] = packed_contenders.Contender(*made, list(MEASURES))
    for (task, number), kind in zip([*plan, ("equal lengths", 16)], kinds, strict=True):
        batches = packed_contenders.read_batches(kind.file)[1:]
        found = {}
        for name, contender in contenders.items():
            about = {"size": size, "batches": kind.name, "contender": name}
            if not check.has_time("packed", 6, **about):
                continue
            with check.part("packed", **about):
                if not check.dry:
                    torch.cuda.reset_peak_memory_stats()
                found[name] = contender.medians(batches, 1 if check.dry else TIMES)
                peak = 0 if check.dry else torch.cuda.max_memory_allocated() / 1e9
                update = found[name]["update"]
                share = 3 * operations(size, kind) / found[name]["gradients"] / rate
                check.add(
                    "packed", **about, **found[name], sentences_a_second=kind.sentences / update,
                    of_matrix_rate=share, peak_gb=peak,
                )  # fmt: skip
            clear(check.device)
        if not check.dry:
            judge(check, task, number, kind.name, found)


def judge(check: Check, task: str, number: int, name: str, found: dict) -> None:
    """Set what was measured beside what is to hold."""
    about = {"batches": name}
    least = TARGETS.get(task, 1.0) if number > 16 else 1.0
    for other in (STOCK, HUGGING_FACE):
        if PACKED in found and other in found:
            ratio = found[other]["update"] / found[PACKED]["update"]
            what = f"packed updates over {other}'s"
            check.add("target", **about, what=what, least=least, found=ratio, ok=ratio >= least)
    if PACKED in found and SCL in found:
        ratio = found[SCL]["update"] / found[PACKED]["update"]
        ok = ratio <= MAX_COST
        check.add("target", **about, what="CE+SCL over CE", most=MAX_COST, found=ratio, ok=ok)
