"""Settings of a Hugging Face tokenizer that have no counterpart in fairseq, refused by name."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from scl_fairseq.text.sentence_piece_model import SentencePieceModel

WORD_PIECE, BYTE_LEVEL, UNIGRAM = KINDS = ("WordPiece", "BPE", "Unigram")
_CONFIG, _JSON = "tokenizer_config.json", "tokenizer.json"
# Classes that make their pipeline themselves, of each kind; others do more than their files say.
_CLASSES = {
    WORD_PIECE: ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"),
    BYTE_LEVEL: ("RobertaTokenizer", "GPT2Tokenizer", "BartTokenizer", "LongformerTokenizer"),
    UNIGRAM: ("XLMRobertaTokenizer",),
}
_GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")
_OF_MODEL = {
    "bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
# In tokenizer_config.json: the values that change nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "do_basic_tokenize": (True, None),
    "never_split": ([], None),
    "sp_model_kwargs": ({}, None),
    "word_tokenizer_type": ("basic", None),
    "subword_tokenizer_type": ("wordpiece", None),
    "normalization": (False, None),
}
# The same of a kind's model in tokenizer.json.
_MODEL: dict[str, dict[str, tuple[Any, ...]]] = {
    WORD_PIECE: {"continuing_subword_prefix": ("##",), "max_input_chars_per_word": (100,)},
    BYTE_LEVEL: {
        "dropout": (None, 0, 0.0),
        "continuing_subword_prefix": (None, ""),
        "end_of_word_suffix": (None, ""),
        "byte_fallback": (False,),
        "ignore_merges": (False,),
    },
    UNIGRAM: {"byte_fallback": (False,), "unk_id": (3,)},
}
_SWITCHES = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")

# What SentencePiece does itself, in the words of tokenizer.json.
_UNIGRAM_STEPS = ("Precompiled", "Replace", "Prepend", "Strip")
_SCORE = 1e-4  # by which a score may differ, in nats: it is written in decimals


def refuse(file: str, reason: str) -> NoReturn:
    """Say which setting of which file cannot be converted."""
    raise ValueError(f"{file}: {reason}")


def check_class(kind: str, told: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The class that makes its own pipeline; None where the files alone say what is done.

    Args:
        kind: of the tokenizer.
        told: the contents of ``tokenizer_config.json``.
        config: those of ``config.json``.
    """
    file, name = _CONFIG, told.get("tokenizer_class")
    if name is None and config.get("tokenizer_class") is not None:
        file, name = "config.json", config["tokenizer_class"]
    for where, content in ((_CONFIG, told), ("config.json", config)):
        own = content.get("auto_map")
        if isinstance(own, dict) and own.get("AutoTokenizer"):
            refuse(where, f"auto_map names a tokenizer of its own code, {own['AutoTokenizer']}")
    if name is None:
        name = _OF_MODEL[config["model_type"]]
    bare = str(name).removesuffix("Fast")
    if bare in _GENERIC:
        return None
    if bare not in _CLASSES[kind]:
        supported = ", ".join((*_CLASSES[kind], *_GENERIC))
        refuse(file, f"tokenizer_class is {name!r}; supported for {kind}: {supported}")
    return bare


def check_config(kind: str, told: Mapping[str, Any], is_normalized: bool) -> None:
    """Refuse what ``tokenizer_config.json`` asks for beyond the pipeline.

    ``is_normalized``: ``tokenizer.json`` says what becomes of letters.
    """
    for key, harmless in _HARMLESS.items():
        if told.get(key) not in harmless:
            refuse(_CONFIG, f"{key} is {json.dumps(told[key])}, which fairseq's encoding cannot do")
    for key in (*_SWITCHES, "add_prefix_space"):
        if not isinstance(told.get(key), bool | None):
            refuse(_CONFIG, f"{key} is {json.dumps(told[key])}; expected true or false")
    if kind == UNIGRAM and told.get("add_prefix_space") is False:
        refuse(_CONFIG, "add_prefix_space is false, and the SentencePiece model decides that")
    if kind != WORD_PIECE and not is_normalized:
        for key in _SWITCHES[:2]:
            if told.get(key):
                refuse(_CONFIG, f"{key} is true, which a {kind} tokenizer does not follow")


def check_model(kind: str, model: Mapping[str, Any], unknown: str) -> None:
    """Refuse what the model of ``tokenizer.json`` does that fairseq's encoding does not."""
    for key, harmless in _MODEL[kind].items():
        if key in model and model[key] not in harmless:
            refuse(_JSON, f"model.{key} is {json.dumps(model[key])}; supported: {harmless[0]!r}")
    if kind == WORD_PIECE and model.get("unk_token", unknown) != unknown:
        refuse(_JSON, f"model.unk_token is {model['unk_token']!r}, and unk_token is {unknown!r}")


def check_unigram(described: Mapping[str, Any], model: SentencePieceModel, path: Path) -> None:
    """Refuse a ``tokenizer.json`` that does more, or other things, than the SentencePiece model."""
    pieces = {spelling: score for spelling, score, _ in model.pieces[3:]}
    told = dict(described["model"]["vocab"])
    for spelling, score in pieces.items():
        if abs(told.get(spelling, -math.inf) - score) > _SCORE:
            refuse(_JSON, f"the piece {spelling!r} is not as {path.name} has it")
    for step in _steps(described.get("normalizer")):
        if step.get("type") not in _UNIGRAM_STEPS:
            refuse(_JSON, f"normalizer {step.get('type')}; {path.name} is without it")
        table = step.get("precompiled_charsmap")
        if table is not None and base64.b64decode(table) != model.charsmap:
            refuse(_JSON, f"normalizer Precompiled is not the table of {path.name}")


def _steps(normalizer: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(normalizer, dict) and normalizer.get("type") == "Sequence":
        for step in normalizer.get("normalizers") or ():
            yield from _steps(step)
    elif isinstance(normalizer, dict):
        yield normalizer
