"""The encoder that a training starts from, whatever was named: found, converted once, described."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq import versions
from scl_fairseq.checkpoints.architecture import architecture_flags
from scl_fairseq.checkpoints.embedded import ABOUT_ENCODER, ENCODER_SHA256, find_encoder
from scl_fairseq.checkpoints.huggingface import CHECKPOINT, convert
from scl_fairseq.refusals import UNFIT, one_line
from scl_fairseq.text.assets import CHECKPOINTS, find_checkpoint
from scl_fairseq.text.bpe_files import BPE_DIR, fairseq_options, find_files, guess_bpe
from scl_fairseq.text.description import DICTIONARY
from scl_fairseq.training.choices import EMBEDDED

CACHE_VARIABLE = "SCL_FAIRSEQ_CACHE"
_WORDS = [f"{part}.sentence_encoder.embed_tokens.weight" for part in ("encoder", "decoder")]
_OF_HUGGING_FACE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                    "pytorch_model.bin.index.json", "modules.json")  # fmt: skip

Tell = Callable[[str], None]


@dataclass(frozen=True)
class TrainingEncoder:
    """A pre-trained checkpoint, and what goes with it.

    Attributes:
        path: the checkpoint's file, absolute.
        flags: of ``fairseq-train``, that build its network.
        bpe: the encoding of its texts.
        bpe_dir: folder of the encoding's files and of the dictionary.
        dictionary: its ``dict.txt``.
        pooling: what it was trained to be read by; None where nothing says so.
        max_positions: longest input in tokens.
        about: for people.
    """

    path: Path
    flags: tuple[str, ...]
    bpe: str
    bpe_dir: Path
    dictionary: Path
    pooling: str | None
    max_positions: int
    about: str

    def bpe_options(self, folder: Path) -> dict[str, str]:
        """Fairseq's options for the encoding's files, which its hub asks for.

        Args:
            folder: where copies of them are, or will be, by the names that this package gives them.
        """
        files = find_files(self.bpe, self.bpe_dir)
        found = fairseq_options(self.bpe, files)
        name_of = {str(path): name for name, path in files.items()}
        return {
            "bpe": found.pop("_name"),
            **{key.replace("_", "-"): str(folder / name_of[path]) for key, path in found.items()},
        }


def cache_folder() -> Path:
    """Where converted encoders are kept; the variable ``SCL_FAIRSEQ_CACHE`` names another place."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "scl-fairseq"


def find(name: str, tell: Tell = lambda text: None) -> TrainingEncoder:
    """The encoder that ``--encoder`` names.

    Args:
        name: ``embedded``; a checkpoint that ``scl-convert`` or ``fairseq-train`` wrote, or its
            folder; a folder of Hugging Face's or sentence-transformers'.
        tell: is told what takes time.

    Raises:
        ValueError, OSError: there is no such encoder, or it is of a kind that fairseq's RoBERTa
            cannot be.
    """
    if name == EMBEDDED:
        return _described(_converted(find_encoder(), tell, ENCODER_SHA256), ABOUT_ENCODER)
    path = Path(name).absolute()
    if not path.exists():
        raise FileNotFoundError(
            f"--encoder {name}: no such file or folder; nothing is downloaded: name a folder that "
            f"is here, or {EMBEDDED}"
        )
    about = f"Encoder: {path}."
    if path.is_file() or any((path / file).is_file() for file in CHECKPOINTS):
        return _described(find_checkpoint(path), about)
    if any((path / file).is_file() for file in _OF_HUGGING_FACE):
        return _described(_converted(path, tell), about)
    raise ValueError(
        f"--encoder {name} holds no encoder: neither {CHECKPOINT} of scl-convert nor "
        f"{_OF_HUGGING_FACE[0]} of Hugging Face"
    )


def _converted(source: Path, tell: Tell, sha256: str | None = None) -> Path:
    """Fairseq's form of a folder, from the cache where an earlier call has left it there."""
    from scl_fairseq.checkpoints.loading import is_whole

    folder = cache_folder() / "encoders" / _key(source)
    path = folder / CHECKPOINT
    if path.is_file() and is_whole(path) and _loads(path):
        return path
    tell(f"converting {source} (once; kept in {folder})")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.utime(folder.parent)
    except OSError as error:
        raise OSError(
            f"the cache cannot be written ({error}); {CACHE_VARIABLE} names another folder"
        ) from None
    convert(source, folder, expected_sha256=sha256)
    return path


def _loads(path: Path) -> bool:
    try:
        _state(path)
    except ValueError:
        return False
    return True


def _key(source: Path) -> str:
    """Of what a folder holds: another file, or another version of this package, is another key."""
    digest = hashlib.sha256(versions.installed(("scl-fairseq",)).get("scl-fairseq", "").encode())
    for path in sorted(source.rglob("*")):
        if path.is_file():
            status = path.stat()
            named = f"{path.relative_to(source)}\0{status.st_size}\0{status.st_mtime_ns}\0"
            digest.update(named.encode())
    digest.update(str(source).encode())
    return f"{source.name}-{digest.hexdigest()[:12]}"


def _state(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint; weights stay on the disk where its format allows it."""
    import torch

    from scl_fairseq.checkpoints.loading import allow_globals

    allow_globals()
    try:
        found = torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path))
    except (OSError, *UNFIT) as error:
        raise ValueError(f"{path} is no checkpoint, or damaged: {one_line(error)}") from None
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise ValueError(f"{path} is no checkpoint of fairseq's; scl-convert makes one")
    return found


def _described(path: Path, about: str) -> TrainingEncoder:
    from scl_fairseq.checkpoints.training_state import trained_embedding

    path = path.absolute()
    state = _state(path)
    if not any(name in state["model"] for name in _WORDS):
        raise ValueError(
            f"{path} is no RoBERTa encoder, nor a BERT that scl-convert has brought in; expected "
            "one"
        )
    folder = path.parent
    bpe_dir = next((one for one in (folder, folder / BPE_DIR) if guess_bpe(one)), None)
    if bpe_dir is None:
        raise FileNotFoundError(
            f"{folder} has no files of an encoding beside {path.name}, such as vocab.txt, or "
            "encoder.json and vocab.bpe; copy them there"
        )
    if not (bpe_dir / DICTIONARY).is_file():
        raise FileNotFoundError(f"{bpe_dir} has no {DICTIONARY}; copy it there")
    try:
        flags = architecture_flags(path)
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    positions = _positions(state["model"])
    return TrainingEncoder(
        path=path,
        flags=tuple(flags),
        bpe=guess_bpe(bpe_dir),
        bpe_dir=bpe_dir,
        dictionary=bpe_dir / DICTIONARY,
        pooling=trained_embedding(state.get("extra_state")),
        max_positions=positions,
        about=about,
    )


def _positions(weights: dict[str, Any]) -> int:
    """Rows of the position embedding, without those before the first position."""
    from scl_fairseq.checkpoints.architecture import FAIRSEQ_PADDING_INDEX

    names = [name for name in weights if name.endswith("embed_positions.weight")]
    return len(weights[names[0]]) - FAIRSEQ_PADDING_INDEX - 1
