"""Hugging Face folders of every kind of tokenizer, with small random weights; odd texts."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import transformers

from tests.checkpoints.random_models import save_bert, save_roberta, save_xlm_roberta

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "film", "of", "is", "and", "The"),
    *("Film", "É", "é", "e", "story", "##s", "##ing", "no", "##t", "naïve", "naive", "Naive", "人"),
    *("类", "ca", "##fe", "##é", "ist", "##an", "##bul", "@", "user", "USER", "<", ">", "/", "url"),
]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZäöüéñß0123456789"
WORDPIECES = list(
    dict.fromkeys([*WORDS, *LETTERS, *".,!?'-[](){}$#&;:\"", *(f"##{c}" for c in LETTERS)])
)

_PARTS = [
    *("the film", "The FILM", "İstanbul", "Straße", "ΟΔΟΣ", "naïve", "nai\u0308ve", "cafe\u0301"),
    *("</s>", "<s>", "<mask>", "<pad>", "<unk>", "[MASK]", "[CLS]", "[UNK]", "<|endoftext|>"),
    *("@USER", "@user", "<url>", "x@USERy", "@USER@USER", "covid", "COVID", "covid19"),
    *("\u200b", "\u200d", "\ufeff", "\u00a0", "\u2003", "\u3000", "\u2028", "\x85", "\t", "\n"),
    *("\x00", "\x01", "\x1b", "\x7f", "\xad", "\ufffd", "\u0301", "o\u0302\u0323"),
    *("😀", "👍🏽", "👨‍👩‍👧‍👦", "🇫🇷", "❤️", "人类", "日本語", "한국어", "البيت", "בַּיִת", "жщ"),
    *("ﬁlm", "²", "½", "Ⅷ", "ＡＢＣ", "㎏", "𝔘𝔫𝔦", "☃", "ᚠᚢ", "▁a", "Ġthe", "##ing"),
    *("w" * 100, "w" * 101, "b" * 300, "12345", "1,000.5", "don't", "they'LL", "--", "“x”…"),
    *("http://a.b/c?d=e", "#tag", "$5.00/#1", " ", "  ", "", "a", "."),
]


def odd_texts(count: int = 500) -> list[str]:
    """The parts alone, then drawn mixtures of them, with and without spaces between."""
    drawn = random.Random(3)
    mixed = [
        drawn.choice(("", " ", "  ")).join(drawn.choices(_PARTS, k=drawn.randint(2, 6)))
        for _ in range(count - len(_PARTS))
    ]
    return [*_PARTS, *mixed]


def edit(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    """Change the object in a JSON file of a folder, which may be new."""
    path = folder / name
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def saved(folder: Path, **options) -> None:
    """Have transformers write its own files of the folder's tokenizer."""
    transformers.AutoTokenizer.from_pretrained(folder, **options).save_pretrained(folder)


def byte_level(folder: Path, bpe: Path, **sizes) -> None:
    save_roberta(folder, bpe=bpe, **sizes)


def add_tokens(folder: Path, bpe: Path | None, tokens: list[str]) -> None:
    """A folder whose tokenizer got more tokens, with a model that has as many embeddings."""
    make = (lambda target, **sizes: byte_level(target, bpe, **sizes)) if bpe else word_piece
    make(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(tokens)
    shutil.rmtree(folder)
    make(folder, vocab_size=len(tokenizer))
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def word_piece(folder: Path, **options) -> None:
    config = {key: options.pop(key) for key in list(options) if key.startswith(("do_", "strip"))}
    save_bert(folder, transformers.BertModel, tokens=WORDPIECES, **options)
    if config:
        edit(folder, "tokenizer_config.json", lambda told: told.update(config))


def generic_with(folder: Path, bpe: Path | None, normalizer: dict) -> None:
    """A tokenizer.json that is read as it stands, with a normalizer."""
    byte_level(folder, bpe) if bpe else word_piece(folder)
    saved(folder)
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    edit(folder, "tokenizer.json", lambda told: told.update(normalizer=normalizer))
    generic = {"tokenizer_class": "PreTrainedTokenizerFast"}

    def make_generic(told):
        for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
            told.pop(key, None)
        told.update(generic)

    edit(folder, "tokenizer_config.json", make_generic)


def sentence_piece(folder: Path, lines: list[str]) -> None:
    save_xlm_roberta(folder, [*lines, "Ça alors! naïve 人 …", "Ça alors! naïve 人 …"], pieces=400)
