"""Turn a Hugging Face BERT, RoBERTa or XLM-R folder into one that fairseq fine-tunes from."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.architecture import Architecture, architecture_flags
from scl_fairseq.checkpoints.conversion_notes import (
    ON_PAIRS,
    differences,
    left_out,
    on_pooling,
    reads_pairs_alike,
)
from scl_fairseq.checkpoints.converted import (
    POOLING_FILE,
    checkpoint,
    count_parameters,
    describe,
    told_pooling,
)
from scl_fairseq.checkpoints.source_card import read_source_card
from scl_fairseq.checkpoints.source_head import SourceHead, read_head, read_layers
from scl_fairseq.checkpoints.source_modules import read_modules
from scl_fairseq.checkpoints.source_tokenizer import SENTENCE_PIECE
from scl_fairseq.checkpoints.tokenizer_proof import prove
from scl_fairseq.checkpoints.vocabulary import Vocabulary, read_vocabulary
from scl_fairseq.embeddings import CLS
from scl_fairseq.files import file_sha256, read_json, replaced_folder
from scl_fairseq.text.bpe_files import fairseq_options
from scl_fairseq.text.description import INPUT, LABELS, TEXT, write_description

__all__ = ["Conversion", "architecture_flags", "convert"]

logger = logging.getLogger(__name__)

CHECKPOINT = "model.pt"
WRITTEN = frozenset(
    {
        CHECKPOINT,
        "config.json",
        "dict.txt",
        "encoder.json",
        "input0",
        "label",
        POOLING_FILE,
        SENTENCE_PIECE,
        "text.json",
        "tokenizer_config.json",
        "vocab.bpe",
        "vocab.txt",
    }
)


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` wrote.

    ``flags`` are those of :func:`architecture_flags`, ``parameters`` counts trainable numbers
    (tied ones once), ``bpe`` is the name for ``--bpe``, ``bpe_options`` are fairseq's for it,
    ``head`` is the classifier's, ``pooling`` is what a head on this encoder is to read (``cls`` or
    ``mean``), ``pooling_file`` is the source's file that says so, None where none does, and
    ``notes`` says in sentences where the result differs from the source.
    """

    destination: Path
    files: tuple[str, ...]
    architecture: Architecture
    flags: tuple[str, ...]
    parameters: int
    bpe: str
    bpe_options: Mapping[str, str]
    has_mlm_head: bool
    head: SourceHead | None
    pooling: str
    pooling_file: str | None
    notes: tuple[str, ...]


def convert(
    source: str | Path, destination: str | Path, expected_sha256: str | None = None
) -> Conversion:
    """Write the fairseq form of a Hugging Face encoder, or of a classifier.

    Args:
        source: a folder with ``config.json``, the weights (``model.safetensors``, its shards, or
            the older ``pytorch_model.bin``, in which nothing can run) and the vocabulary
            (``vocab.txt``; ``vocab.json`` and ``merges.txt``; ``tokenizer.json`` in place of
            these; or ``sentencepiece.bpe.model``). ``modules.json`` of sentence-transformers says
            in which sub-folder they are, and the pooling.
        destination: the folder to write: ``model.pt``, ``dict.txt``, the source's
            ``config.json``, and ``vocab.txt`` with ``tokenizer_config.json`` (WordPiece),
            ``encoder.json`` with ``vocab.bpe`` (byte-level BPE) or ``sentencepiece.bpe.model``.
            A classifier's folder is one of a training's: see ``checkpoints.companions``. A pooling
            that was told is in ``pooling.json`` and in ``model.pt``.
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
    modules = read_modules(source)
    if not (source / "config.json").is_file() and (source / TEXT).is_file():
        raise ValueError(f"{source} is of fairseq's checkpoints: --to says what to make of them")
    folder_of_card, source = source, modules.encoder
    config = read_json(_require(source, "config.json"))
    architecture = Architecture.from_config(config)
    weights = _find_weights(source)
    if expected_sha256 is not None:
        check_sha256(weights, expected_sha256)
    vocabulary = read_vocabulary(source, config)
    tensors = _tensors(weights, architecture, vocabulary)
    head = read_layers(config, modules, tensors, architecture.family) or read_head(
        config, tensors, architecture.family
    )
    pooling = head.pooling if head else modules.pooling or CLS
    state, has_mlm_head = _state(weights[0], tensors, architecture, vocabulary, head)

    files = {"dict.txt": vocabulary.dictionary, **vocabulary.files}
    if head:
        files[INPUT] = vocabulary.dictionary
    if head and head.labels:
        files[LABELS] = "".join(f"{label} 1\n" for label in head.labels)
    more = {"config.json": (source / "config.json").read_text(encoding="utf-8")}
    if modules.pooling:
        more[POOLING_FILE] = told_pooling(pooling, modules)
    with replaced_folder(destination) as folder:
        import torch

        for name, content in {**files, **more}.items():
            data = content if isinstance(content, bytes) else content.encode("utf-8")
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        separators, told = prove(vocabulary, folder, source)
        text = None
        if head:
            pairs_are_known = reads_pairs_alike(tensors, architecture)
            text = describe(folder, files, vocabulary, architecture, head, separators)
            text["num_inputs"] = None if pairs_are_known else 1
            write_description(folder, text)
            more[TEXT] = ""
            told += () if pairs_are_known else (ON_PAIRS,)
        arguments = architecture.namespace(head, separators)
        told_in = pooling if modules.pooling else None
        whose = read_source_card(folder_of_card)
        torch.save(checkpoint(arguments, state, text, told_in, whose), folder / CHECKPOINT)
    notes = (
        *differences(architecture, has_mlm_head, head),
        *left_out(tensors, head),
        *modules.notes,
        *on_pooling(modules, head),
        *told,
    )
    for note in notes:
        logger.info(note)
    at = {name: destination / name for name in vocabulary.files}
    return Conversion(
        destination=destination,
        files=tuple(sorted({CHECKPOINT, *files, *more})),
        architecture=architecture,
        flags=tuple(architecture_flags(arguments)),
        parameters=count_parameters(state),
        bpe=vocabulary.bpe,
        bpe_options=fairseq_options(vocabulary.bpe, at),
        has_mlm_head=has_mlm_head,
        head=head,
        pooling=pooling,
        pooling_file=modules.told_by,
        notes=notes,
    )


def _tensors(
    weights: tuple[Path, ...], architecture: Architecture, vocabulary: Vocabulary
) -> dict[str, Any]:
    from scl_fairseq.checkpoints.tensor_files import read_weights
    from scl_fairseq.checkpoints.weights import WORDS, bare_names

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
    return tensors


def _state(
    path: Path,
    tensors: dict[str, Any],
    architecture: Architecture,
    vocabulary: Vocabulary,
    head: SourceHead | None,
) -> tuple[dict[str, Any], bool]:
    from scl_fairseq.checkpoints.finite import check_finite
    from scl_fairseq.checkpoints.weights import fairseq_state

    state, has_mlm_head = fairseq_state(tensors, architecture, vocabulary.order, head)
    check_finite(path, state)
    return state, has_mlm_head


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
