"""Exported models beside the checkpoint that they come from: logits, accuracy, speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scl_fairseq.batching import batches_by_length
from scl_fairseq.checkpoints.export import Options
from scl_fairseq.checkpoints.trained import Trained
from scl_fairseq.data.binarized import default_split, has_labels, open_binarized
from scl_fairseq.inference.bootstrap import resample_sum
from scl_fairseq.inference.classifier import Classifier, load_classifier
from scl_fairseq.inference.evaluation import CPU_TOKENS, can_read
from scl_fairseq.inference.onnx_model import open_session, padded, run
from scl_fairseq.inference.opening import open_checkpoint
from scl_fairseq.models.packed_encoder import packed
from scl_fairseq.text.dictionary import BOS, EOS, SPECIAL_SYMBOLS

RANDOM_ROWS, LONGEST_RANDOM = 64, 64
_RESAMPLES = 10_000
TORCH_NAME = "torch fp32"


@dataclass(frozen=True)
class Sample:
    """Rows to compare on.

    Attributes:
        source: where they are from, in words.
        split: of the data; None for random ones.
        rows: token ids of each.
        targets: (N,), class indices; None where there are none.
        total: rows that there are.
    """

    source: str
    split: str | None
    rows: Sequence[np.ndarray]
    targets: np.ndarray | None
    total: int


@dataclass(frozen=True)
class Checked:
    """How one model did.

    Attributes:
        name: ``torch fp32``, ``onnx int8``, ...
        size: bytes of its file.
        difference: the largest of any logit from torch's; None for torch.
        accuracy: percent; None without labels.
        interval: of it, 95 %, bootstrap over the rows, percent.
        speed: rows a second.
    """

    name: str
    size: int
    difference: float | None
    accuracy: float | None
    interval: tuple[float, float] | None
    speed: float


class Reference:
    """The checkpoint in torch, on the CPU, and the rows: a labelled split where there is one.

    Args:
        trained: the checkpoint.
        options: as told; without ``data_dir`` the data that it was trained on serves, where that is
            still there.
        split: of the data; None for the default.
        limit: rows at most, spread evenly; 0 takes all.

    Raises:
        FileNotFoundError, ValueError: the data that was told does not fit, or has no labels.
    """

    def __init__(
        self,
        trained: Trained,
        options: Options,
        split: str | None,
        limit: int,
    ):
        self.checkpoint = checkpoint = trained.path
        found = None if trained.is_regression else _classifier(trained, options.data_dir, split)
        if found:
            classifier, split = found
            self.model, self.head = classifier.model, classifier.head_name
            self.sample = _of_split(classifier, split, limit)
        elif split:
            data = options.data_dir or f"the data of {checkpoint}"
            raise ValueError(f"{data} has no {split} with labels; --data-dir names another")
        else:
            files = options.data_dir, options.bpe, options.bpe_dir
            opened = open_checkpoint(checkpoint, *files)
            self.model, self.head = opened.model, opened.head
            size = self.model.encoder.sentence_encoder.embed_tokens.num_embeddings
            self.sample = _random(size, self.model.max_positions())
        self.model.float().eval()
        lengths = list(map(len, self.sample.rows))
        self._batches = batches_by_length(lengths, CPU_TOKENS)
        self._expected: np.ndarray | None = None

    def check(
        self, file: Path | None, name: str, on_progress: Callable[[int, int], None]
    ) -> Checked:
        """Run a model over the rows; the first call is without a file, for the checkpoint."""
        if file is None:
            with torch.inference_mode(), packed(self.model, can_read(self.model, self.head)):
                logits, seconds = self._run(self._torch, on_progress)
            self._expected, size = logits, self.checkpoint.stat().st_size
        else:
            session = open_session(file, "cpu", torch.get_num_threads())
            logits, seconds = self._run(lambda tokens: run(session, tokens), on_progress)
            size = sum(path.stat().st_size for path in file.parent.glob(file.name + "*"))
        accuracy = interval = None
        if self.sample.targets is not None:
            correct = (logits.argmax(axis=1) == self.sample.targets).astype(np.int64)
            accuracy = 100 * float(correct.mean())
            ends = resample_sum(correct, _RESAMPLES, 0).interval
            interval = tuple(100 * end / len(correct) for end in ends)
        difference = None if file is None else float(np.abs(logits - self._expected).max())
        return Checked(name, size, difference, accuracy, interval, len(logits) / seconds)

    def _torch(self, tokens: np.ndarray) -> np.ndarray:
        inputs = torch.from_numpy(tokens)
        output, _ = self.model(inputs, features_only=True, classification_head_name=self.head)
        return output.numpy()

    def _run(
        self, model: Callable[[np.ndarray], np.ndarray], on_progress: Callable[[int, int], None]
    ) -> tuple[np.ndarray, float]:
        rows = self.sample.rows
        model(padded(rows[:1]))  # what happens once is not the model's speed
        found: list[np.ndarray] = []
        done, start = 0, time.perf_counter()
        for chosen in self._batches:
            found.append(model(padded([rows[index] for index in chosen])))
            done += len(chosen)
            on_progress(done, len(rows))
        seconds = time.perf_counter() - start
        logits = np.concatenate(found)
        order = np.argsort([index for chosen in self._batches for index in chosen])
        return logits[order], seconds


def _classifier(
    trained: Trained, told: Path | None, split: str | None
) -> tuple[Classifier, str] | None:
    """The checkpoint with a labelled split of its data; None where it is not there any more.

    Raises:
        FileNotFoundError, ValueError: the data that was told does not fit.
    """
    its_own = [trained.path.parent / "data", Path(str(trained.settings["task"].get("data")))]
    for data in [told] if told else its_own:
        chosen = split or (default_split(data) if (data / "input0").is_dir() else "")
        there = (data / "input0" / f"{chosen}.idx").is_file() and has_labels(data, chosen)
        try:
            if there:
                return load_classifier(trained.path, open_binarized(data, (chosen,))), chosen
        except (ValueError, OSError):  # that of another training, or damaged
            if told:
                raise
    return None


def _of_split(classifier: Classifier, split: str, limit: int) -> Sample:
    dataset = classifier.task.load_dataset(split)
    classifier.batches(split, "cpu")  # refuses rows that are too long
    total = len(dataset)
    count = min(total, limit or total)
    chosen = np.linspace(0, total - 1, count).round().astype(int).tolist()
    items = [dataset[index] for index in chosen]
    rows = [item["net_input.src_tokens"].numpy() for item in items]
    targets = np.array([int(item["target"]) for item in items])
    return Sample(f"{classifier.data.folder}, {split}", split, rows, targets, total)


def _random(size: int, longest: int) -> Sample:
    numbers = np.random.default_rng(0)
    first, last = len(SPECIAL_SYMBOLS), size - 1  # the last is <mask>
    rows = []
    for length in numbers.integers(3, min(longest, LONGEST_RANDOM) + 1, RANDOM_ROWS):
        inner = numbers.integers(first, last, length - 2)
        rows.append(np.array([BOS, *inner, EOS]))
    return Sample("random tokens", None, rows, None, RANDOM_ROWS)
