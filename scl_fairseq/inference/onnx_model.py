"""A classifier that ``scl-convert --to onnx`` has written, run without torch by onnxruntime."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scl_fairseq.batching import batches_by_length
from scl_fairseq.inference.choices import ONNX_FILES
from scl_fairseq.inference.predictions import Predictions
from scl_fairseq.refusals import NotFiniteError, one_line
from scl_fairseq.text.bpe_files import BPE_DIR, find_files
from scl_fairseq.text.description import DICTIONARY, Description, check_file
from scl_fairseq.text.dictionary import PAD
from scl_fairseq.text.encodings import encoder_of
from scl_fairseq.text.sentences import SentenceEncoder, Sentences

ABOUT = "scl_fairseq"  # in the metadata of the file: the texts that it was trained with
NOT_INSTALLED = 'onnxruntime is missing: pip install ".[onnx]" in a clone of scl-fairseq'
IDS, MASK = "input_ids", "attention_mask"
CPU_TOKENS = 1024  # of a batch, padding included
_CPU, _GPU = "CPUExecutionProvider", "CUDAExecutionProvider"
_QUIET = 3  # errors alone


class OnnxModel:
    """A classifier for sentences.

    Attributes:
        labels: label names in the order of the outputs; none of a regression.
        num_inputs: sentences of an example in training, where that is known.
        sentence_columns: what they were called, where that is known.
        positions: tokens of the longest example.
        truncated: examples that the last call had to cut to these.
    """

    def __init__(self, path: Path, session: Any, about: Description, sentences: SentenceEncoder):
        self.labels = list(about.get("labels") or ())
        self.num_inputs = about.get("num_inputs")
        self.sentence_columns = tuple(about.get("sentence_columns") or ())
        self.positions = about["max_positions"]
        self.truncated = 0
        self._path, self._session, self._sentences = path, session, sentences

    def predict(
        self, sentences: Sequence[Sentences], *, max_tokens: int | None = None
    ) -> Predictions:
        """Labels of sentences with probabilities, as ``SentenceModel.predict`` gives them.

        Args:
            sentences: each a sentence, or a tuple of one or two.
            max_tokens: examples times longest length of a batch.

        Raises:
            ValueError: the model is of a regression, the sentences are something else, or outputs
                are not finite.
        """
        if not self.labels:
            raise ValueError(f"{self._path} has no labels: it is of a regression")
        rows, self.truncated = self._sentences.encode(sentences)
        logits = np.zeros((len(rows), len(self.labels)), np.float32)
        for chosen in batches_by_length(list(map(len, rows)), max_tokens or CPU_TOKENS):
            logits[chosen] = run(self._session, padded([rows[index] for index in chosen]))
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(broken):
            raise NotFiniteError(int(broken[0]))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        best = [self.labels[index] for index in probabilities.argmax(axis=1)]
        return Predictions(best, probabilities, list(self.labels))


def is_onnx(path: Path) -> bool:
    """Whether a path means an ONNX model: a file of that name, or a folder with one."""
    if path.is_dir():
        return any((path / name).is_file() for name in ONNX_FILES.values())
    return path.suffix == ".onnx"


def load(path: Path, bpe_dir: Path | None = None, device: str | None = None) -> OnnxModel:
    """Load a model with the files beside it.

    Args:
        path: a file, or a folder, of which the first of ``ONNX_FILES`` is taken.
        bpe_dir: where dictionary and BPE files are, if not beside it.
        device: ``cpu``, ``cuda`` or ``cuda:N``; by default a GPU where onnxruntime has it.

    Raises:
        FileNotFoundError: there is no such model, or a file that it needs is missing.
        ValueError: onnxruntime is missing; the model is damaged, not of ``scl-convert``, or a file
            is not its own; there is no such device.
    """
    path = _find(path)
    session = open_session(path, device)
    about = _about(path, session)
    folder = bpe_dir or path.parent / BPE_DIR
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}, with the tokens of {path}, is no folder")
    files = find_files(about["bpe"], folder)
    dictionary = folder / DICTIONARY
    if not dictionary.is_file():
        raise FileNotFoundError(f"{folder} has no {DICTIONARY}, which {path} needs")
    for name, file in {**files, DICTIONARY: dictionary}.items():
        check_file(name, file, about, path)
    encoder = encoder_of(about["bpe"], files, dictionary)
    tokens = about["init_token"], about["separator_token"]
    sentences = SentenceEncoder(encoder, *tokens, about["max_positions"])
    return OnnxModel(path, session, about, sentences)


def _find(path: Path) -> Path:
    if path.is_dir():
        for name in ONNX_FILES.values():
            if (path / name).is_file():
                return path / name
        names = " or ".join(ONNX_FILES.values())
        raise FileNotFoundError(f"{path} holds no {names}; scl-convert --to onnx makes them")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model")
    if path.suffix != ".onnx":
        raise ValueError(
            f"{path} is no .onnx file; scl-convert --to onnx makes one of a fairseq checkpoint"
        )
    return path


def open_session(path: Path, device: str | None = None, threads: int | None = None) -> Any:
    """The session of a file.

    Args:
        path: the file.
        device: as of :func:`load`.
        threads: of an operator; by default ``OMP_NUM_THREADS``, or as many as there are cores.

    Raises:
        ValueError: onnxruntime is missing or cannot read the file; there is no such device.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ValueError(NOT_INSTALLED) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    told = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(told) if told.isdigit() else 0)
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # of onnxruntime, which has no class of its own for them
        raise ValueError(f"{path} does not load: {one_line(error)}") from error


def _providers(device: str | None, available: Sequence[str]) -> list[Any]:
    kind, _, index = (device or ("cuda" if _GPU in available else "cpu")).partition(":")
    if kind == "cpu" and not index:
        return [_CPU]
    if kind != "cuda" or (index and not index.isdigit()):
        raise ValueError(f"device {device!r}, expected cpu, cuda or cuda:N")
    if _GPU not in available:
        raise ValueError(f"device {device}: this onnxruntime has no CUDA; onnxruntime-gpu has it")
    return [(_GPU, {"device_id": int(index or 0)}), _CPU]


def _about(path: Path, session: Any) -> Mapping[str, Any]:
    told = session.get_modelmeta().custom_metadata_map.get(ABOUT)
    if told is None:
        raise ValueError(
            f"{path} does not say which texts it was trained with: scl-convert --to onnx has not "
            "written it"
        )
    return json.loads(told)


def padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """(B, T), int64."""
    tokens = np.full((len(rows), max(map(len, rows))), PAD, np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return tokens


def run(session: Any, tokens: np.ndarray) -> np.ndarray:
    """Logits, (B, classes), of (B, T)."""
    mask = (tokens != PAD).astype(np.int64)
    return session.run(None, {IDS: tokens, MASK: mask})[0]
