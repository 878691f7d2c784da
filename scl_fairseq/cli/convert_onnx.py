"""``scl-convert --to onnx``: the models, and how each compares with the checkpoint."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scl_fairseq.cli.common import bar_of
from scl_fairseq.inference.choices import ONNX_FILES

if TYPE_CHECKING:
    from scl_fairseq.checkpoints.export import Options
    from scl_fairseq.inference.onnx_check import Checked, Sample

DEFAULT_ROWS = 1000


def to_onnx(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    told = export_options(options)

    from scl_fairseq.inference.onnx_export import export_onnx

    with bar_of("rows") as show:
        done = export_onnx(
            options.source,
            options.destination,
            told,
            options.precision or tuple(ONNX_FILES),
            options.split,
            DEFAULT_ROWS if options.rows is None else options.rows,
            show,
        )
    print(f"wrote {options.destination}: {', '.join(done.files)}")
    if done.labels:
        print(f"labels: {', '.join(done.labels)}")
    print(_about(done.sample))
    print(*map(_line, done.checked), sep="\n")
    for note in done.notes:
        print(f"note: {note}")
    return 0


def export_options(options: argparse.Namespace) -> Options:
    """What the command line says of an export.

    Raises:
        ValueError: there is no such task.
    """
    from scl_fairseq.data.tasks import find_task

    task = find_task(options.task) if options.task else None

    from scl_fairseq.checkpoints.export import Options

    return Options(
        data_dir=options.data_dir,
        bpe=options.bpe,
        bpe_dir=options.bpe_dir,
        task=task and task.name,
        labels=task and task.labels,
        pooling=options.pooling,
        normalize=options.normalize,
        with_head=options.with_head,
        expected_sha256=options.sha256,
    )


def _about(sample: Sample) -> str:
    rows = f"{len(sample.rows)} rows"
    if sample.targets is None:
        return f"compared on {rows} of {sample.source} (--data-dir names data with labels):"
    of = f" of {sample.total}" if sample.total > len(sample.rows) else ""
    return f"compared on {rows}{of}, {sample.source}:"


def _line(one: Checked) -> str:
    parts = [f"{one.name:<10}", f"{one.size / 1e6:7.1f} MB", f"{one.speed:6.0f} rows/s"]
    if one.accuracy is not None:
        low, high = one.interval
        parts.append(f"accuracy {one.accuracy:.1f} % ({low:.1f} to {high:.1f})")
    if one.difference is not None:
        parts.append(f"logits differ by {one.difference:.2g} at most")
    return "  " + "  ".join(parts)
