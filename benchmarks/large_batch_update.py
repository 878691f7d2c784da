"""One update of a large batch, in a process of its own: prints seconds and bytes.

    python -m benchmarks.large_batch_update WAY BATCH CHUNK TOKENS

Ways: ``whole`` (the batch at once), ``chunks`` (--scl-chunk-size), ``update-freq`` (as many small
batches one after another, each contrasted within itself) and ``sentence-transformers`` (its cached
loss, on a Hugging Face model of the same size). Forward, backward and Adam's step in float32 with
dropout 0.1, on the CPU. Memory is the most that the process held.
"""

import json
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.roberta import VOCABULARY, make_model, make_sample, make_task, make_words
from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig,
    SentencePredictionSCLCriterion,
)


def fairseq_step(batch: int, chunk: int, tokens: int, parts: int) -> Callable[[], None]:
    """An update by this package's criterion, of one batch or of parts one after another."""
    task = make_task()
    model = make_model(task)
    config = SentencePredictionSCLConfig(scl_chunk_size=chunk)
    criterion = SentencePredictionSCLCriterion(config, task)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    words, labels = make_words(batch, tokens), torch.arange(batch) % 2

    def step() -> None:
        optimizer.zero_grad()
        for part in zip(words.chunk(parts), labels.chunk(parts), strict=True):
            loss, _, _ = criterion(model, make_sample(*part))
            (loss / batch).backward()
        optimizer.step()

    return step


class FirstPosition(nn.Module):
    """A Hugging Face RoBERTa whose embedding is that of the first token."""

    def __init__(self) -> None:
        from transformers import RobertaConfig, RobertaModel

        super().__init__()
        config = RobertaConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        )
        self.encoder = RobertaModel(config, add_pooling_layer=False)

    def forward(self, features: dict, **_) -> dict:
        """What sentence-transformers asks a module for."""
        found = self.encoder(features["input_ids"], features["attention_mask"])
        return {**features, "sentence_embedding": found.last_hidden_state[:, 0]}


def sentence_transformers_step(batch: int, chunk: int, tokens: int) -> Callable[[], None]:
    """An update by the cached loss of sentence-transformers: as many sentences, in pairs."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    torch.manual_seed(0)
    model = SentenceTransformer(modules=[FirstPosition()], device="cpu").train()
    loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=chunk)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    pairs = [
        {"input_ids": part, "attention_mask": torch.ones_like(part)}
        for part in make_words(batch, tokens).chunk(2)
    ]

    def step() -> None:
        optimizer.zero_grad()
        loss(pairs, None).backward()
        optimizer.step()

    return step


def main(way: str, *numbers: str) -> None:
    """Measure one way."""
    batch, chunk, tokens = map(int, numbers)
    steps = {
        "whole": lambda: fairseq_step(batch, 0, tokens, 1),
        "chunks": lambda: fairseq_step(batch, chunk, tokens, 1),
        "update-freq": lambda: fairseq_step(batch, 0, tokens, batch // chunk),
        "sentence-transformers": lambda: sentence_transformers_step(batch, chunk, tokens),
    }
    step = steps[way]()
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}, allow_nan=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
