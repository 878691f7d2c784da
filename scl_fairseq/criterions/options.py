"""Options of the contrastive term, the same for each criterion that has one."""

# No postponed annotations here: fairseq and omegaconf read the field types of the config as types.
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from scl_fairseq.embeddings import CLS, CONTRASTED, EMBEDDINGS, HEAD, POOLINGS
from scl_fairseq.losses.precision import (
    FLOAT32,
    KERNELS,
    PRODUCTS,
    Arithmetic,
    check_arithmetic,
)
from scl_fairseq.losses.supervised_contrastive import check_temperature


@dataclass
class ContrastConfig(FairseqDataclass):
    """What is contrasted with what, and how that is computed."""

    scl_temperature: float = field(
        default=0.3,
        metadata={"help": "temperature tau of the contrastive term, greater than 0"},
    )
    head_pooling: ChoiceEnum(list(POOLINGS)) = field(
        default=CLS,
        metadata={
            "help": "what the classification head reads of the last layer: cls, or the mean over "
            "the positions that are not padding, which encoders trained as sentence-transformers "
            "are made for"
        },
    )
    scl_embedding: ChoiceEnum([HEAD, *EMBEDDINGS]) = field(
        default=HEAD,
        metadata={
            "help": "sentence embedding to contrast: head (what the head reads, see "
            "--head-pooling), cls, pooled (what its output projection reads) or mean (over the "
            "positions that are not padding)"
        },
    )
    scl_products: ChoiceEnum(list(PRODUCTS)) = field(
        default=FLOAT32,
        metadata={
            "help": "precision of the products that similarities are, which all add up in float32: "
            "float32 (also where TF32 is allowed), tf32 (on a GPU) or bf16"
        },
    )
    scl_kernel: ChoiceEnum(list(KERNELS)) = field(
        default=KERNELS[0],
        metadata={
            "help": "what computes the similarities of large batches on a GPU: torch, triton, or "
            "auto: Triton's kernel on cards where it was measured to be faster, otherwise torch"
        },
    )
    scl_gather: ChoiceEnum(["all", "none"]) = field(
        default="all",
        metadata={
            "help": "in training, contrast a sentence with those of all workers, or with none but "
            "its own worker's"
        },
    )
    scl_chunk_size: int = field(
        default=0,
        metadata={
            "help": "sentences that go through the model at a time in training, for batches that "
            "memory does not hold; the loss sees the whole batch, backward computes each chunk's "
            "activations again; 0: all at once"
        },
    )
    scl_packed: bool = field(
        default=False,
        metadata={
            "help": "compute no padding, in training and validation: the same function on the "
            "tokens that there are, several times as fast where lengths differ; RoBERTa models "
            "only; the checkpoint is the same"
        },
    )
    scl_queue_size: int = field(
        default=0,
        metadata={
            "help": "in training, contrast a sentence also with so many keys of earlier batches "
            "(MoCo's queue), which get no gradient; 0: no queue"
        },
    )
    scl_momentum: float = field(
        default=0.0,
        metadata={
            "help": "keys of the queue come from a copy of the model that follows it by this "
            "momentum, 0 <= m < 1; 0: keys are the embeddings that training computes anyway"
        },
    )
    scl_diagnostics: bool = field(
        default=False,
        metadata={
            "help": "log how the embeddings lie, in training and validation: in_class_cosine, "
            "between_class_cosine, alignment, uniformity and anchors_with_positive (percent of "
            "examples with another of their class in the batch); uniformity alone for regression"
        },
    )


def embedding_of(cfg: ContrastConfig) -> str:
    """The sentence embedding that is contrasted: ``cls``, ``pooled`` or ``mean``."""
    kind = str(cfg.scl_embedding)
    return str(cfg.head_pooling) if kind == HEAD else kind


def arithmetic_of(cfg: ContrastConfig) -> Arithmetic:
    """How similarities are computed."""
    return Arithmetic(str(cfg.scl_products), str(cfg.scl_kernel))


def check_contrasted(state: Mapping[str, Any], kind: str) -> None:
    """Refuse to resume, from the state of a checkpoint, a training that contrasted another one.

    Raises:
        ValueError: it did. Of older checkpoints it may not be known.
    """
    before = state.get(CONTRASTED, kind)
    if before != kind:
        raise ValueError(
            f"--scl-embedding is {kind}, with what --head-pooling makes of it, and the training "
            f"that is resumed contrasted {before}: give --scl-embedding {before}"
        )


def check_contrast(cfg: ContrastConfig) -> None:
    """Raise ``ValueError`` that names the option which is out of its range."""
    try:
        check_temperature(cfg.scl_temperature)
    except ValueError as error:
        raise ValueError(f"--scl-temperature: {error}") from None
    try:
        check_arithmetic(arithmetic_of(cfg))
    except ValueError as error:
        raise ValueError(f"--scl-{error}") from None
    if cfg.scl_chunk_size < 0:
        raise ValueError(f"--scl-chunk-size must be 0 or more, got {cfg.scl_chunk_size}")
    if cfg.scl_queue_size < 0:
        raise ValueError(f"--scl-queue-size must be 0 or more, got {cfg.scl_queue_size}")
    if not 0 <= cfg.scl_momentum < 1:  # also refuses NaN
        raise ValueError(
            f"--scl-momentum must be at least 0 and less than 1, got {cfg.scl_momentum}"
        )
    if cfg.scl_momentum > 0 and cfg.scl_queue_size == 0:
        raise ValueError("--scl-momentum makes the keys of a queue: it needs --scl-queue-size")
    if cfg.scl_queue_size > 0 and str(cfg.scl_gather) != "all":
        raise ValueError(
            "--scl-queue-size holds the keys of all workers: it needs --scl-gather all"
        )
