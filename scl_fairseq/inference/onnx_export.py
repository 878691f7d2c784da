"""Write a classifier's checkpoint as ONNX models, and compare them with it before they go out."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scl_fairseq.checkpoints.card_facts import percent
from scl_fairseq.checkpoints.export import (
    CARD,
    CONFIG,
    FORMS,
    TOKENIZER_FILES,
    Options,
    labels_of,
    tokenizer_of,
)
from scl_fairseq.checkpoints.export_modules import dense_layers, write_json
from scl_fairseq.checkpoints.export_tokenizer import write_tokenizer
from scl_fairseq.checkpoints.export_weights import (
    CLASSIFIER,
    ENCODER,
    huggingface_config,
    huggingface_state,
)
from scl_fairseq.checkpoints.huggingface import check_sha256
from scl_fairseq.checkpoints.model_card import ONNX, model_card
from scl_fairseq.checkpoints.onnx_graph import HEAD, Network, build
from scl_fairseq.checkpoints.trained import Trained, read_trained
from scl_fairseq.checkpoints.weights import POSITIONS
from scl_fairseq.embeddings import CLS
from scl_fairseq.files import as_utf8, replaced_folder
from scl_fairseq.inference.choices import ONNX_FILES
from scl_fairseq.inference.onnx_check import TORCH_NAME, Checked, Reference, Sample
from scl_fairseq.inference.onnx_model import ABOUT, NOT_INSTALLED
from scl_fairseq.text.assets import TextFiles, find, find_checkpoint
from scl_fairseq.text.bpe_files import BPE_DIR, KEPT
from scl_fairseq.text.choices import SENTENCEPIECE
from scl_fairseq.text.description import DICTIONARY, fingerprint

if TYPE_CHECKING:
    import onnx

FP32, FP16, INT8 = ONNX_FILES
DATA = ".data"  # beside a model that is too large for one file
_MOST_BYTES = 2_000_000_000  # a file of ONNX can hold 2 GiB
_WRITTEN = frozenset(
    {CARD, CONFIG, *TOKENIZER_FILES, BPE_DIR, *ONNX_FILES.values()}
    | {name + DATA for name in ONNX_FILES.values()}
    | {f"{BPE_DIR}/{name}" for name in KEPT}
)


@dataclass(frozen=True)
class OnnxExport:
    """What :func:`export_onnx` wrote, and how each model did on which rows; torch is the first."""

    files: tuple[str, ...]
    labels: tuple[str, ...]
    sample: Sample
    checked: tuple[Checked, ...]
    notes: tuple[str, ...]


def export_onnx(
    checkpoint: Path,
    destination: Path,
    options: Options,
    precisions: Sequence[str] = tuple(ONNX_FILES),
    split: str | None = None,
    limit: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> OnnxExport:
    """Write a classifier, or a regression, for onnxruntime.

    Args:
        checkpoint: of fairseq's RoBERTa, whose head was trained; or its folder.
        destination: the folder; it appears whole or not at all. An earlier export there is
            replaced, any other folder that is not empty is not.
        options: what is not to be found next to the checkpoint.
        precisions: of ``ONNX_FILES``.
        split: of the data that the models are compared on.
        limit: rows of it at most; 0 takes all.
        on_progress: is told rows done and in all.

    Raises:
        ValueError, OSError: a package is missing; the checkpoint cannot be read, is no trained
            classifier, or cannot be computed so; a file that belongs to it is missing or does not
            fit. Nothing has been written then.
    """
    _require_packages()
    checkpoint = find_checkpoint(checkpoint)
    if options.expected_sha256 is not None:
        check_sha256((checkpoint,), options.expected_sha256)
    trained = read_trained(checkpoint)
    text = find(
        checkpoint, trained.text, trained.settings, options.data_dir, options.bpe, options.bpe_dir
    )
    layers = dense_layers(trained)
    trained.check_finite(False)
    labels = labels_of(trained, text, options)
    state = huggingface_state(trained, ENCODER, with_pooler=False)
    kind = "xlm-roberta" if text.bpe == SENTENCEPIECE else "roberta"
    config = huggingface_config(trained, CLASSIFIER, state, labels, kind)
    network = Network(
        state={name: tensor.numpy() for name, tensor in state.items()},
        head=[tuple(layer.tensors[f"linear.{p}"].numpy() for p in _PARTS) for layer in layers],
        head_activation=trained.arguments.pooler_activation_fn,
        pooling=trained.pooling,
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        activation=config["hidden_act"],
        eps=config["layer_norm_eps"],
    )
    tokenizer = tokenizer_of(trained, text, config["vocab_size"]) if text.bpe in FORMS else None
    about = _describe(trained, text, labels, len(state[POSITIONS]) - 2)
    with _quiet():
        reference = Reference(trained, options, split, limit)

    with replaced_folder(destination, is_ours=_is_ours) as folder:
        with _quiet():
            _write_models(folder, network, precisions, about)
        (folder / BPE_DIR).mkdir()
        for name, path in {**text.bpe_files, DICTIONARY: text.dictionary}.items():
            shutil.copyfile(path, folder / BPE_DIR / name)
        write_json(folder / CONFIG, config)
        if tokenizer:
            write_tokenizer(folder, tokenizer, about["max_positions"])
        models = {None: TORCH_NAME} | {ONNX_FILES[p]: f"onnx {p}" for p in precisions}
        checked = []
        for place, (file, name) in enumerate(models.items()):

            def advance(done: int, total: int, place: int = place) -> None:
                on_progress(place * total + done, len(models) * total)

            checked.append(reference.check(file and folder / file, name, advance))
        task = options.task or text.task
        title = destination.resolve().name
        card = model_card(
            trained,
            title,
            ONNX,
            CLASSIFIER,
            task,
            trained.pooling,
            labels,
            about["max_positions"],
            score_rows(checked, reference.sample),
        )
        (folder / CARD).write_bytes(as_utf8(card))
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    return OnnxExport(tuple(files), labels, reference.sample, tuple(checked), _notes(text, trained))


_PARTS = ("weight", "bias")


def score_rows(checked: Sequence[Checked], sample: Sample) -> dict[str, str]:
    """What a model card says of the comparison, by name."""
    rows = {}
    if sample.targets is not None:
        for one in checked:
            name = f"accuracy, {one.name}, {len(sample.rows)} rows of {sample.split}"
            rows[name] = percent(one.accuracy, one.interval)
    for one in checked[1:]:
        rows[f"largest difference of a logit, {one.name}"] = f"{one.difference:.2g}"
    return rows


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(NOT_INSTALLED.replace("onnxruntime", error.name or "onnx", 1)) from None


def _describe(
    trained: Trained, text: TextFiles, labels: Sequence[str], max_positions: int
) -> dict[str, Any]:
    """What the models say of their texts; the same as checkpoints do."""
    task = trained.settings["task"]
    files = {DICTIONARY: text.dictionary, **text.bpe_files}
    return {
        "task": text.task,
        "labels": list(labels),
        "sentence_columns": list(text.sentence_columns),
        "num_inputs": text.num_inputs,
        "bpe": text.bpe,
        "init_token": task.get("init_token"),
        "separator_token": task.get("separator_token"),
        "max_positions": max_positions,
        "sha256": {name: fingerprint(path) for name, path in files.items()},
    }


def _write_models(
    folder: Path, network: Network, precisions: Sequence[str], about: dict[str, Any]
) -> None:
    full = build(network)
    for precision in precisions:
        path = folder / ONNX_FILES[precision]
        if precision == INT8:
            _quantise(full, path, folder)
        else:
            _save(full if precision == FP32 else build(network, np.float16), path)
    import onnx

    for precision in precisions:  # after quantising, which drops it
        path = folder / ONNX_FILES[precision]
        model = onnx.load(path, load_external_data=False)
        told = json.dumps(about, ensure_ascii=False, allow_nan=False)
        onnx.helper.set_model_props(model, {ABOUT: told})
        path.write_bytes(model.SerializeToString())


def _save(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size < _MOST_BYTES:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=path.name + DATA)


def _quantise(full: onnx.ModelProto, path: Path, folder: Path) -> None:
    """Weights of 8 bits by channel; activations are measured as they come. The head stays."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = folder / "full.onnx"
    _save(full, source)
    quantize_dynamic(
        source,
        path,
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[node.name for node in full.graph.node if node.name.startswith(HEAD)],
        use_external_data_format=(folder / (source.name + DATA)).exists(),
    )
    for written in folder.glob(source.name + "*"):
        written.unlink()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what fairseq logs of its settings, and onnxruntime of each node."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _notes(text: TextFiles, trained: Trained) -> tuple[str, ...]:
    notes = []
    if text.bpe not in FORMS:
        notes.append(f"--bpe {text.bpe} has no tokenizer.json; scl-predict reads its own files.")
    if trained.pooling != CLS:
        notes.append(
            "The classifier reads the mean over tokens: config.json tells label names, and not how "
            "to build the model in transformers."
        )
    return tuple(notes)


def _is_ours(folder: Path) -> bool:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return names <= _WRITTEN and bool(names & set(ONNX_FILES.values()))
