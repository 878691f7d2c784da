"""Token ids of an exported folder in ``transformers`` against those fairseq gives."""

import json
import shutil

import pytest

import scl_fairseq  # noqa: F401 (registers --bpe wordpiece)
from scl_fairseq.checkpoints.export_tokenizer import build_tokenizer, read_symbols

transformers = pytest.importorskip("transformers")

from tests.checkpoints.exported import KINDS  # noqa: E402 (after the check above)

HARD = {
    "empty": "",
    "spaces": "   ",
    "spaces around and inside": "  a  film   of  note ",
    "tabs, newlines": "a\tfilm\nof\r\nnote\x0b\x0c.",
    "no-break and other spaces": "a\u00a0film\u2003of\u3000note\u202f!\u1680",
    "zero width": "a\u200bfilm\u200d of\ufeff note\u2060",
    "emoji": "😀 👍🏽 👨‍👩‍👧‍👦 🇫🇷 ❤️",
    "accents": "naïve café Ñandú Ångström",
    "accents as marks of their own": "nai\u0308ve cafe\u0301 N\u0303andu\u0301",
    "control characters": "a\x01film\x1bof\x7fnote\x85\x9f",
    "unknown characters and a line end between them": "жщ\x85жщ \x85 \x85ж",
    "nothing but control characters": "\x01\x02\x7f",
    "separators of files": "a\x1cb\x1db\x1eb\x1fc\u2028d\u2029e",
    "specials of fairseq": "<s> a</s> </s> <pad><unk> <mask> film<mask>",
    "specials of BERT": "[CLS] a [SEP] [MASK] [UNK] [PAD]",
    "other specials": "<|endoftext|> madeupword0000 [unused0] overwritten",
    "pieces of encodings": "▁a ▁▁film ##ing Ġthe Ċ",
    "a space mark at the end": "film ▁",
    "Chinese, Arabic, Hebrew": "人类 البيت בַּיִת",
    "compatibility characters": "ﬁlm ²  ½ Ⅷ ＡＢＣ ㎏",
    "a long word": "a" * 101 + " " + "b" * 300,
    "case": "THE Film İstanbul ǅ ß",
    "punctuation": "don't -- (a) “film”… $5.00/#1 @you_and_me ~^`",
    "unknown characters": "жщ ᚠᚢᚦ 𝔘𝔫𝔦 ☃☃☃",
}


@pytest.fixture(scope="module")
def tokenizers(exported):
    return {
        kind: transformers.AutoTokenizer.from_pretrained(folder)
        for kind, folder in exported.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_real_lines(tokenizers, hubs, sentences, kind):
    assert len(sentences) == 10_000
    found = tokenizers[kind](sentences)["input_ids"]
    wrong = [
        line
        for line, ids in zip(sentences, found, strict=True)
        if hubs[kind].encode(line).tolist() != ids
    ]
    assert not wrong


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_hard_text(tokenizers, hubs, kind, name):
    text = HARD[name]
    assert tokenizers[kind](text)["input_ids"] == hubs[kind].encode(text).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_pairs(tokenizers, hubs, pairs, kind):
    first, second = map(list, zip(*pairs[:100], ("", ""), ("</s>", "<mask>"), strict=True))
    inputs = tokenizers[kind](first, second)
    assert set(inputs) == {"input_ids", "attention_mask"}
    for one, two, ids in zip(first, second, inputs["input_ids"], strict=True):
        expected = hubs[kind].encode(one, two, no_separator=kind == "wordpiece").tolist()
        assert ids == expected
        assert ids.count(2) == (2 if kind == "wordpiece" else 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_id_has_a_token_of_its_own(tokenizers, hubs, kind):
    tokenizer, dictionary = tokenizers[kind], hubs[kind].task.source_dictionary
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(dictionary))))
    assert len(tokenizer) == len(set(tokens)) == len(dictionary)
    named = [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id]
    assert named == [dictionary.bos(), dictionary.pad(), dictionary.eos()]
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (0, 2)
    assert tokenizer.unk_token_id == dictionary.unk()
    assert tokenizer.mask_token_id == dictionary.index("<mask>") == len(dictionary) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_gives_the_text_back(tokenizers, sentences, kind):
    for sentence in sentences[:20]:
        ids = tokenizers[kind](sentence)["input_ids"]
        text = tokenizers[kind].decode(ids, skip_special_tokens=True)
        assert text.split() == sentence.split() or kind == "wordpiece"


def test_what_is_saved_again_is_the_same(tokenizers, tmp_path):
    for kind, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(tmp_path / kind)
        again = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        for text in HARD.values():
            assert again(text)["input_ids"] == tokenizer(text)["input_ids"], (kind, text)


def test_cased_wordpiece_stays_cased(models, tmp_path):
    converted = models["wordpiece"].converted
    for name in ("vocab.txt", "dict.txt"):
        shutil.copy(converted / name, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    symbols = read_symbols(tmp_path / "dict.txt")
    tokenizer = build_tokenizer("wordpiece", [tmp_path / "vocab.txt"], symbols, 1)
    from scl_fairseq.text.wordpiece import WordPiece

    ours = WordPiece(tmp_path / "vocab.txt")
    for text in ("The FILM", "naïve"):
        assert tokenizer.encode(text, add_special_tokens=False).tokens == ours.encode(text).split()


def test_more_symbols_than_the_encoding_has_are_never_given(models, tmp_path):
    """Dictionaries are filled up with words that a text may hold too."""
    converted = models["wordpiece"].converted
    text = (converted / "dict.txt").read_text(encoding="utf-8")
    (tmp_path / "dict.txt").write_text(text + "madeupword0000 0\n", encoding="utf-8")
    symbols = read_symbols(tmp_path / "dict.txt")
    tokenizer = build_tokenizer("wordpiece", [converted / "vocab.txt"], symbols, 1)
    place = symbols.index("madeupword0000")
    assert tokenizer.get_vocab_size() == len(symbols) == place + 2
    assert place not in tokenizer.encode("madeupword0000").ids
    assert tokenizer.token_to_id("<mask>") == place + 1


MISFITS = {
    "gpt2": ("262 1\n", "", "dictionary lacks 1 tokens of .*encoder.json"),
    "wordpiece": ("##s 1\n", "", "dictionary lacks 1 tokens of .*vocab.txt, '##s'"),
    "sentencepiece": ("▁the ", "▁theother ", "dictionary lacks 1 tokens of .*'▁the'"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_of_other_files_is_refused(models, tmp_path, kind):
    old, new, message = MISFITS[kind]
    converted = models[kind].converted
    text = (converted / "dict.txt").read_text(encoding="utf-8")
    if kind == "gpt2":
        old = text.splitlines(keepends=True)[0]
    assert "\n" + old in "\n" + text
    text = ("\n" + text).replace("\n" + old, "\n" + new, 1)[1:]
    (tmp_path / "dict.txt").write_text(text, encoding="utf-8")
    names = {
        "gpt2": ("encoder.json", "vocab.bpe"),
        "wordpiece": ("vocab.txt",),
        "sentencepiece": ("sentencepiece.bpe.model",),
    }
    files = [converted / name for name in names[kind]]
    with pytest.raises(ValueError, match=message):
        build_tokenizer(kind, files, read_symbols(tmp_path / "dict.txt"), 2)
