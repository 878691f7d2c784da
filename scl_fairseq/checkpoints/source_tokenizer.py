"""The tokenizer of a Hugging Face folder: its vocabulary, and what it does to text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scl_fairseq.checkpoints.source_rules import (
    BYTE_LEVEL,
    KINDS,
    UNIGRAM,
    WORD_PIECE,
    check_class,
    check_config,
    check_model,
    refuse,
)
from scl_fairseq.files import read_json

CONFIG, JSON = "tokenizer_config.json", "tokenizer.json"
FAIRSEQ_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
WORDPIECE_SPECIALS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
SENTENCE_PIECE = "sentencepiece.bpe.model"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
# Which of a tokenizer's special tokens fairseq's five are, the first that is named.
_ROLES = (
    ("cls_token", "bos_token"),
    ("pad_token",),
    ("sep_token", "eos_token"),
    ("unk_token",),
    ("mask_token",),
)


@dataclass(frozen=True)
class SourceTokenizer:
    """What the files of a folder say.

    Attributes:
        source: the file with the vocabulary, for messages.
        kind: ``WordPiece``, ``BPE`` or ``Unigram``.
        ids: token to id; empty where only a SentencePiece model is there.
        specials: the tokens for fairseq's ``<s> <pad> </s> <unk> <mask>``.
        merges: of ``BPE``.
        settings: for the ``tokenizer_config.json`` that goes beside fairseq's files.
        described: ``tokenizer.json``, where there is one.
        beyond: added tokens that the vocabulary itself is without.
    """

    source: str
    kind: str
    ids: Mapping[str, int]
    specials: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    settings: Mapping[str, Any]
    described: Mapping[str, Any] | None
    beyond: frozenset[str]

    @property
    def added(self) -> list[str]:
        """Tokens that are found in a text before everything else, special ones apart."""
        return [token["content"] for token in self.settings.get("added_tokens", ())]


def read_source_tokenizer(folder: Path, config: Mapping[str, Any]) -> SourceTokenizer:
    """Read the tokenizer of a folder.

    Args:
        folder: a Hugging Face folder.
        config: its ``config.json``.

    Raises:
        ValueError: files are missing or contradict each other, or ask for what cannot be done in
            fairseq; the message names the file and the setting.
    """
    told = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
    described = read_json(folder / JSON) if (folder / JSON).exists() else None
    kind = _kind(described, config["model_type"])
    bound = check_class(kind, told, config)
    check_config(kind, told, bool(described and described.get("normalizer")))
    specials = _specials(folder, kind, told)
    added = _added(folder, told, described, specials)
    if described is None:
        settings = _settings_of_class(kind, told)
    else:
        check_model(kind, described["model"], specials[3])
        settings = _settings(kind, described, told, bound)
    if added:
        if kind == UNIGRAM:
            refuse(JSON, f"added token {added[0]['content']!r}; SentencePiece has no such tokens")
        settings["added_tokens"] = added
    source, ids, merges = _vocabulary(folder, kind, described)
    more = {token["content"]: token["id"] for token in _listed(told, described)}
    beyond = frozenset(more) - frozenset(ids)
    ids = {**ids, **more}
    if described is not None and source != JSON:
        _compare(source, ids, merges, described["model"], more)
    for token in added:
        token.pop("id")
    return SourceTokenizer(source, kind, ids, specials, merges, settings, described, beyond)


def _kind(described: Mapping[str, Any] | None, model_type: str) -> str:
    by_model = {"bert": WORD_PIECE, "roberta": BYTE_LEVEL, "xlm-roberta": UNIGRAM}[model_type]
    if described is None:
        return by_model
    if not isinstance(described.get("model"), dict):
        raise ValueError(f"{JSON} holds no model")
    kind = described["model"].get("type", by_model)  # older files do not name it
    if kind not in KINDS:
        refuse(JSON, f"model.type is {kind!r}; supported: {', '.join(KINDS)}")
    return kind


def _specials(folder: Path, kind: str, told: Mapping[str, Any]) -> tuple[str, ...]:
    default = WORDPIECE_SPECIALS if kind == WORD_PIECE else FAIRSEQ_SPECIALS
    path = folder / "special_tokens_map.json"
    named = {**(read_json(path) if path.exists() else {}), **told}
    found = []
    for keys, usual in zip(_ROLES, default, strict=True):
        tokens = [named.get(key) for key in keys]
        tokens = [t.get("content") if isinstance(t, dict) else t for t in tokens]
        found.append(next((token for token in tokens if isinstance(token, str)), usual))
    return tuple(found)


def _listed(told: Mapping[str, Any], described: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Added tokens, special ones among them, with id and flags."""
    if described is not None:
        return [dict(token) for token in described.get("added_tokens") or []]
    tokens = told.get("added_tokens_decoder") or {}
    return [{"id": int(number), **token} for number, token in tokens.items()]


def _added(
    folder: Path,
    told: Mapping[str, Any],
    described: Mapping[str, Any] | None,
    specials: tuple[str, ...],
) -> list[dict[str, Any]]:
    tokens = _listed(told, described)
    if described is None and not tokens and (folder / "added_tokens.json").exists():
        old = [t for t in read_json(folder / "added_tokens.json") if t not in specials]
        if old:
            refuse(
                "added_tokens.json",
                f"{old[0]!r}: how it is found in a text is not said; a {JSON}, which a newer "
                "version of transformers saves, says it",
            )
    file = CONFIG if described is None else JSON
    added = []
    for token in tokens:
        content = token["content"]
        if content in specials:
            continue
        if token.get("special"):
            refuse(
                file,
                f"added token {content!r} is special; in a text fairseq takes special tokens for "
                "text, so only such as are not special can be converted",
            )
        if content.split() != [content]:
            refuse(file, f"added token {content!r}: a fairseq dictionary holds no spaces")
        flags = {flag: token[flag] for flag in _FLAGS if flag in token}
        added.append({"content": content, "id": token["id"], **flags})
    return sorted(added, key=lambda token: token["id"])


def _settings_of_class(kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers' own classes do with no more than ``tokenizer_config.json``."""
    if kind == BYTE_LEVEL:
        return {"add_prefix_space": True} if told.get("add_prefix_space") else {}
    if kind == WORD_PIECE:
        keys = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
        return {key: told[key] for key in keys if told.get(key) is not None}
    return {}


def _settings(
    kind: str, described: Mapping[str, Any], told: Mapping[str, Any], bound: str | None
) -> dict[str, Any]:
    normalizer = described.get("normalizer")
    splitter = _only(described.get("pre_tokenizer"), "pretokenizers")
    if kind == UNIGRAM:
        return {}
    expected = _settings_of_class(kind, told)
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
    other = f"{CONFIG} says {json.dumps(told)}"
    if told is None:
        other = f"{CONFIG} does not say so, without which {bound} does otherwise"
    refuse(JSON, f"{key} is {json.dumps(found)}, and {other}; only one of them can be meant")


def _vocabulary(
    folder: Path, kind: str, described: Mapping[str, Any] | None
) -> tuple[str, dict[str, int], tuple[tuple[str, str], ...]]:
    """The file that it is from, the ids of its tokens, and the merges."""
    if kind == UNIGRAM:
        pieces = described["model"]["vocab"] if described else []
        return JSON if described else SENTENCE_PIECE, {p: i for i, (p, _) in enumerate(pieces)}, ()
    if kind == WORD_PIECE:
        path = folder / "vocab.txt"
        if path.exists():
            lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
            tokens = [line.rstrip("\r") for line in lines]
            return path.name, _numbered(tokens, path.name), ()
        if described is None:
            raise ValueError(f"{folder} holds neither vocab.txt nor a WordPiece {JSON}")
        return JSON, dict(described["model"]["vocab"]), ()
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip()]
        if pairs and pairs[0][0] == "#version:":
            pairs = pairs[1:]
        source, ids = "vocab.json", read_json(folder / "vocab.json")
    elif described:
        merges = described["model"]["merges"]
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        source, ids = JSON, dict(described["model"]["vocab"])
    else:
        raise ValueError(f"{folder} holds neither vocab.json with merges.txt nor a BPE {JSON}")
    wrong = [" ".join(pair) for pair in pairs if len(pair) != 2 or not all(pair)]
    if wrong:
        raise ValueError(f"merges.txt: not two symbols a line: {', '.join(wrong[:8])}")
    return source, ids, tuple((left, right) for left, right in pairs)


def _compare(source, ids, merges, model: Mapping[str, Any], more: Mapping[str, int]) -> None:
    """Refuse two files of which the one has another vocabulary than the other."""
    vocabulary = {**model["vocab"], **more}
    if vocabulary != ids:
        other = {**ids, **vocabulary}
        token = next(t for t in other if ids.get(t) != vocabulary.get(t))
        refuse(
            source, f"the id of {token!r} is {ids.get(token)}, in {JSON} {vocabulary.get(token)}"
        )
    pairs = model.get("merges", ())
    if merges and merges != tuple(tuple(p.split(" ") if isinstance(p, str) else p) for p in pairs):
        refuse("merges.txt", f"{JSON} has other merges")


def _numbered(tokens: list[str], source: str) -> dict[str, int]:
    ids = {token: number for number, token in enumerate(tokens)}
    if len(ids) < len(tokens):
        twice = next(t for number, t in enumerate(tokens) if ids[t] != number)
        raise ValueError(f"{source}: a fairseq dictionary cannot hold twice: {twice!r}")
    return ids


def _only(step: Any, parts: str) -> Any:
    """The step of a sequence of one."""
    if _type(step) == "Sequence" and len(step.get(parts) or ()) == 1:
        return step[parts][0]
    return step


def _type(step: Any) -> str | None:
    return step.get("type") if isinstance(step, dict) else None


def _shown(step: Any) -> str:
    text = json.dumps(step, ensure_ascii=False)
    return text if len(text) < 200 else f"{_type(step)}"
