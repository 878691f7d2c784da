"""What a Hugging Face tokenizer does to text before it is split, in words for fairseq's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from scl_fairseq.checkpoints.source_rules import BYTE_LEVEL, UNIGRAM, WORD_PIECE, refuse

CONFIG, JSON = "tokenizer_config.json", "tokenizer.json"


def settings_of_class(kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers' own classes do with no more than ``tokenizer_config.json``."""
    if kind == BYTE_LEVEL:
        return {"add_prefix_space": True} if told.get("add_prefix_space") else {}
    if kind == WORD_PIECE:
        keys = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
        return {key: told[key] for key in keys if told.get(key) is not None}
    return {}


def settings_of_file(
    kind: str, described: Mapping[str, Any], told: Mapping[str, Any], bound: str | None
) -> dict[str, Any]:
    """What ``tokenizer.json`` does, where ``tokenizer_config.json`` does not contradict it.

    Args:
        kind: of the tokenizer.
        described: the contents of ``tokenizer.json``.
        told: those of ``tokenizer_config.json``.
        bound: the class that makes its own pipeline, of :func:`source_rules.check_class`.

    Raises:
        ValueError: the two contradict each other, or a step is not one of fairseq's encodings.
    """
    normalizer = described.get("normalizer")
    splitter = _only(described.get("pre_tokenizer"), "pretokenizers")
    if kind == UNIGRAM:
        return {}
    expected = settings_of_class(kind, told)
    if kind == BYTE_LEVEL:
        return _byte_level_settings(normalizer, splitter, told, expected, bound)
    return _word_settings(normalizer, splitter, told, expected, bound)


def _byte_level_settings(normalizer, splitter, told, expected, bound) -> dict[str, Any]:
    if _type(splitter) != "ByteLevel" or not splitter.get("use_regex", True):
        refuse(JSON, f"pre_tokenizer is {_shown(splitter)}; supported: ByteLevel with use_regex")
    has_prefix = bool(splitter.get("add_prefix_space"))
    if (bound or "add_prefix_space" in told) and has_prefix != ("add_prefix_space" in expected):
        _contradict("add_prefix_space", has_prefix, told.get("add_prefix_space"), bound)
    if normalizer is not None and bound:
        refuse(
            JSON,
            f"normalizer is {_shown(normalizer)}, which tokenizer_class {bound} ({CONFIG}) leaves "
            "out in newer versions of transformers; PreTrainedTokenizerFast there keeps it",
        )
    settings = {"add_prefix_space": True} if has_prefix else {}
    if normalizer is not None:
        settings["normalizer"] = normalizer
    return settings


def _word_settings(normalizer, splitter, told, expected, bound) -> dict[str, Any]:
    if _type(splitter) != "BertPreTokenizer":
        refuse(JSON, f"pre_tokenizer is {_shown(splitter)}; supported: BertPreTokenizer")
    only = _only(normalizer, "normalizers")
    if _type(only) != "BertNormalizer" or not only.get("clean_text", True):
        if bound:
            refuse(
                JSON,
                f"normalizer is {_shown(normalizer)}, and tokenizer_class {bound} ({CONFIG}) has "
                "BertNormalizer; PreTrainedTokenizerFast there keeps the other",
            )
        return {"normalizer": normalizer}
    found = {
        "do_lower_case": only.get("lowercase", True),
        "strip_accents": only.get("strip_accents"),
        "tokenize_chinese_chars": only.get("handle_chinese_chars", True),
    }
    for key, value in _effective(found).items():
        if (bound or key in expected) and _effective(expected)[key] != value:
            _contradict(key, value, told.get(key), bound)
    return {key: value for key, value in found.items() if value is not None}


def _effective(switches: Mapping[str, Any]) -> dict[str, bool]:
    lowercase, chinese = (
        switches.get(key, True) for key in ("do_lower_case", "tokenize_chinese_chars")
    )
    accents = switches.get("strip_accents")
    return {
        "do_lower_case": lowercase,
        "strip_accents": lowercase if accents is None else accents,
        "tokenize_chinese_chars": chinese,
    }


def _contradict(key: str, found: bool, told: bool | None, bound: str | None) -> None:
    other = f"{CONFIG} says {_shown(told)}"
    if told is None:
        other = f"{CONFIG} does not say so, without which {bound} does otherwise"
    refuse(
        JSON,
        f"{key} is {_shown(found)}, and {other}; only one of them can be meant",
    )


def _only(step: Any, parts: str) -> Any:
    """The step of a sequence of one."""
    if _type(step) == "Sequence" and len(step.get(parts) or ()) == 1:
        return step[parts][0]
    return step


def _type(step: Any) -> str | None:
    return step.get("type") if isinstance(step, dict) else None


def _shown(step: Any) -> str:
    text = json.dumps(step, ensure_ascii=False, allow_nan=False)
    return text if len(text) < 200 else f"{_type(step)}"
