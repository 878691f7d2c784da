"""fairseq's hub interface for sentences, many at a time: labels with probabilities, and vectors.

``scl_fairseq.load`` is the way in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from fairseq.models.roberta import RobertaHubInterface
from fairseq.tasks.sentence_prediction import SentencePredictionTask
from torch import Tensor, nn

from scl_fairseq.batching import batches_by_length
from scl_fairseq.checkpoints.finite import is_finite, used
from scl_fairseq.checkpoints.head_training import DENSE, PROJECTION
from scl_fairseq.embeddings import CLS, EMBEDDINGS, MEAN
from scl_fairseq.inference.choices import DTYPES
from scl_fairseq.inference.evaluation import (
    can_read,
    check_outputs,
    tokens_for,
)
from scl_fairseq.inference.opening import Opened, open_checkpoint
from scl_fairseq.inference.predictions import Predictions
from scl_fairseq.models.mean_head import masked_mean
from scl_fairseq.models.packed_encoder import packed
from scl_fairseq.text.choices import has_separator
from scl_fairseq.text.dictionary import BOS, EOS
from scl_fairseq.text.sentences import SentenceEncoder, Sentences


class SentenceModel(RobertaHubInterface):
    """fairseq's hub interface of a checkpoint, which also takes sentences.

    Attributes:
        labels: label names in the order of the classifier's outputs; none without a classifier.
        num_inputs: sentences of an example in training, where that is known.
        sentence_columns: what they were called, where that is known.
        embedding: the vector of a sentence that was trained, which ``embed`` gives by default.
        trained_on: the folder of its training's data, which may be gone, where that is known.
        positions: tokens of the longest example.
        truncated: examples that the last call had to cut to these.
    """

    def __init__(self, opened: Opened):
        super().__init__(opened.cfg, opened.task, opened.model)
        self.labels = list(opened.text.labels)
        self.num_inputs = opened.text.num_inputs
        self.sentence_columns = opened.text.sentence_columns
        self.embedding = opened.embedding
        self.trained_on = opened.trained_on
        self.truncated = 0
        self._head, self._training = opened.head, opened.training
        settings = opened.task.cfg
        if isinstance(opened.task, SentencePredictionTask):
            init, separator = settings.init_token, settings.separator_token
        else:
            init, separator = BOS, EOS if has_separator(opened.text.bpe) else None
        self.positions = opened.model.max_positions()
        self._sentences = SentenceEncoder(opened.encoder, init, separator, self.positions)

    def predict(
        self,
        sentences: Sequence[Sentences] | str | None = None,
        tokens: Tensor | None = None,
        return_logits: bool = False,
        *,
        head: str | None = None,
        max_tokens: int | None = None,
    ) -> Predictions | Tensor:
        """Labels of sentences with probabilities; with ``tokens``, fairseq's own ``predict``.

        Args:
            sentences: each a sentence, or a tuple of one or two; fairseq's own: the head.
            tokens: fairseq's own: token ids, for which log-probabilities are returned.
            return_logits: fairseq's own: instead of log-probabilities.
            head: classification head, by default that of the training.
            max_tokens: examples times longest length of a batch.

        Raises:
            ValueError: the checkpoint has no such head, or it was never trained; the sentences are
                something else, or outputs are not finite.
        """
        if tokens is not None:
            name = head or sentences or self._head
            self._find_head(name, PROJECTION)
            return super().predict(name, tokens, return_logits)
        classifier = self._find_head(head, PROJECTION)
        if not self.labels:
            raise ValueError("the checkpoint has no labels: it is of a regression or an encoder")
        logits = self._run(
            sentences,
            lambda features, _: classifier(features),
            classifier.out_proj.out_features,
            can_read(self.model, head or self._head),
            max_tokens,
        )
        probabilities = torch.softmax(logits, dim=1)
        best = [self.labels[index] for index in probabilities.argmax(dim=1).tolist()]
        return Predictions(best, probabilities, list(self.labels))

    def embed(
        self,
        sentences: Sequence[Sentences],
        kind: str | None = None,
        *,
        max_tokens: int | None = None,
    ) -> Tensor:
        """Vectors of sentences, (N, C), float32, on the CPU.

        Args:
            sentences: each a sentence, or a tuple of one or two.
            kind: what ``--scl-embedding`` means by it: ``cls``, the last layer at ``<s>``;
                ``pooled``, what the head's last projection reads; ``mean``, the last layer's mean
                over all tokens. By default ``embedding``.
            max_tokens: examples times longest length of a batch.

        Raises:
            ValueError: there is no such kind, or no training has made it; the sentences are
                something else, or vectors are not finite.
        """
        kind = self.embedding if kind is None else kind
        if kind not in EMBEDDINGS:
            raise ValueError(f"embedding {kind!r}, expected one of {', '.join(EMBEDDINGS)}")
        width = self.model.encoder.sentence_encoder.embed_tokens.embedding_dim
        if kind == CLS:
            return self._run(sentences, _first, width, True, max_tokens)
        if kind == MEAN:
            return self._run(sentences, self._mean, width, False, max_tokens)
        head = self._find_head(None, DENSE)
        return self._run(
            sentences,
            lambda features, _: _input_of_projection(head, features),
            head.out_proj.in_features,
            can_read(self.model, self._head),
            max_tokens,
        )

    def _find_head(self, name: str | None, part: str) -> nn.Module:
        heads, name = self.model.classification_heads, name or self._head
        if name not in heads:
            raise ValueError(f"the checkpoint has no {name}: it is an encoder, not a classifier")
        self._training.require(name, part)
        return heads[name]

    def _mean(self, features: Tensor, tokens: Tensor) -> Tensor:
        return masked_mean(features, tokens.eq(self._padding))

    @property
    def _padding(self) -> int:
        return self.task.source_dictionary.pad()

    def _run(
        self,
        sentences: Sequence[Sentences],
        read: Callable[[Tensor, Tensor], Tensor],
        width: int,
        first_only: bool,
        max_tokens: int | None,
    ) -> Tensor:
        """``read`` of features (B, T, C) and tokens (B, T): (N, width), as the sentences come."""
        if isinstance(sentences, str):
            raise ValueError("expected a list of sentences, not one sentence")
        rows, self.truncated = self._sentences.encode(sentences)
        results = torch.empty(len(rows), width)
        if not rows:
            return results
        batches = batches_by_length(list(map(len, rows)), max_tokens or tokens_for(self.device))
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode(), packed(self.model, first_only):
                found = []
                for chosen in batches:
                    tokens = _padded([rows[index] for index in chosen], self._padding)
                    tokens = tokens.to(self.device)
                    features, _ = self.model(tokens, features_only=True)
                    found.append(read(features, tokens))
                results[[index for chosen in batches for index in chosen]] = (
                    torch.cat(found).float().cpu()
                )
        finally:
            self.train(was_training)
        check_outputs(results)
        return results


def load(
    path: str | Path,
    data_dir: str | Path | None = None,
    bpe: str | None = None,
    bpe_dir: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> SentenceModel:
    """Load a RoBERTa checkpoint, fine-tuned or converted, for sentences.

    Dictionary, BPE files and label names are those that are named; else those next to the
    checkpoint; else those of the data that it was trained on.

    Args:
        path: a checkpoint, or a folder with ``checkpoint_best.pt``, ``model.pt`` or
            ``checkpoint_last.pt``, in this order.
        data_dir: binarised data with the dictionaries of the training.
        bpe: ``gpt2``, ``wordpiece``, ``sentencepiece`` or ``fastbpe``.
        bpe_dir: the BPE's files.
        device: by default a GPU where there is one.
        dtype: ``fp32``, ``bf16`` or ``fp16``, or torch's; by default as trained.

    Raises:
        FileNotFoundError: the checkpoint, or something that it needs, is missing.
        ValueError: it is damaged, not safe to load, of another architecture, its weights are not
            finite, or what was found does not fit it. The message is one line.

    Example:
        >>> model = scl_fairseq.load("outputs/sst2/checkpoint_best.pt")
        >>> model.predict(["a fine film", "a bad film"]).labels
        ['1', '0']
    """
    place, precision = _device(device), _dtype(dtype)
    if precision == torch.float16 and place.type == "cpu":
        raise ValueError("fp16 needs a GPU; bf16 runs on a CPU as well")
    data, files = (Path(folder) if folder else None for folder in (data_dir, bpe_dir))
    hub = SentenceModel(open_checkpoint(Path(path), data, bpe, files)).eval()
    if precision is not None:
        hub.model.to(precision)
        _check_range(Path(path), hub, precision)
    return hub.to(place)


def _check_range(path: Path, hub: SentenceModel, dtype: torch.dtype) -> None:
    for name, tensor in used(hub.model.state_dict(), hub._head).items():
        if not is_finite(tensor):
            raise ValueError(
                f"{path}: {name} holds numbers that {str(dtype).removeprefix('torch.')} has not; "
                "take a wider --dtype"
            )


def _device(device: str | torch.device | None) -> torch.device:
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"device {device!r}, expected cpu, cuda or cuda:N") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {found}: there are {torch.cuda.device_count()} GPUs")
    return found


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None:
        return None
    known = {name: getattr(torch, full) for name, full in DTYPES.items()}
    if dtype in known.values():
        return dtype
    if dtype not in known:  # float64 is slower, and no more exact than the weights
        raise ValueError(f"dtype {dtype!r}, expected one of {', '.join(DTYPES)}")
    return known[dtype]


def _padded(rows: Sequence[np.ndarray], padding: int) -> Tensor:
    """(B, T), int64; the first row is the longest."""
    tokens = np.full((len(rows), len(rows[0])), padding, np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return torch.from_numpy(tokens)


def _first(features: Tensor, tokens: Tensor) -> Tensor:
    return features[:, 0]


def _input_of_projection(head: nn.Module, features: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = head.out_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        head(features)
    finally:
        hook.remove()
    return seen[0]
