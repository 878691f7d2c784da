"""The result of the contest as text: tables of accuracy, of differences and of cost."""

import json
import os
from collections.abc import Sequence

from benchmarks.contest.contenders import CONTENDERS, MAX_LENGTH
from benchmarks.contest.outcomes import Outcomes
from scl_fairseq.checkpoints.embedded import ABOUT_ENCODER
from scl_fairseq.experiments.paired_difference import Difference
from scl_fairseq.experiments.tables import NOTHING, markdown, mean_and_sd

CHALLENGER = "scl"
AVERAGE = "average"
NOTES = """\
Every contender has the same rows, drawn as `scl-sample` draws them, the same encoder and one \
thread. A trial is a process of its own, and its CPU seconds (user and system, of all processes \
that it starts) count from the start of Python to the predictions; the encoder is on disk, in \
each one's own format. Epochs and C are chosen on dev, nothing on test. Test sets have at most \
{most} rows, drawn at random by the seed of the draw, the same for all; texts are cut at {length} \
tokens.

Differences are paired: the same samples, the same test sentences. Their 95 % intervals are over \
samples *and* test sentences (crossed random effects, Student's t with Satterthwaite's degrees of \
freedom); the tasks are these, and drawn from nothing. An interval of several tasks or contenders \
says nothing of how often one of many would leave 0 out by chance."""

APART = (
    "CPU seconds come from a second run of some of the trials, one after another on a machine that "
    "did nothing else: a busy one makes them longer."
)


def report(outcomes: Outcomes, command: str, most_test: int, costs_apart: bool = False) -> str:
    """All of it, in Markdown."""
    parts = [f"`{command}`", ABOUT_ENCODER, NOTES.format(most=most_test, length=MAX_LENGTH)]
    if costs_apart:
        parts.append(APART)
    for size in outcomes.sizes:
        parts += [f"## N = {size}", *_of_size(outcomes, size)]
    parts += ["## Settings", _settings(outcomes), *_cut_short(outcomes), _made_on(outcomes)]
    return "\n\n".join(parts) + "\n"


def _of_size(outcomes: Outcomes, size: int) -> list[str]:
    header = ["", *outcomes.tasks, AVERAGE]
    names = outcomes.contenders
    parts = [
        f"Accuracy in percent, mean ± standard deviation over {outcomes.wanted[size]} samples:",
        markdown(header, [_accuracy_row(outcomes, size, name) for name in names]),
    ]
    others = [name for name in names if name != CHALLENGER]
    rows = [_gain_row(outcomes, size, name) for name in others]
    if CHALLENGER in names and any(set(row[1:]) != {NOTHING} for row in rows):
        parts += [
            f"{CONTENDERS[CHALLENGER].title} minus the others, in percent points, with 95 % "
            "intervals:",
            markdown(header, rows),
            *_verdict(outcomes, size, others),
        ]
    rows = [_cost_row(outcomes, size, name) for name in names]
    said = f"CPU seconds of a trial (mean); ratio: to those of {_title(CHALLENGER)}"
    return [*parts, f"{said}:", markdown([*header, "ratio"], rows)]


def _title(name: str) -> str:
    return CONTENDERS[name].title


def _accuracy_row(outcomes: Outcomes, size: int, name: str) -> list[str]:
    cells = []
    for task in outcomes.tasks:
        values = outcomes.accuracies(task, size, name)
        # How many there are, where some are missing.
        count = f" ({len(values)})" if 0 < len(values) < outcomes.wanted[size] else ""
        cells.append(mean_and_sd(values) + count if values else NOTHING)
    return [_title(name), *cells, _number(outcomes.average(size, name))]


def _cost_row(outcomes: Outcomes, size: int, name: str) -> list[str]:
    cells = []
    for task in outcomes.tasks:
        values = outcomes.costs(task, size, name)
        cells.append(_number(sum(values) / len(values), 0) if values else NOTHING)
    average = outcomes.average(size, name, "costs")
    of_challenger = outcomes.average(size, CHALLENGER, "costs")
    ratio = average / of_challenger if average and of_challenger else None
    return [_title(name), *cells, _number(average, 0), _number(ratio, 2)]


def _gain_row(outcomes: Outcomes, size: int, name: str) -> list[str]:
    groups = [*([task] for task in outcomes.tasks), outcomes.tasks]
    found = [outcomes.gain(tasks, size, name, CHALLENGER) for tasks in groups]
    return [_title(name), *map(_gain, found)]


def _gain(found: Difference | None) -> str:
    if found is None:
        return NOTHING
    if found.interval is None:
        return f"{found.mean:+.1f}"
    low, high = found.interval
    return f"{found.mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _verdict(outcomes: Outcomes, size: int, others: Sequence[str]) -> list[str]:
    """Where it stands against the best of the others, and at which cost."""
    averages = {name: outcomes.average(size, name) for name in others}
    ranked = {name: value for name, value in averages.items() if value is not None}
    found = None
    if ranked:
        best = max(ranked, key=ranked.get)
        found = outcomes.gain(outcomes.tasks, size, best, CHALLENGER)
    if found is None:
        return []
    return [
        f"The best average of the others is {ranked[best]:.1f} ({_title(best)}); that of "
        f"{_title(CHALLENGER)} differs by {_gain(found)} points."
    ]


def _number(value: float | None, decimals: int = 1) -> str:
    return NOTHING if value is None else f"{value:.{decimals}f}"


def _settings(outcomes: Outcomes) -> str:
    """A line for each contender and set of settings."""
    lines: dict[tuple[str, str], list[str]] = {}
    for trial in outcomes.trials:
        one = trial.setting
        text = json.dumps(one["settings"], allow_nan=False)
        sizes = lines.setdefault((one["contender"], text), [])
        place = f"N = {one['N']}"
        if place not in sizes:
            sizes.append(place)
    rows = [[_title(name), ", ".join(sizes), f"`{text}`"] for (name, text), sizes in lines.items()]
    return markdown(["", "where", "settings"], rows, left=(0, 1, 2))


def _cut_short(outcomes: Outcomes) -> list[str]:
    """Where a trial had fewer steps than its epoch has, told once a task and size."""
    found = {}
    for record in outcomes.records:
        steps, epoch = (record["found"].get(name) for name in ("steps", "epoch_steps"))
        if steps is not None and steps < epoch:
            place = f"{record['task']} N = {record['N']}"
            found[_title(record["contender"]), place] = f"{place}: {steps} of {epoch}"
    titles = sorted({title for title, _ in found})
    return [
        f"{title} was cut short, to steps of an epoch's: "
        f"{'; '.join(text for (one, _), text in found.items() if one == title)}."
        for title in titles
    ]


def _made_on(outcomes: Outcomes) -> str:
    """Machine and versions of all records."""
    found: dict[str, set[str]] = {}
    for record in outcomes.records:
        for name, value in record["machine"].items():
            found.setdefault(name, set()).add(str(value))
    said = [f"{name} {' and '.join(sorted(values))}" for name, values in found.items()]
    return f"{', '.join(said)}." if said else f"Nothing is done yet (on {os.cpu_count()} cores)."
