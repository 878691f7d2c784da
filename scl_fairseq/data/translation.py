"""fairseq translation models that sample, with their own tokenisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor

from scl_fairseq.data.keyed_sampling import KeyedSampling
from scl_fairseq.data.paraphrase import CUT, EMPTY, TOO_LONG, Outcome
from scl_fairseq.data.translation_choice import ModelChoice
from scl_fairseq.data.translation_loading import load_hub

# More words than this make a translation that has lost its sentence; the generator needs an end.
LENGTH_FACTOR, LENGTH_OFFSET = 2, 20
# With another vocabulary nearly every token is unknown; a few sentences prove nothing.
MANY_UNKNOWN, ENOUGH_TOKENS = 0.5, 50


class TranslationModel:
    """A translation model, or an ensemble, loaded as fairseq's hub loads it.

    Args:
        choice: folder or hub name, and the hub's own arguments.
        device: where it runs.
        fp16: in half precision; a GPU is needed.
        batch_tokens: sentences times longest length of a batch.

    Attributes:
        name: short, for the rows that it makes.
        source, target: languages, as its dictionaries are named.

    Raises:
        ValueError, FileNotFoundError: as ``load_hub``.
    """

    def __init__(
        self,
        choice: ModelChoice,
        device: torch.device,
        fp16: bool = False,
        batch_tokens: int = 4096,
    ):
        self._hub, self._where, self._about = load_hub(choice)
        self._about |= {"device": device.type, "fp16": fp16}
        self.name = choice.name
        self.source = self._hub.task.cfg.source_lang
        self.target = self._hub.task.cfg.target_lang
        self._hub.eval().to(device)
        if fp16:
            self._hub.half()
        self._batch_tokens = batch_tokens
        self._most_source, self._most_target = self._hub.max_positions[:2]
        self._seen = self._unknown = 0

    def describe(self) -> dict[str, Any]:
        """What decides its texts: names, checksums of the files, and what it computes in."""
        return self._about

    @torch.no_grad()
    def sample(
        self,
        sentences: Sequence[str],
        draws: Sequence[Callable[[], float]],
        temperature: float,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> list[Outcome]:
        """Translate by sampling; batches change the texts by rounding alone.

        Args:
            sentences: plain text.
            draws: for each sentence, what gives its random numbers, from 0 to below 1.
            temperature: by which the logits are divided.
            on_done: is told how many more sentences are done.

        Returns:
            For each sentence its translation; no text where it is empty, or the sentence too long.

        Raises:
            ValueError: most tokens are unknown to the vocabulary.
        """
        outcomes: list[Outcome] = [Outcome(None, EMPTY)] * len(sentences)
        encoded: dict[int, Tensor] = {}
        for index, sentence in enumerate(sentences):
            tokens = self._hub.encode(sentence)
            if len(tokens) > self._most_source:
                outcomes[index] = Outcome(None, TOO_LONG)
            elif len(tokens) > 1:  # more than </s>
                encoded[index] = tokens
        self._check_vocabulary(encoded.values())
        on_done(len(sentences) - len(encoded))
        for batch in self._batches(encoded):
            chosen = [draws[index] for index in batch]
            found = self._sample_batch([encoded[index] for index in batch], chosen, temperature)
            for index, outcome in zip(batch, found, strict=True):
                outcomes[index] = outcome
            on_done(len(batch))
        return outcomes

    def _batches(self, encoded: Mapping[int, Tensor]) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in sorted(encoded, key=lambda index: (len(encoded[index]), index)):
            if batch and len(encoded[index]) * (len(batch) + 1) > self._batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _sample_batch(
        self, sources: list[Tensor], draws: Sequence[Callable[[], float]], temperature: float
    ) -> list[Outcome]:
        hub = self._hub
        lengths = torch.tensor([len(tokens) for tokens in sources])
        most = self._most_target - 1
        limits = [min(LENGTH_FACTOR * len(s) + LENGTH_OFFSET, most) for s in sources]
        dataset = hub.task.build_dataset_for_inference(sources, lengths)
        batch = dataset.collater([dataset[index] for index in range(len(sources))])
        ids = batch["id"].tolist()
        generator = SequenceGenerator(
            hub.models,
            hub.tgt_dict,
            beam_size=1,
            max_len_b=max(limits),
            temperature=temperature,
            search_strategy=KeyedSampling(hub.tgt_dict, draws, limits),
        )
        found = generator.generate(hub.models, _moved(batch, hub.device))
        outcomes: dict[int, Outcome] = {}
        for index, (best, *_) in zip(ids, found, strict=True):
            tokens = best["tokens"]
            text = hub.decode(tokens.cpu()).strip()
            note = CUT if len(tokens) > limits[index] else ""
            outcomes[index] = Outcome(text, note) if text else Outcome(None, EMPTY)
        return [outcomes[index] for index in range(len(sources))]

    def _check_vocabulary(self, encoded: Iterable[Tensor]) -> None:
        unknown = self._hub.src_dict.unk()
        for tokens in encoded:
            self._seen += len(tokens) - 1
            self._unknown += int(tokens.eq(unknown).sum())
        if self._seen >= ENOUGH_TOKENS and self._unknown > MANY_UNKNOWN * self._seen:
            raise ValueError(
                f"{self._where}: dict.{self.source}.txt lacks {self._unknown / self._seen:.0%} of "
                "the tokens: tokenizer, bpe or its codes do not belong to this model's vocabulary"
            )


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return value
