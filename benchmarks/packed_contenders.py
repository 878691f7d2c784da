"""One encoder on given batches, in a process of its own: prints seconds, as a line of JSON.

    python -m benchmarks.packed_contenders NAME SIZE BATCHES MEASURES [LAMBDA]

BATCHES (.npz) holds the sentences of each batch. MEASURES is a comma-separated choice of
``evaluation`` (a forward pass without gradients), ``gradients`` (forward and backward of a training
with dropout 0.1) and ``update`` (the same with Adam's step). Seconds are those of all batches but
the first; in float32 on a CPU, on a GPU in bf16 and by events.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.roberta import HEAD, PAD, SIZES, VOCABULARY, make_model, make_sample, make_task

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Loss = Callable[[Tensor, Tensor], Tensor]  # of tokens (B, T) and labels (B,)


def fairseq(size: str, weight: float, is_packed: bool) -> tuple[nn.Module, Loss, Callable]:
    """Its RoBERTa under this package's criterion, which computes stock CE for a weight of 0."""
    from scl_fairseq.criterions.sentence_prediction_scl import (
        SentencePredictionSCLConfig,
        SentencePredictionSCLCriterion,
    )
    from scl_fairseq.models.packed_encoder import packed

    task = make_task()
    model = make_model(task, size)
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
    if DEVICE == "cpu":
        started = time.perf_counter()
        function()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


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


def main(name: str, size: str, path: str, measures: str, weight: str = "0") -> None:
    """Measure, and tell the medians."""
    model, loss, predict = CONTENDERS[name](size, float(weight))
    model.to(DEVICE)
    if DEVICE == "cuda":
        model.bfloat16()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    batches = read_batches(Path(path))
    seconds: dict[str, list[float]] = {measure: [] for measure in measures.split(",")}

    @torch.no_grad()
    def evaluate(tokens: Tensor) -> None:
        predict(tokens)

    for index, (tokens, labels) in enumerate(batches):
        took = {}
        if "evaluation" in seconds:
            model.eval()
            took["evaluation"] = timed(lambda tokens=tokens: evaluate(tokens))
        if len(took) < len(seconds):
            model.train()
            optimizer.zero_grad()
            took["gradients"] = timed(
                lambda tokens=tokens, labels=labels: loss(tokens, labels).backward()
            )
            took["update"] = took["gradients"]
            if "update" in seconds:
                took["update"] += timed(optimizer.step)
        if index:
            for measure, found in seconds.items():
                found.append(took[measure])
    print(json.dumps({measure: sum(found) for measure, found in seconds.items()}, allow_nan=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
