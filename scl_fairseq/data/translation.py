"""fairseq translation models that sample, with their own tokenisation."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import tarfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fairseq import file_utils, hub_utils
from fairseq.data.encoders import BPE_REGISTRY, TOKENIZER_REGISTRY
from fairseq.models.transformer import TransformerModel
from fairseq.sequence_generator import SequenceGenerator
from omegaconf import OmegaConf
from torch import Tensor

from scl_fairseq.data.fast_bpe import check_codes
from scl_fairseq.data.keyed_sampling import KeyedSampling
from scl_fairseq.data.paraphrase import CUT, EMPTY, TOO_LONG, Outcome
from scl_fairseq.data.translation_choice import BOOLEANS, ModelChoice
from scl_fairseq.files import file_sha256

# More words than this make a translation that has lost its sentence; the generator needs an end.
LENGTH_FACTOR, LENGTH_OFFSET = 2, 20
# With another vocabulary nearly every token is unknown; a few sentences prove nothing.
MANY_UNKNOWN, ENOUGH_TOKENS = 0.5, 50
# Names under which hub_utils finds the files of a BPE in the model's folder.
_BPE_FILES = {
    "fastbpe": ("bpe_codes", ("bpecodes", "code")),
    "subword_nmt": ("bpe_codes", ("bpecodes", "code")),
    "sentencepiece": ("sentencepiece_model", ("sentencepiece.bpe.model",)),
}
# What fairseq raises for files that are no checkpoint, not safe, or do not fit.
_UNFIT = (
    RuntimeError,
    pickle.UnpicklingError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    AssertionError,
    EOFError,
    struct.error,
)
_LONGEST_SHOWN = 300


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
        FileNotFoundError: a checkpoint, a dictionary or a file of its BPE is missing.
        ValueError: the model is damaged, not safe to load, or does not fit its vocabulary; an
            argument is none of the hub's; a package is missing.
    """

    def __init__(
        self,
        choice: ModelChoice,
        device: torch.device,
        fp16: bool = False,
        batch_tokens: int = 4096,
    ):
        folder, arguments = _locate(choice)
        checkpoints = arguments.pop("checkpoint_file", "model.pt")
        files = [folder / name for name in checkpoints.split(os.pathsep)]
        _check_files(files, folder, arguments)
        loaded = _load(folder, checkpoints, arguments)
        task = loaded["task"]
        self.name = choice.name
        self.source = getattr(task.cfg, "source_lang", None)
        self.target = getattr(task.cfg, "target_lang", None)
        if not (self.source and self.target):
            raise ValueError(f"{folder} is of the task {type(task).__name__}, not a translation")
        try:
            with _standard_error_closed():
                self._hub = hub_utils.GeneratorHubInterface(loaded["args"], task, loaded["models"])
        except ImportError as error:
            raise ValueError(f'{error}, or pip install "scl-fairseq[backtranslation]"') from None
        except (OSError, *_UNFIT) as error:
            raise ValueError(
                f"{folder}: its tokenizer or bpe does not load: {_told(error)}"
            ) from error
        self._hub.eval().to(device)
        if fp16:
            self._hub.half()
        self._batch_tokens = batch_tokens
        self._most_source, self._most_target = self._hub.max_positions[:2]
        self._where = folder
        self._about = _describe(choice, self._hub, files)
        self._about |= {"device": device.type, "fp16": fp16}
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

    def _check_vocabulary(self, encoded) -> None:
        unknown = self._hub.src_dict.unk()
        for tokens in encoded:
            self._seen += len(tokens) - 1
            self._unknown += int(tokens.eq(unknown).sum())
        if self._seen >= ENOUGH_TOKENS and self._unknown > MANY_UNKNOWN * self._seen:
            raise ValueError(
                f"{self._where}: dict.{self.source}.txt lacks {self._unknown / self._seen:.0%} of "
                "the tokens: tokenizer, bpe or its codes do not belong to this model's vocabulary"
            )


def _locate(choice: ModelChoice) -> tuple[Path, dict[str, Any]]:
    """The model's folder, downloaded where a hub name is given, and the hub's arguments."""
    arguments = {
        key: value == "true" if key in BOOLEANS else value
        for key, value in choice.arguments.items()
    }
    if Path(choice.place).is_dir():
        return Path(choice.place), arguments
    known = TransformerModel.hub_models()
    if choice.place not in known:
        listed = ", ".join(name for name in known if "wmt18" in name or "wmt19" in name)
        raise FileNotFoundError(
            f"{choice.place}: neither a folder nor a name of fairseq's hub (such as {listed})"
        )
    entry = known[choice.place]
    entry = {"path": entry} if isinstance(entry, str) else dict(entry)
    url = entry.pop("path")
    try:
        place = file_utils.load_archive_file(url)
    except tarfile.TarError as error:
        # What a server says instead of an archive would otherwise stay in fairseq's cache.
        Path(file_utils.cached_path(url)).unlink()
        raise ValueError(
            f"{choice.place} could not be downloaded: {url} is no archive ({_told(error)})"
        ) from error
    except (OSError, ImportError, RuntimeError) as error:
        raise ValueError(f"{choice.place} could not be downloaded: {_told(error)}") from error
    if place is None:
        raise ValueError(
            f"{choice.place} could not be downloaded; with a copy at hand, name its folder instead"
        )
    return Path(place), {**entry, **arguments}


def _check_files(files: Sequence[Path], folder: Path, arguments: Mapping[str, Any]) -> None:
    for file in files:
        if not file.is_file():
            there = ", ".join(sorted(path.name for path in folder.glob("*.pt"))) or "none"
            raise FileNotFoundError(
                f"{file}: no such checkpoint (checkpoints there: {there}; name them by "
                "checkpoint_file=a.pt:b.pt)"
            )
    for kind, registry in (("tokenizer", TOKENIZER_REGISTRY), ("bpe", BPE_REGISTRY)):
        name = arguments.get(kind)
        if name is not None and name not in registry:
            raise ValueError(f"{kind}={name}: expected one of {', '.join(sorted(registry))}")
    option, names = _BPE_FILES.get(arguments.get("bpe"), (None, ()))
    if option is None:
        return
    inside = [folder / name for name in names if (folder / name).is_file()]
    if option not in arguments and not inside:
        raise FileNotFoundError(
            f"{folder} has no {' or '.join(names)}, which bpe={arguments['bpe']} needs; "
            f"{option}=FILE names it"
        )
    # hub_utils prefers what lies in the folder.
    used = inside[-1] if inside else Path(arguments[option])
    if arguments["bpe"] == "fastbpe":
        check_codes(used)
    elif not used.is_file():
        raise FileNotFoundError(f"{used} is not there")


def _load(folder: Path, checkpoints: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hydra, about how fairseq calls it
            return hub_utils.from_pretrained(
                str(folder), checkpoints, **{"data_name_or_path": ".", **arguments}
            )
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder}: {error.filename or error} is not there") from error
    except OSError as error:
        raise ValueError(f"{folder}: {_told(error)}") from error
    except _UNFIT as error:
        message = _told(error)
        if "size mismatch" in message and "embed_tokens" in message:
            raise ValueError(
                f"{folder}: the dictionaries there are not those of {checkpoints}: {message}"
            ) from error
        raise ValueError(
            message
            if str(folder) in message
            else f"{folder}: {checkpoints} does not load: {message}"
        ) from error


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Nothing is shown there: the C++ of fastBPE tells what it reads."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _told(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _describe(
    choice: ModelChoice, hub: hub_utils.GeneratorHubInterface, files: Sequence[Path]
) -> dict[str, Any]:
    found: dict[str, Any] = {"model": choice.name, "arguments": dict(choice.arguments)}
    for kind in ("tokenizer", "bpe"):
        options = getattr(hub.cfg, kind, None)
        values = OmegaConf.to_container(options) if OmegaConf.is_config(options) else options
        values = values if isinstance(values, dict) else {"_name": values}
        found[kind] = values.get("_name")
        for option in ("bpe_codes", "sentencepiece_model"):
            path = Path(str(values.get(option)))
            if path.is_file():
                found[f"{option}_sha256"] = file_sha256(path)
    found["checkpoints"] = {file.name: file_sha256(file) for file in files}
    for side, dictionary in (("source", hub.src_dict), ("target", hub.tgt_dict)):
        found[f"{side}_words"] = len(dictionary)
    return found


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return value
