"""One encoder on given batches, in a process of its own: prints seconds, as a line of JSON.

    python -m benchmarks.packed_contenders NAME SIZE BATCHES MEASURES [LAMBDA]

BATCHES (.npz) holds the sentences of each batch. MEASURES is a comma-separated choice of
``evaluation`` (a forward pass without gradients), ``gradients`` (forward and backward of a training
with dropout 0.1) and ``update`` (the same with Adam's step). Seconds are those of all batches but
the first; in float32 on a CPU, on a GPU in bf16 and by events.
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.device import WARM_UP, seconds
from benchmarks.roberta import HEAD, PAD, SIZES, VOCABULARY, make_model, make_sample, make_task

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Loss = Callable[[Tensor, Tensor], Tensor]  # of tokens (B, T) and labels (B,)


def fairseq(
    size: str, weight: float, is_packed: bool, model: nn.Module | None = None
) -> tuple[nn.Module, Loss, Callable]:
    """Its RoBERTa under this package's criterion, which computes stock CE for a weight of 0."""
    from scl_fairseq.criterions.sentence_prediction_scl import (
        SentencePredictionSCLConfig,
        SentencePredictionSCLCriterion,
    )
    from scl_fairseq.models.packed_encoder import packed

    task = make_task()
    model = make_model(task, size) if model is None else model
    config = SentencePredictionSCLConfig(scl_lambda=weight, scl_packed=is_packed)
    criterion = SentencePredictionSCLCriterion(config, task)

    def loss(tokens: Tensor, labels: Tensor) -> Tensor:
        return criterion(model, make_sample(tokens, labels))[0] / len(labels)

    def predict(tokens: Tensor) -> Tensor:
        if not is_packed:
            return model(tokens, classification_head_name=HEAD)[0]
        with packed(model, first_only=True):
            return model(tokens, classification_head_name=HEAD)[0]

    return model, loss, predict


def hugging_face(size: str, weight: float) -> tuple[nn.Module, Loss, Callable]:
    """Its RoBERTa of the same size, with CE."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    layers, width, inner, heads = SIZES[size]
    torch.manual_seed(0)
    model = RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            num_hidden_layers=layers,
            hidden_size=width,
            intermediate_size=inner,
            num_attention_heads=heads,
        )
    )

    def loss(tokens: Tensor, labels: Tensor) -> Tensor:
        return model(tokens, attention_mask=tokens.ne(PAD).long(), labels=labels).loss

    def predict(tokens: Tensor) -> Tensor:
        return model(tokens, attention_mask=tokens.ne(PAD).long()).logits

    return model, loss, predict


CONTENDERS: dict[str, Callable] = {
    "packed": lambda size, weight: fairseq(size, weight, True),
    "stock fairseq": lambda size, weight: fairseq(size, weight, False),
    "Hugging Face": hugging_face,
}


def timed(function: Callable[[], object]) -> float:
    """Seconds of a call."""
    return seconds(function, DEVICE)


def read_batches(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Tokens (B, T), padded, and labels of each batch."""
    batches = []
    with np.load(path) as file:
        for name in file.files:
            lengths, words = np.split(file[name], [1 + file[name][0]])
            rows = np.split(words, lengths[1:].cumsum())[:-1]
            tokens = nn.utils.rnn.pad_sequence(
                list(map(torch.from_numpy, rows)), batch_first=True, padding_value=PAD
            )
            labels = torch.arange(len(tokens)) % 2
            batches.append((tokens.to(DEVICE), labels.to(DEVICE)))
    return batches


class Contender:
    """One model with its optimizer, on its device.

    Args:
        model, loss, predict: as ``CONTENDERS`` make them.
        measures: of evaluation, gradients and update.
    """

    def __init__(self, model: nn.Module, loss: Loss, predict: Callable, measures: Sequence[str]):
        self._model = model.to(DEVICE)
        if DEVICE == "cuda":
            model.bfloat16()
        self._loss, self._predict, self._measures = loss, predict, measures
        self._optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

    def one_pass(self, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Seconds of each measure, added up over the batches."""
        took = dict.fromkeys(self._measures, 0.0)
        for tokens, labels in batches:
            if "evaluation" in took:
                self._model.eval()
                took["evaluation"] += timed(lambda tokens=tokens: self._evaluate(tokens))
            if {"gradients", "update"} & took.keys():
                self._train(took, tokens, labels)
        return took

    def _train(self, took: dict[str, float], tokens: Tensor, labels: Tensor) -> None:
        self._model.train()
        self._optimizer.zero_grad()
        gradients = timed(lambda: self._loss(tokens, labels).backward())
        step = timed(self._optimizer.step) if "update" in took else 0.0
        for measure, spent in (("gradients", gradients), ("update", gradients + step)):
            if measure in took:
                took[measure] += spent

    @torch.no_grad()
    def _evaluate(self, tokens: Tensor) -> None:
        self._predict(tokens)

    def medians(self, batches: Sequence[tuple[Tensor, Tensor]], times: int) -> dict[str, float]:
        """Medians of some passes, after passes that warm up: each batch has a shape of its own."""
        for _ in range(-(-WARM_UP[DEVICE] // len(batches))):
            self.one_pass(batches)
        found = [self.one_pass(batches) for _ in range(times)]
        return {name: statistics.median(one[name] for one in found) for name in found[0]}


def measured(name: str, size: str, path: str, measures: str, weight: str = "0") -> dict[str, float]:
    """What was measured of one."""
    contender = Contender(*CONTENDERS[name](size, float(weight)), measures.split(","))
    batches = read_batches(Path(path))
    if DEVICE == "cuda":
        return contender.medians(batches[1:], 3)
    contender.one_pass(batches[:1])  # on a CPU a pass over all would take minutes
    return contender.one_pass(batches[1:])


if __name__ == "__main__":
    print(json.dumps(measured(*sys.argv[1:]), allow_nan=False))
