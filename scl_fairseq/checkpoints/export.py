"""Write a fairseq checkpoint as a folder for ``transformers`` or sentence-transformers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scl_fairseq.checkpoints.export_modules import (
    MODULE_FILES,
    Modules,
    dense_layers,
    pooling_of,
    write_json,
    write_modules,
)
from scl_fairseq.checkpoints.export_tokenizer import (
    build_tokenizer,
    read_symbols,
    write_tokenizer,
)
from scl_fairseq.checkpoints.export_weights import (
    CLASSIFIER,
    ENCODER,
    MASKED_LM,
    form_of,
    huggingface_config,
    huggingface_state,
)
from scl_fairseq.checkpoints.huggingface import check_sha256
from scl_fairseq.checkpoints.model_card import model_card
from scl_fairseq.checkpoints.source_tokenizer import SENTENCE_PIECE
from scl_fairseq.checkpoints.trained import Trained, read_trained
from scl_fairseq.files import as_utf8, replaced_folder
from scl_fairseq.text.assets import TextFiles, find, find_checkpoint
from scl_fairseq.text.bpe_files import needed_files
from scl_fairseq.text.choices import GPT2, SENTENCEPIECE, WORDPIECE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HUGGINGFACE, SENTENCE_TRANSFORMERS = "huggingface", "sentence-transformers"
FORMS = (GPT2, WORDPIECE, SENTENCEPIECE)  # the encodings that transformers has too
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
WRITTEN = frozenset({WEIGHTS, CONFIG, CARD, SENTENCE_PIECE, *TOKENIZER_FILES, *MODULE_FILES})


@dataclass(frozen=True)
class Options:
    """What there is to choose.

    Attributes:
        data_dir: binarised data, for the dictionaries.
        bpe, bpe_dir: the encoding and its files.
        task, labels: a task's name and its labels, the lowest index first.
        pooling: for sentence-transformers, ``cls`` or ``mean``; None for what the checkpoint's
            head reads, or where it has none, what its training contrasted.
        normalize: there, make each vector of length 1.
        with_head: there, add the classifier, so that its logits are what ``encode`` gives.
        expected_sha256: refuse a checkpoint with another hash.
    """

    data_dir: Path | None = None
    bpe: str | None = None
    bpe_dir: Path | None = None
    task: str | None = None
    labels: Sequence[str] | None = None
    pooling: str | None = None
    normalize: bool = False
    with_head: bool = False
    expected_sha256: str | None = None


@dataclass(frozen=True)
class Export:
    """What :func:`export` wrote.

    ``config`` is that of ``config.json``, ``pooling`` is None but for sentence-transformers.
    """

    destination: Path
    files: tuple[str, ...]
    config: dict[str, Any]
    parameters: int
    bpe: str
    max_positions: int
    pooling: str | None
    notes: tuple[str, ...]


def export(checkpoint: Path, destination: Path, target: str, options: Options) -> Export:
    """Write a checkpoint in a form that needs no fairseq.

    Args:
        checkpoint: of fairseq's RoBERTa: fine-tuned, or a converted ``model.pt``; or its folder.
        destination: the folder; it appears whole or not at all. An earlier export there is
            replaced, any other folder that is not empty is not.
        target: ``huggingface``: a classifier, or where the checkpoint has none, a masked language
            model, or without a trained head for that the encoder alone;
            ``sentence-transformers``: the encoder and how it is pooled; the classifier on demand.
        options: what is not to be found next to the checkpoint.

    Raises:
        ValueError, OSError: the checkpoint cannot be read or told in transformers' terms, its
            classifier was never trained, its weights are not finite, or a file that belongs to it
            is missing or does not fit; nothing has been written then.
    """
    checkpoint = find_checkpoint(checkpoint)
    if options.expected_sha256 is not None:
        check_sha256((checkpoint,), options.expected_sha256)
    trained = read_trained(checkpoint)
    text = find(
        checkpoint,
        trained.text,
        trained.settings,
        options.data_dir,
        options.bpe,
        options.bpe_dir,
    )
    if text.bpe not in FORMS:
        raise ValueError(f"--bpe {text.bpe} has no form in transformers; has: {', '.join(FORMS)}")
    form = form_of(trained) if target == HUGGINGFACE else ENCODER
    with_head = form == CLASSIFIER or options.with_head
    pooling, layers = None, ()
    if target == SENTENCE_TRANSFORMERS:
        pooling = pooling_of(trained, options.pooling, options.with_head)
        layers = dense_layers(trained) if options.with_head else ()
    trained.check_finite(form == MASKED_LM)
    state = huggingface_state(trained, form, with_pooler=not layers)
    labels = labels_of(trained, text, options) if with_head else None
    kind = "xlm-roberta" if text.bpe == SENTENCEPIECE else "roberta"
    config = huggingface_config(trained, form, state, labels, kind)

    tokenizer = tokenizer_of(trained, text, config["vocab_size"])
    max_positions = config["max_position_embeddings"] - 2
    name, task = destination.resolve().name, options.task or text.task
    card = model_card(trained, name, target, form, task, pooling, labels, max_positions)

    with replaced_folder(destination, is_ours=_is_ours) as folder:
        from safetensors.torch import save_file

        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        write_json(folder / CONFIG, config)
        write_tokenizer(folder, tokenizer, max_positions)
        if text.bpe == SENTENCEPIECE:  # by which the way back leads
            shutil.copyfile(text.bpe_files[SENTENCE_PIECE], folder / SENTENCE_PIECE)
        (folder / CARD).write_bytes(as_utf8(card))
        if target == SENTENCE_TRANSFORMERS:
            modules = Modules(pooling, options.normalize, layers)
            write_modules(folder, modules, state, max_positions)
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    return Export(
        destination=destination,
        files=tuple(files),
        config=config,
        parameters=sum(tensor.numel() for tensor in state.values())
        + sum(tensor.numel() for layer in layers for tensor in layer.tensors.values()),
        bpe=text.bpe,
        max_positions=max_positions,
        pooling=pooling,
        notes=_notes(form, target, trained),
    )


def tokenizer_of(trained: Trained, text: TextFiles, size: int) -> Tokenizer:
    """What makes a model's ids of texts, without fairseq.

    Args:
        trained: the checkpoint.
        text: its files.
        size: of its vocabulary.

    Raises:
        ValueError: they are of another model, or have no such form.
    """
    symbols = read_symbols(text.dictionary)
    if len(symbols) != size:
        raise ValueError(
            f"{text.dictionary} makes {len(symbols)} tokens, <mask> included, and "
            f"{trained.path} has {size}: it is not the dictionary of this model"
        )
    files = [text.bpe_files[name] for name in needed_files(text.bpe)]
    return build_tokenizer(text.bpe, files, symbols, trained.separators(text.bpe))


def labels_of(trained: Trained, text: TextFiles, options: Options) -> tuple[str, ...]:
    """Names of the classifier's outputs, in their order; none of a regression.

    Raises:
        ValueError: nothing names them, or what does contradicts itself or the classifier.
    """
    if trained.is_regression:
        return ()
    named = tuple(options.labels or ())
    if text.labels:
        found, where = text.labels, str(text.label_dictionary or trained.path)
    elif named:
        found, where = named, f"--task {options.task}"
    else:
        raise ValueError(
            f"no label names for {trained.path}: --data-dir names the binarised data with "
            "label/dict.txt, --task a task of known labels"
        )
    if named and named != found:
        raise ValueError(
            f"--task {options.task} has the labels {', '.join(named)}, {where} has "
            f"{', '.join(found)}"
        )
    outputs = trained.outputs
    if len(found) != outputs:
        raise ValueError(
            f"{where} has {len(found)} labels ({', '.join(found)}), and the head of "
            f"{trained.path} {outputs} outputs"
        )
    return found


def _notes(form: str, target: str, trained: Trained) -> tuple[str, ...]:
    notes = []
    if form == ENCODER and target == HUGGINGFACE:
        notes.append("The checkpoint has no trained head; the folder holds the encoder alone.")
    if form == MASKED_LM and trained.arguments.activation_fn != "gelu":
        notes.append(
            "transformers' masked-language-model head uses gelu whatever the encoder uses; "
            f"fairseq's follows the encoder ({trained.arguments.activation_fn}), so its "
            "predictions differ."
        )
    others = {
        name.split(".")[1] for name in trained.tensors if name.startswith("classification_heads.")
    } - {trained.head}
    if others:
        notes.append(f"Left out, with no place there: the heads {', '.join(sorted(others))}.")
    return tuple(notes)


def _is_ours(folder: Path) -> bool:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {WEIGHTS, CONFIG} <= names <= WRITTEN
