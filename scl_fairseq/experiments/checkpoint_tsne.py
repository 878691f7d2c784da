"""t-SNE of a binarised split as fine-tuned checkpoints embed it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scl_fairseq.checkpoints.head_training import OF_ENCODERS
from scl_fairseq.data.binarized import default_split
from scl_fairseq.embeddings import CLS
from scl_fairseq.files import write_bytes
from scl_fairseq.inference.split_embeddings import SplitEmbeddings, embed_split
from scl_fairseq.text.assets import find_checkpoint
from scl_fairseq.text.description import REPORT, read_description

# What the classes 0 and 1 mean, where the data set does not say it in words.
MEANINGS = {
    "SST-2": ("negative", "positive"),
    "CoLA": ("unacceptable", "acceptable"),
    "MRPC": ("not equivalent", "equivalent"),
    "QQP": ("not duplicate", "duplicate"),
}


@dataclass(frozen=True)
class Panels:
    """What t-SNE is drawn of.

    Attributes:
        embeddings: panel title to (N, C) array, CE first.
        labels: (N,), class indices.
        class_names: in the order of the indices.
        title: says what is shown.
    """

    embeddings: Mapping[str, np.ndarray]
    labels: np.ndarray
    class_names: tuple[str, ...]
    title: str

    def save(self, path: Path) -> None:
        """Write the embeddings whole or not at all, for ``numpy.load``.

        The file holds ``labels`` (N,), ``class_names``, ``panels`` (their titles), and for panel i
        ``embeddings_i`` (N, C).
        """
        arrays = {f"embeddings_{i}": one for i, one in enumerate(self.embeddings.values())}
        content = io.BytesIO()
        np.savez(
            content,
            labels=self.labels,
            class_names=np.array(self.class_names),
            panels=np.array(list(self.embeddings)),
            **arrays,
        )
        write_bytes(path, content.getvalue())


def embed_panels(
    checkpoints: Sequence[Path],
    data_dir: Path,
    split: str | None = None,
    names: Sequence[str] = (),
    class_names: Sequence[str] = (),
) -> Panels:
    """Embed a split with each checkpoint.

    Args:
        checkpoints: files that ``fairseq-train`` wrote; those without SCL are put first.
        data_dir: binarised data that they all were trained with.
        split: as fairseq names it; by default test, or valid where test has no labels.
        names: of the panels, in the order of the checkpoints; by default the loss with lambda and
            tau, and the accuracy where a classifier was trained; and where two have the same loss,
            their files.
        class_names: by default those of the label dictionary, in words for some data sets.

    Raises:
        ValueError, OSError: a checkpoint, the data or the number of names is wrong.
    """
    if names and len(names) != len(checkpoints):
        raise ValueError(f"{len(names)} --names for {len(checkpoints)} checkpoints")
    if len(set(names)) < len(names):
        raise ValueError("two of the --names are the same")
    checkpoints = [find_checkpoint(path) for path in checkpoints]
    split = split or default_split(data_dir)
    embedded = [embed_split(checkpoint, data_dir, split) for checkpoint in checkpoints]
    titles = names or _titles(embedded, checkpoints)
    task = _task(data_dir)
    in_data = embedded[0].class_names
    if not class_names:
        class_names = MEANINGS.get(task, in_data) if in_data == ("0", "1") else in_data
    if len(class_names) != len(in_data):
        raise ValueError(f"{len(class_names)} --class-names for {len(in_data)} classes")
    pairs = sorted(zip(titles, embedded, strict=True), key=lambda pair: _loss(pair[1]) != "CE")
    kinds = " and ".join(sorted({"CLS" if one.kind == CLS else one.kind for one in embedded}))
    what = " ".join([kinds, "embeddings of", *([task] if task else []), split])
    return Panels(
        {title: one.vectors.numpy() for title, one in pairs},
        embedded[0].labels.numpy(),
        tuple(class_names),
        f"{what} examples",
    )


def _titles(embedded: Sequence[SplitEmbeddings], checkpoints: Sequence[Path]) -> list[str]:
    losses = [_loss(one) for one in embedded]
    titles = [
        f"{loss}, "
        + ("no classifier" if one.accuracy is None else f"accuracy {one.accuracy:.1f} %")
        for loss, one in zip(losses, embedded, strict=True)
    ]
    if len(set(losses)) < len(losses):
        places = [f"{path.parent.name}/{path.name}" for path in checkpoints]
        titles = [f"{title}\n{place}" for title, place in zip(titles, places, strict=True)]
    if len(set(titles)) < len(titles):
        raise ValueError("two panels would have the same title: tell them apart with --names")
    return titles


def _loss(one: SplitEmbeddings) -> str:
    if one.criterion in OF_ENCODERS:
        return one.criterion
    if not one.scl_lambda:
        return "CE"
    return f"CE+SCL (λ = {one.scl_lambda:g}, τ = {one.scl_temperature:g})"


def _task(data_dir: Path) -> str | None:
    """The task's name, where ``scl-preprocess`` has noted it."""
    return read_description(data_dir / REPORT).get("task")
