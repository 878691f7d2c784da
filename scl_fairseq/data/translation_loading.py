"""Translation models with their tokenisation, as fairseq's hub loads them, or refused."""

from __future__ import annotations

import os
import sys
import tarfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairseq import file_utils, hub_utils
from fairseq.data.encoders import BPE_REGISTRY, TOKENIZER_REGISTRY
from fairseq.models.transformer import TransformerModel
from omegaconf import OmegaConf

from scl_fairseq.data.translation_choice import BOOLEANS, FILES, ModelChoice
from scl_fairseq.files import file_sha256
from scl_fairseq.refusals import UNFIT, one_line
from scl_fairseq.text.fast_bpe import check_codes

# Names under which hub_utils finds the files of a BPE in the model's folder.
_BPE_FILES = {
    "fastbpe": ("bpe_codes", ("bpecodes", "code")),
    "subword_nmt": ("bpe_codes", ("bpecodes", "code")),
    "sentencepiece": ("sentencepiece_model", ("sentencepiece.bpe.model",)),
}


def load_hub(
    choice: ModelChoice,
) -> tuple[hub_utils.GeneratorHubInterface, Path, dict[str, Any]]:
    """Load a translation model with its tokenisation.

    Returns:
        fairseq's hub interface, the model's folder, and what describes it: names and checksums.

    Raises:
        FileNotFoundError: a checkpoint, a dictionary or a file of its BPE is missing.
        ValueError: the model is damaged, not safe to load, or does not fit its vocabulary; an
            argument is none of the hub's; a package is missing.
    """
    folder, arguments = _locate(choice)
    checkpoints = arguments.pop("checkpoint_file", "model.pt")
    files = [folder / name for name in checkpoints.split(os.pathsep)]
    _check_files(files, folder, arguments)
    loaded = _load(folder, checkpoints, arguments)
    task = loaded["task"]
    if not (getattr(task.cfg, "source_lang", None) and getattr(task.cfg, "target_lang", None)):
        raise ValueError(f"{folder} is of the task {type(task).__name__}, not a translation")
    try:
        with _standard_error_closed():
            hub = hub_utils.GeneratorHubInterface(loaded["args"], task, loaded["models"])
    except ImportError as error:
        raise ValueError(
            f'{error}, or pip install ".[backtranslation]" in a clone of scl-fairseq'
        ) from None
    except (OSError, *UNFIT) as error:
        message = f"{folder}: its tokenizer or bpe does not load: {one_line(error)}"
        raise ValueError(message) from error
    return hub, folder, _describe(choice, hub, files)


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
            f"{choice.place} could not be downloaded: {url} is no archive ({one_line(error)})"
        ) from error
    except (OSError, ImportError, RuntimeError) as error:
        raise ValueError(f"{choice.place} could not be downloaded: {one_line(error)}") from error
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
    if option in arguments and inside:
        raise ValueError(
            f"{option}={arguments[option]}: {inside[-1]} is there, and fairseq's hub takes that"
        )
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
        raise ValueError(f"{folder}: {one_line(error)}") from error
    except UNFIT as error:
        message = one_line(error)
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


def _describe(
    choice: ModelChoice, hub: hub_utils.GeneratorHubInterface, files: Sequence[Path]
) -> dict[str, Any]:
    # Of files their checksums count, not where they are.
    arguments = {key: value for key, value in choice.arguments.items() if key not in FILES}
    found: dict[str, Any] = {"model": choice.name, "arguments": arguments}
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
    task = hub.task.cfg
    for language in (task.source_lang, task.target_lang):
        path = Path(task.data) / f"dict.{language}.txt"
        if path.is_file():
            found[f"{path.name}_sha256"] = file_sha256(path)
    return found
