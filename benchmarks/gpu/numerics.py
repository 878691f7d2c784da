"""Errors against float64 on the CPU, collectives, and where an update waits for the GPU."""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.check import Check
from benchmarks.roberta import HEAD, PAD, make_model, make_sample, make_task, make_words
from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig,
    SentencePredictionSCLCriterion,
)
from scl_fairseq.kernels.choice import has_triton
from scl_fairseq.losses import supervised_contrastive_loss
from scl_fairseq.losses.precision import PRODUCTS, Arithmetic
from scl_fairseq.models import packed_encoder

LENGTHS = (48, 3, 9, 30, 22, 7)


def run(check: Check) -> None:
    """All of them."""
    for step in (losses, encoders, gather, waits):
        if check.has_time("numerics", 5, of=step.__name__):
            with check.part("numerics", of=step.__name__):
                step(check)


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm, in float64 on the CPU."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-300))


def losses(check: Check) -> None:
    """Value and gradient, at once and in tiles, in every precision and by every kernel."""
    kernels = ["torch", *(["triton"] if has_triton() and not check.dry else [])]
    for size in (64, 600 if check.dry else 9000):
        for temperature in (0.3, 0.05):
            rows = torch.randn(size, 256, generator=torch.Generator().manual_seed(0))
            labels = torch.arange(size) % 3
            wide = rows.double().requires_grad_()
            expected = supervised_contrastive_loss(wide, labels, temperature)
            expected.backward()
            for products in PRODUCTS:
                for kernel in kernels:
                    about = {"N": size, "temperature": temperature}
                    about |= {"products": products, "kernel": kernel}
                    with check.part("loss", **about):
                        mine = rows.to(check.device, copy=True).requires_grad_()
                        found = supervised_contrastive_loss(
                            mine, labels.to(check.device), temperature,
                            arithmetic=Arithmetic(products, kernel),
                        )  # fmt: skip
                        found.backward()
                        error = relative(found, expected)
                        of_gradient = relative(mine.grad, wide.grad)
                        most, most_of_gradient = {
                            "float32": (1e-5, 1e-4), "tf32": (1e-3, 1e-2), "bf16": (1e-3, 5e-2)
                        }[products]  # fmt: skip
                        ok = error < most and of_gradient < most_of_gradient
                        check.add("loss", **about, ok=ok, error=error, gradient_error=of_gradient)


def encoders(check: Check) -> None:
    """Packed against stock: logits and a gradient, both against float64."""
    task = make_task()
    tokens = make_words(len(LENGTHS), max(LENGTHS))
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[length:] = PAD
    for size in ("MiniLM",) if check.dry else ("MiniLM", "base"):
        model = make_model(task, size).eval()  # no dropout, and yet gradients
        expected = _logits_and_gradient(copy.deepcopy(model).double(), tokens)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            if check.dry and dtype == torch.float16:
                continue
            errors = {}
            for name in ("stock", "packed"):
                about = {"size": size, "dtype": str(dtype), "way": name}
                with check.part("encoder", **about):
                    one = copy.deepcopy(model).to(check.device, dtype)
                    if name == "packed":
                        packed_encoder.pack(one)
                    with packed_encoder.reading_first_position(one):
                        found = _logits_and_gradient(one, tokens.to(check.device))
                    errors[name] = [relative(*two) for two in zip(found, expected, strict=True)]
                    # As near as stock, which rounds no less.
                    bounds = [max(2e-5, 1.5 * error) for error in errors["stock"]]
                    ok = all(a <= b for a, b in zip(errors[name], bounds, strict=True))
                    logits, gradient = errors[name]
                    check.add("encoder", **about, ok=ok, error=logits, gradient_error=gradient)


def _logits_and_gradient(model, tokens: Tensor) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    logits, _ = model(tokens, features_only=True, classification_head_name=HEAD)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    wide.square().sum().backward()
    gradient = model.encoder.sentence_encoder.layers[0].self_attn.q_proj.weight.grad
    return logits.detach(), gradient.clone()


def gather(check: Check) -> None:
    """Rows of a group of one, with gradients: over NCCL, on a CPU over gloo."""
    import torch.distributed as dist

    from scl_fairseq.distributed import RowGatherer

    backend = "gloo" if check.dry else "nccl"
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store").as_uri()
        dist.init_process_group(backend, init_method=store, rank=0, world_size=1)
        try:
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                gatherer = RowGatherer()
                for count in (3, 7, 0):
                    rows = torch.randn(count, 5, device=check.device, dtype=dtype)
                    rows.requires_grad_()
                    labels = torch.arange(count, device=check.device)
                    found = gatherer(rows, labels)
                    (found.rows.sum() * 2).backward()
                    ok = torch.equal(found.rows.to(dtype), rows) and bool((rows.grad == 2).all())
                    ok = ok and torch.equal(found.labels, labels)
                    about = {"backend": backend, "dtype": str(dtype), "rows": count}
                    check.add("gather", **about, ok=ok)
        finally:
            dist.destroy_process_group()


def waits(check: Check) -> None:
    """How often an update waits for the GPU, by torch's own count, and where; stock's beside."""
    if check.dry:
        check.add("waits", skipped="a CPU waits for nothing")
        return
    task = make_task()
    tokens = make_words(8, 40).to(check.device)
    for row, length in zip(tokens, (40, 3, 9, 12, 30, 22, 7, 5), strict=True):
        row[length:] = PAD
    labels = torch.arange(8, device=check.device) % 2
    ways = {"stock": {"scl_lambda": 0.0}, "CE+SCL": {}, "CE+SCL, packed": {"scl_packed": True}}
    ways["CE+SCL, queue"] = {"scl_queue_size": 64, "scl_momentum": 0.9}
    for name, options in ways.items():
        with check.part("waits", of=name):
            model = make_model(task, "MiniLM").to(check.device).bfloat16()
            criterion = SentencePredictionSCLCriterion(SentencePredictionSCLConfig(**options), task)
            sample = make_sample(tokens, labels)
            for _ in range(2):
                criterion(model, sample)[0].backward()
            torch.cuda.synchronize()
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    criterion(model, sample)[0].backward()
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            places: dict[str, int] = {}
            for one in seen:
                if "synchroniz" in str(one.message):
                    place = f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno}"
                    places[place] = places.get(place, 0) + 1
            check.add("waits", of=name, number=sum(places.values()), places=places)
