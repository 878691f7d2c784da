"""From a task's text files to what fairseq's ``sentence_prediction`` task reads.

Unlabelled text becomes what ``masked_lm`` and ``sentence_embedding`` read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from scl_fairseq import versions
from scl_fairseq.data.account import Account, OnProgress, silent
from scl_fairseq.data.binarized import REPORT
from scl_fairseq.data.blocks import Block, read_blocks, useful_workers
from scl_fairseq.data.choices import GLUE, OUTPUTS, PAPER
from scl_fairseq.data.encode import (
    Job,
    Settings,
    encode_block,
    make_state,
)
from scl_fairseq.data.file_report import FileReport
from scl_fairseq.data.folders import DataFolder, open_folder
from scl_fairseq.data.parallel import available_cores, ordered_map
from scl_fairseq.data.row_index import draw_dev, index_rows
from scl_fairseq.data.sources import Source
from scl_fairseq.data.split_output import SOURCE_DIR, SplitOutput, SplitReport, input_folders
from scl_fairseq.data.splits import allocate, draw
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.tasks import Task
from scl_fairseq.files import replaced_folder, write_text
from scl_fairseq.text.bpe_files import BPE_DIR, KEPT, keep_files
from scl_fairseq.text.dictionary import Dictionary, make_dictionary

MANY_UNKNOWN = 0.5
_NOTHING = np.zeros(0, np.int64)


@dataclass
class Report:
    """Everything there is to know about a finished run; also written to ``preprocess.json``.

    Attributes that do not speak for themselves:
        quoting: what was asked for; ``files`` say what was found.
        dev_share: part of train that became ``valid``; None where there was a dev set.
        sentence_columns: their names in train.
        repeated: rows of other splits whose text stands in train too, of one's own data alone.
    """

    task: str
    split: str
    seed: int
    bpe: str
    max_positions: int
    on_long: str
    files: dict[str, FileReport]
    splits: dict[str, SplitReport]
    absent: tuple[str, ...]
    versions: dict[str, str]
    quoting: str
    dev_share: float | None
    sentence_columns: list[str]
    repeated: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    """A source and its outputs; the rows ``set_aside`` go to the second."""

    source: Source
    outputs: tuple[str, ...]
    set_aside: np.ndarray


def preprocess(
    task: Task,
    data_dir: Path,
    destination: Path,
    settings: Settings,
    split: str = GLUE,
    seed: int = 0,
    strict: bool = False,
    workers: int | None = None,
    on_progress: OnProgress = silent,
    dev_share: float | None = None,
) -> Report:
    """Encode and binarise the files of a task.

    Args:
        task: which files and columns there are, and the order of the labels.
        data_dir: official data, or a few-shot sample.
        destination: receives ``input0``, ``input1`` for pairs, ``label``, ``bpe`` (the encoding's
            files, so that what is trained on the data can be given text), ``source`` for augmented
            samples (which rows are of one original) and ``preprocess.json``; one sentence a row
            without labels lies in the folder itself. An earlier result there is replaced whole.
        settings: encoding and limits.
        split: ``glue``: train, dev and test as they are; ``paper``: a stratified validation set of
            dev's size drawn from train, dev as test.
        seed: of that draw, or of that of dev.
        strict: refuse malformed rows also where the official data has some.
        workers: processes; by default one for each core.
        on_progress: is told bytes read and in all, now and then.
        dev_share: part of train that is drawn as dev, stratified, where there is none.

    Raises:
        ValueError, OSError: bad input; the destination is as it was then.
    """
    _, encoder = make_state(settings)
    workers = workers or available_cores()
    if split == PAPER and dev_share is not None:
        raise ValueError(f"--split {PAPER} takes dev as test, which --dev-share says is missing")
    folder = open_folder(task, data_dir, strict, draws_dev=dev_share is not None)
    if split == PAPER and not task.labels:
        raise ValueError(f"--split {PAPER} draws by label: unlabelled text has --split {GLUE} only")
    if split == PAPER and folder.is_sample:
        raise ValueError(f"{data_dir} is a few-shot sample: its split is its own, --split glue")
    with replaced_folder(destination, is_ours=_is_ours) as target:
        plans = _plan(task, folder, split, seed, workers, dev_share)
        report = Report(
            task=task.name,
            split=split,
            seed=seed,
            bpe=settings.bpe,
            max_positions=settings.max_positions,
            on_long=settings.on_long,
            files={},
            splits={name: SplitReport() for plan in plans for name in plan.outputs},
            absent=folder.absent if split == GLUE else (),
            versions=versions.installed(),
            quoting=task.quoting,
            dev_share=dev_share,
            sentence_columns=_sentence_columns(folder.sources["train"]),
        )
        dictionary = encoder.dictionary
        _encode_all(task, plans, settings, dictionary, target, workers, report, on_progress)
        for folder in input_folders(task, target):
            write_text(folder / "dict.txt", dictionary.text)
        if task.labels:
            write_text(target / "label" / "dict.txt", make_dictionary(task.labels).text)
        first = input_folders(task, target)[0] / "dict.txt"
        keep_files(settings.bpe, settings.bpe_dir, target / BPE_DIR, first)
        write_text(target / REPORT, json.dumps(asdict(report), indent=1, allow_nan=False) + "\n")
    return report


def _sentence_columns(source: Source) -> list[str]:
    return [source.columns[at] for at in source.sentences_at]


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds what this module writes and nothing else, which may be replaced."""
    data = r"(dict\.txt|(train|valid1?|test1?)\.(bin|idx))"
    written = re.compile(
        rf"{data}|(input[0-2]|label)(/{data})?"
        rf"|{BPE_DIR}(/({'|'.join(map(re.escape, KEPT))}))?"
        rf"|{SOURCE_DIR}(/train\.txt)?"
    )
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return REPORT in names and all(map(written.fullmatch, names - {REPORT}))


def _plan(
    task: Task, folder: DataFolder, split: str, seed: int, workers: int, dev_share: float | None
) -> list[_Plan]:
    if split == GLUE:
        plans = {
            name: _Plan(source, (OUTPUTS[GLUE][name],), _NOTHING)
            for name, source in folder.sources.items()
        }
        if dev_share is not None:
            source, outputs = (
                folder.sources["train"],
                (OUTPUTS[GLUE]["train"], OUTPUTS[GLUE]["dev"]),
            )
            index = index_rows(source, workers)
            rows = index.by_class(task, index.rows)
            aside = draw_dev(task, source, rows, dev_share, seed)
            plans["train"] = _Plan(source, outputs, np.array(aside, np.int64))
        return list(plans.values())
    train = index_rows(folder.sources["train"], workers)
    dev = index_rows(folder.sources["dev"], 1)
    rows = train.by_class(task, train.rows)
    sizes = {label: len(of_class) for label, of_class in rows.items()}
    try:
        if len(dev.rows) > len(train.rows) - len(task.labels):
            raise ValueError(
                f"{len(train.rows)} rows, expected more than the {len(dev.rows)} of dev, as many "
                f"as --split {PAPER} takes from train; --split {GLUE} takes none"
            )
        counts = allocate(len(dev.rows), sizes)
    except ValueError as error:
        raise ValueError(f"{folder.sources['train'].path}: {error}") from None
    aside = draw(rows, counts, StableRandom(seed, task.name, "paper validation"))
    plans = []
    for name, output in OUTPUTS[PAPER].items():
        if name in folder.sources:
            outputs = (output, "valid") if name == "train" else (output,)
            set_aside = np.array(aside, np.int64) if name == "train" else _NOTHING
            plans.append(_Plan(folder.sources[name], outputs, set_aside))
    return plans


def _encode_all(
    task: Task,
    plans: list[_Plan],
    settings: Settings,
    dictionary: Dictionary,
    target: Path,
    workers: int,
    report: Report,
    on_progress: OnProgress,
) -> None:
    sources = [plan.source for plan in plans]
    account = Account(sources, on_progress)

    def jobs() -> Iterator[Job]:
        for number, plan in enumerate(plans):
            for block in read_blocks(plan.source, account):
                yield Job(number, block, _within(plan.set_aside, block))

    for source in sources:
        report.files[source.name] = FileReport.of(source)
    with ExitStack() as stack:
        outputs = {
            name: stack.enter_context(SplitOutput(task, target, name, dictionary))
            for plan in plans
            for name in plan.outputs
        }
        workers = useful_workers(workers, *sources)
        results = ordered_map(encode_block, jobs(), make_state, (settings,), workers)
        for encoded in stack.enter_context(closing(results)):
            plan = plans[encoded.source]
            file = report.files[plan.source.name]
            file.note(encoded.seen)
            file.long_lines += encoded.long
            for name, part in zip(plan.outputs, encoded.parts, strict=False):
                outputs[name].write(part, report.splits[name])
        train = outputs["train"].texts()
        for name in outputs:
            if name != "train" and (count := int(np.isin(outputs[name].texts(), train).sum())):
                report.repeated[name] = count
    checksums = account.checksums()
    for source in sources:
        report.files[source.name].sha256 = {
            path.name: checksums[path.name] for path in source.paths
        }
    _check_classes(task, plans, report)
    _check_known(settings, report)


def _check_known(settings: Settings, report: Report) -> None:
    """Refuse a dictionary of another encoding, in which nearly every token is unknown."""
    for name, split in report.splits.items():
        share = split.unknown_tokens / split.tokens
        if share > MANY_UNKNOWN:
            raise ValueError(
                f"{settings.bpe_dir}: dict.txt lacks {share:.0%} of the tokens of {name}; it does "
                f"not belong to this {settings.bpe}"
            )


def _within(rows: np.ndarray, block: Block) -> np.ndarray:
    """Those of the ascending row numbers that can lie in a block: it has at most a row a line."""
    end = block.first_row + block.parts[0].count(b"\n") + 1
    return rows[slice(*np.searchsorted(rows, (block.first_row, end)))]


def _check_classes(task: Task, plans: list[_Plan], report: Report) -> None:
    for plan in plans:
        for name in plan.outputs:
            split = report.splits[name]
            if not split.rows:
                raise ValueError(
                    f"{plan.source.path}:{plan.source.first_line}: no rows, expected the rows of "
                    f"{task.name} {plan.source.split}"
                )
            absent = [label for label, count in split.label_counts.items() if not count]
            if name == "train" and absent:
                raise ValueError(
                    f"{plan.source.path}: no row of class {', '.join(absent)} for {name}, expected "
                    f"rows of {', '.join(task.labels)}"
                )
