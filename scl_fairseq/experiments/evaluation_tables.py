"""What ``scl-evaluate`` prints: scores side by side, differences, confusion matrices."""

from __future__ import annotations

from collections.abc import Iterator

from scl_fairseq.experiments.tables import markdown
from scl_fairseq.inference.scores import CALIBRATION_BINS
from scl_fairseq.inference.split_evaluation import Evaluated, SplitEvaluation

MOST_COLUMNS = 20  # classes of a confusion matrix that is shown as one
MOST_CONFUSIONS = 20  # rows, where it is not


def text(evaluation: SplitEvaluation) -> str:
    """Markdown of all scores of a labelled split."""
    return "\n\n".join(_parts(evaluation)) + "\n"


def _parts(evaluation: SplitEvaluation) -> Iterator[str]:
    rows = evaluation.data.num_examples[evaluation.split]
    yield f"{evaluation.data.folder}, {evaluation.split}: {rows} examples"
    yield _scores(evaluation)
    if len(evaluation.checkpoints) > 1:
        yield _differences(evaluation)
    for one in evaluation.checkpoints:
        yield _confusion(one, evaluation.data.labels)
    yield _notes(evaluation)


def _scores(evaluation: SplitEvaluation) -> str:
    f1_label = evaluation.checkpoints[0].scores.f1_label
    f1 = "macro F1 (%)" if f1_label is None else f"F1 of {f1_label} (%)"
    columns = [
        [
            f"{scores.accuracy:.2f}",
            _interval(scores.accuracy_interval),
            f"{scores.f1:.2f}",
            f"{scores.mcc:.4f}",
            f"{scores.calibration_error:.2f}",
            f"{scores.negative_log_likelihood:.4f}",
        ]
        for scores in (one.scores for one in evaluation.checkpoints)
    ]
    names = ["accuracy (%)", "95 % interval", f1, "MCC", "calibration error (%)", "mean NLL (nats)"]
    header = ["", *(one.name for one in evaluation.checkpoints)]
    return markdown(header, list(zip(names, *columns, strict=True)))


def _differences(evaluation: SplitEvaluation) -> str:
    first, *others = evaluation.checkpoints
    header = [
        f"against {first.name}",
        "difference",
        "95 % interval",
        "p, bootstrap",
        "only first right",
        "only this right",
        "p, McNemar",
        "test",
    ]
    rows = []
    for one in others:
        found = one.against_first
        rows.append(
            [
                one.name,
                f"{found.difference:+.2f}",
                _interval(found.interval, sign="+"),
                _p(found.p),
                str(found.mcnemar.only_first),
                str(found.mcnemar.only_second),
                _p(found.mcnemar.p),
                found.mcnemar.test,
            ]
        )
    return markdown(header, rows, left=(0, len(header) - 1))


def _confusion(one: Evaluated, labels: list[str]) -> str:
    if len(labels) > MOST_COLUMNS:
        return _confusions(one, labels)
    header = [f"{one.name}: label \\ prediction", *labels]
    rows = [
        [label, *map(str, row)] for label, row in zip(labels, one.scores.confusion, strict=True)
    ]
    return markdown(header, rows)


def _confusions(one: Evaluated, labels: list[str]) -> str:
    """The most frequent ones, where a table of all classes would be too wide."""
    wrong = [(cell, count) for cell, count in one.scores.cells.items() if cell[0] != cell[1]]
    wrong.sort(key=lambda found: -found[1])  # stable: equals in the order of their labels
    rows = [[labels[i], labels[j], str(count)] for (i, j), count in wrong[:MOST_CONFUSIONS]]
    shown = f"{len(rows)} of {len(wrong)} confusions of {len(labels)} labels, the most frequent"
    if len(rows) == len(wrong):
        shown = f"all {len(wrong)} confusions of {len(labels)} labels"
    header = [f"{one.name}: label", "prediction", "examples"]
    return f"{shown}; --json FILE holds them all\n\n{markdown(header, rows, left=(0, 1))}"


def _notes(evaluation: SplitEvaluation) -> str:
    how = f"{evaluation.resamples} resamples of the examples, seed {evaluation.seed}"
    notes = [
        f"Calibration error: expected, over {CALIBRATION_BINS} bins of equal width of the "
        "confidence, sum of |bin| / N * |accuracy - mean confidence| (Guo et al. 2017).",
        f"Intervals: percentile bootstrap, {how}.",
    ]
    if evaluation.checkpoints[0].scores.f1_label is None:
        notes.append("Macro F1: mean over the classes that occur as label or prediction.")
    if len(evaluation.checkpoints) > 1:
        notes.append(
            "Differences of accuracy are in percent points, paired over the examples; p is "
            "two-sided and not corrected for the number of checkpoints."
        )
    return "\n".join(notes)


def _interval(interval: tuple[float, float], sign: str = "") -> str:
    low, high = interval
    return f"{low:{sign}.2f} to {high:{sign}.2f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1e}"
