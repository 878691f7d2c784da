"""Fine-tuned checkpoints through fairseq's hub interface: from raw sentences to labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

Sentences = tuple[str, ...]
DEFAULT_HEAD = "sentence_classification_head"


def load(checkpoint: Path, data_dir: Path, **overrides: str):
    """Load a checkpoint into fairseq's ``RobertaHubInterface``, in evaluation mode.

    Args:
        checkpoint: a file that ``fairseq-train`` wrote.
        data_dir: the binarised data it was trained on, for ``input0/dict.txt`` and
            ``label/dict.txt``.
        **overrides: settings to replace by name, e.g. ``bpe="gpt2"`` and ``gpt2_encoder_json=…``
            where training was not told its ``--bpe``.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        BrokenCheckpointError, pickle.UnpicklingError: it is damaged, or not safe to load.
    """
    from fairseq.models.roberta import RobertaModel

    if not checkpoint.is_file():
        raise FileNotFoundError(f"{checkpoint}: no such checkpoint")
    hub = RobertaModel.from_pretrained(
        str(checkpoint.parent), checkpoint.name, str(data_dir.resolve()), **overrides
    )
    return hub.eval()


def labels(hub) -> list[str]:
    """Label names in the order of the classifier's outputs."""
    dictionary = hub.task.label_dictionary
    # load_dictionary appends <mask> to the labels' dictionary as to any other.
    return [s for s in dictionary.symbols[dictionary.nspecial :] if s != "<mask>"]


@torch.no_grad()
def predict(
    hub, sentences: Sequence[Sentences], head: str = DEFAULT_HEAD, batch_size: int = 32
) -> Tensor:
    """Log-probabilities of the classes.

    Args:
        hub: from ``load``.
        sentences: raw text, one or two sentences an example.
        head: classification head.
        batch_size: examples that go through the encoder together.

    Returns:
        (N, num_classes), float32, on the CPU, in the order of ``sentences``.

    Raises:
        ValueError: an example is longer than the model's positions.
    """
    return _in_batches(hub, sentences, batch_size, lambda tokens: hub.predict(head, tokens))


@torch.no_grad()
def embed(hub, sentences: Sequence[Sentences], batch_size: int = 32) -> Tensor:
    """CLS vectors of the last layer, (N, C), float32, on the CPU; arguments as ``predict``."""
    return _in_batches(
        hub, sentences, batch_size, lambda tokens: hub.extract_features(tokens)[:, 0]
    )


def _in_batches(hub, sentences: Sequence[Sentences], batch_size: int, function) -> Tensor:
    # A checkpoint knows whether its pairs were joined by an extra </s>.
    no_separator = hub.task.cfg.separator_token is None
    encoded = [hub.encode(*parts, no_separator=no_separator) for parts in sentences]
    # Similar lengths together: most of a random batch would be padding.
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    padding = hub.task.source_dictionary.pad()
    results: list[Tensor | None] = [None] * len(encoded)
    for chosen in _chunks(order, batch_size):
        tokens = torch.nn.utils.rnn.pad_sequence(
            [encoded[i] for i in chosen], batch_first=True, padding_value=padding
        )
        for i, row in zip(chosen, function(tokens).float().cpu(), strict=True):
            results[i] = row
    return torch.stack(results)


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
