"""The files of an encoding: under which names they are found, and kept beside what needs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scl_fairseq.files import link_or_copy
from scl_fairseq.text.choices import BPES, FASTBPE, GPT2, SENTENCEPIECE, WORDPIECE
from scl_fairseq.text.description import DICTIONARY
from scl_fairseq.text.settings import FILE as SETTINGS_FILE
from scl_fairseq.text.settings import read_settings

BESIDE_VOCABULARY = SETTINGS_FILE
WITH_SETTINGS = (GPT2, WORDPIECE)  # whose vocabulary may have it beside
ADJUSTED_GPT2 = "gpt2_adjusted"  # fairseq's --bpe for GPT-2 with settings
BPE_DIR = "bpe"  # in a folder of binarised data
# For each file the names under which it is published: the first is ours, and of those that are
# there the first is taken.
_NAMES = {
    GPT2: (("encoder.json",), ("vocab.bpe",)),
    WORDPIECE: (("vocab.txt",),),
    SENTENCEPIECE: (("sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "*.model"),),
    FASTBPE: (("bpecodes", "codes", "bpe.codes", "*.codes"),),
}
# fairseq's options for the files of each BPE, and the names that the files get.
BPE_OPTIONS = {
    "gpt2": {"gpt2_encoder_json": "encoder.json", "gpt2_vocab_bpe": "vocab.bpe"},
    "wordpiece": {"wordpiece_vocab": "vocab.txt"},
    "sentencepiece": {"sentencepiece_model": "sentencepiece.bpe.model"},
    "fastbpe": {"bpe_codes": "bpecodes"},
}
KEPT = frozenset(patterns[0] for files in _NAMES.values() for patterns in files) | {
    DICTIONARY,
    BESIDE_VOCABULARY,
}


def needed_files(bpe: str) -> tuple[str, ...]:
    """Names of the files without which there is no such encoding, as this package writes them."""
    return tuple(patterns[0] for patterns in _NAMES[bpe])


def find_files(bpe: str, folder: Path) -> dict[str, Path]:
    """The files of an encoding, the dictionary apart, by the names that this package gives them.

    Args:
        bpe: one of ``BPES``.
        folder: a ``--bpe-dir``.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: several could be meant.
    """
    found = {patterns[0]: _find(folder, patterns, bpe) for patterns in _NAMES[bpe]}
    if bpe in WITH_SETTINGS and (folder / BESIDE_VOCABULARY).is_file():
        found[BESIDE_VOCABULARY] = folder / BESIDE_VOCABULARY
    return found


def fairseq_options(bpe: str, files: Mapping[str, Path]) -> dict[str, str]:
    """What fairseq's ``cfg.bpe`` says of the files of an encoding: ``_name``, and its options."""
    name = bpe
    if bpe == GPT2 and read_settings(files["encoder.json"]).changes_bytes:
        name = ADJUSTED_GPT2
    return {"_name": name, **{o: str(files[file]) for o, file in BPE_OPTIONS[bpe].items()}}


def guess_bpe(folder: Path) -> str | None:
    """The encoding whose files a folder holds; None where they are of none, or of several."""
    found = [bpe for bpe in BPES if has_files(bpe, folder)]
    return found[0] if len(found) == 1 else None


def has_files(bpe: str, folder: Path) -> bool:
    """Whether the files of an encoding are in a folder."""
    try:
        find_files(bpe, folder)
    except (FileNotFoundError, ValueError):
        return False
    return True


def keep_files(bpe: str, folder: Path, target: Path, dictionary: Path) -> None:
    """Make ``target`` a ``--bpe-dir`` of its own, in as little space as the file system allows.

    Args:
        bpe: one of ``BPES``.
        folder: the ``--bpe-dir`` that was used.
        target: a folder that is not there.
        dictionary: its ``dict.txt``.
    """
    target.mkdir()
    for name, path in {**find_files(bpe, folder), DICTIONARY: dictionary}.items():
        link_or_copy(path, target / name)


def _find(folder: Path, patterns: tuple[str, ...], bpe: str) -> Path:
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise ValueError(f"{folder} has several {pattern}: {', '.join(p.name for p in found)}")
        if found:
            return found[0]
    raise FileNotFoundError(f"{folder} has no {' or '.join(patterns)}, which --bpe {bpe} needs")
