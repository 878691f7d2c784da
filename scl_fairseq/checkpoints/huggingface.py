"""Turn a Hugging Face BERT, RoBERTa or XLM-R folder into one that fairseq fine-tunes from."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.architecture import Architecture, architecture_flags
from scl_fairseq.checkpoints.source_tokenizer import SENTENCE_PIECE
from scl_fairseq.checkpoints.tokenizer_proof import prove
from scl_fairseq.checkpoints.vocabulary import Vocabulary, read_vocabulary
from scl_fairseq.files import file_sha256, read_json, replaced_folder

__all__ = ["Conversion", "architecture_flags", "convert"]

logger = logging.getLogger(__name__)

CHECKPOINT = "model.pt"
WRITTEN = frozenset(
    {
        CHECKPOINT,
        "config.json",
        "dict.txt",
        "encoder.json",
        SENTENCE_PIECE,
        "tokenizer_config.json",
        "vocab.bpe",
        "vocab.txt",
    }
)
FAIRSEQ_LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` wrote.

    ``flags`` are those of :func:`architecture_flags`, ``parameters`` counts trainable numbers
    (tied ones once), ``bpe`` is the name for ``--bpe`` and ``notes`` says in sentences where the
    result differs from the source.
    """

    destination: Path
    files: tuple[str, ...]
    architecture: Architecture
    flags: tuple[str, ...]
    parameters: int
    bpe: str
    has_mlm_head: bool
    notes: tuple[str, ...]


def convert(
    source: str | Path, destination: str | Path, expected_sha256: str | None = None
) -> Conversion:
    """Write the fairseq form of a Hugging Face encoder.

    Args:
        source: a folder with ``config.json``, the weights (``model.safetensors``, its shards, or
            the older ``pytorch_model.bin``, in which nothing can run) and the vocabulary
            (``vocab.txt``; ``vocab.json`` and ``merges.txt``; ``tokenizer.json`` in place of
            these; or ``sentencepiece.bpe.model``).
        destination: the folder to write: ``model.pt``, ``dict.txt``, the source's
            ``config.json``, and ``vocab.txt`` with ``tokenizer_config.json`` (WordPiece),
            ``encoder.json`` with ``vocab.bpe`` (byte-level BPE) or ``sentencepiece.bpe.model``.
            It appears whole or not at all. An earlier conversion there is replaced; any other
            folder that is not empty is not.
        expected_sha256: refuse a file of weights with another hash.

    Returns:
        A summary. ``model.pt`` serves ``fairseq-train --restore-file`` and
        ``--finetune-from-model``, with ``flags``, and ``RobertaModel.from_pretrained``.

    Raises:
        ValueError: the source cannot be told in fairseq's terms, is incomplete or has another
            hash, or the destination is something else; nothing has been written then.
        OSError: reading or writing failed.
    """
    source, destination = Path(source).resolve(), Path(destination).resolve()
    _check_destination(source, destination)
    config = read_json(_require(source, "config.json"))
    architecture = Architecture.from_config(config)
    weights = _find_weights(source)
    if expected_sha256 is not None:
        check_sha256(weights, expected_sha256)
    vocabulary = read_vocabulary(source, config)
    checkpoint, has_mlm_head = _checkpoint(weights, architecture, vocabulary)

    files = {"dict.txt": vocabulary.dictionary, **vocabulary.files}
    files["config.json"] = (source / "config.json").read_text(encoding="utf-8")
    with replaced_folder(destination) as folder:
        import torch

        torch.save(checkpoint, folder / CHECKPOINT)
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode("utf-8")
            (folder / name).write_bytes(data)
        _, told = prove(vocabulary, folder, source)
    notes = (*_notes(architecture, has_mlm_head), *told)
    for note in notes:
        logger.info(note)
    return Conversion(
        destination=destination,
        files=tuple(sorted({CHECKPOINT, *files})),
        architecture=architecture,
        flags=tuple(architecture_flags(checkpoint["args"])),
        parameters=_count_parameters(checkpoint["model"]),
        bpe=vocabulary.bpe,
        has_mlm_head=has_mlm_head,
        notes=notes,
    )


def _checkpoint(
    weights: tuple[Path, ...], architecture: Architecture, vocabulary: Vocabulary
) -> tuple[dict[str, Any], bool]:
    from scl_fairseq.checkpoints.tensor_files import read_weights
    from scl_fairseq.checkpoints.weights import WORDS, bare_names, fairseq_state

    tensors = bare_names(read_weights(weights), architecture.family)
    sizes = {
        "config.json vocab_size": architecture.vocabulary_size,
        vocabulary.source: len(vocabulary.order),
    }
    if WORDS in tensors:
        sizes[WORDS] = len(tensors[WORDS])
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"vocabulary sizes differ: {listed}")
    state, has_mlm_head = fairseq_state(tensors, architecture, vocabulary.order)
    checkpoint = {
        "args": architecture.namespace(),
        "model": state,
        "optimizer_history": [
            {
                "criterion_name": "MaskedLmLoss",
                "optimizer_name": "FairseqAdam",
                "lr_scheduler_state": {},
                "num_updates": 0,
            }
        ],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
    }
    return checkpoint, has_mlm_head


def _notes(architecture: Architecture, has_mlm_head: bool) -> tuple[str, ...]:
    notes = []
    if not has_mlm_head:
        notes.append(
            "The source has no masked-language-model head. fairseq requires one, so model.pt "
            "holds an untrained one (fixed seed); fine-tuning a classifier does not use it, the "
            "first stage of infocse trains it."
        )
    elif architecture.family == "roberta" and architecture.activation_fn != "gelu":
        notes.append(
            "RoBERTa's masked-language-model head uses gelu whatever the encoder uses; fairseq's "
            f"follows the encoder ({architecture.activation_fn}), so its predictions differ."
        )
    if architecture.layer_norm_eps != FAIRSEQ_LAYER_NORM_EPS:
        notes.append(
            f"The source's layer norms use eps {architecture.layer_norm_eps:g}, fairseq's "
            f"{FAIRSEQ_LAYER_NORM_EPS:g}: hidden states differ slightly."
        )
    return tuple(notes)


def _count_parameters(state: dict[str, Any]) -> int:
    tied = {"encoder.lm_head.weight", "encoder.sentence_encoder.version"}
    return sum(tensor.numel() for name, tensor in state.items() if name not in tied)


def _require(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ValueError(f"{folder} holds no {name}")
    return folder / name


def _find_weights(folder: Path) -> tuple[Path, ...]:
    from scl_fairseq.checkpoints.tensor_files import find_weights

    return find_weights(folder)


def check_sha256(paths: tuple[Path, ...], expected: str) -> None:
    """Compare the hash of a single file.

    Raises:
        ValueError: it is another, or there are several files.
    """
    if len(paths) > 1:
        raise ValueError(f"{paths[0]}: the weights are in several files, which have no one sha256")
    found = file_sha256(paths[0])
    if found != expected.strip().lower():
        raise ValueError(f"{paths[0]} has sha256 {found}, expected {expected}")


def _check_destination(source: Path, destination: Path) -> None:
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder")
    if destination == source or destination in source.parents:
        raise ValueError(f"{destination} holds the source and is not replaced")
    if not destination.exists():
        return
    if not destination.is_dir():
        raise ValueError(f"{destination} exists and is not a folder")
    names = {path.name for path in destination.iterdir()}
    foreign = sorted(names - WRITTEN)
    if names and (CHECKPOINT not in names or foreign):
        reason = f"holds {foreign[0]}" if foreign else f"holds no {CHECKPOINT}"
        raise ValueError(f"{destination} is not an earlier conversion ({reason}); not replaced")
