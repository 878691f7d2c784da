"""Encodings of local files give what fairseq's own classes give."""

import shutil

import numpy as np
import pytest

from scl_fairseq.data import synthetic
from scl_fairseq.text.dictionary import read_dictionary
from scl_fairseq.text.encodings import load_encoder

LINES = [
    "a gripping , beautifully acted film .",
    "Ünïcode ４２ \u3000 wide  spaces",
    "",
    "zzqqx 😀",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "text"
    path.write_text("".join(sentence + "\n" for sentence, _ in synthetic.generate(600)))
    return path


def write_dictionary(folder, symbols):
    """fairseq's, in which a few of the symbols are missing."""
    lines = [f"{symbol} {100 - i % 9}\n" for i, symbol in enumerate(symbols) if i % 11 != 7]
    (folder / "dict.txt").write_text("".join(lines), encoding="utf-8")


def assert_as_fairseq_stores(bpe, folder, fairseqs):
    """By fairseq's encoding and fairseq's dictionary."""
    from fairseq.data import Dictionary

    dictionary = Dictionary.load(str(folder / "dict.txt"))
    encoder = load_encoder(bpe, folder)
    assert encoder.dictionary.size == len(dictionary)
    stored = [
        np.frombuffer(row, encoder.dictionary.dtype).tolist() for row in encoder.encode(LINES)
    ]
    expected = [
        dictionary.encode_line(fairseqs.encode(line), add_if_not_exist=False).tolist()
        for line in LINES
    ]
    assert stored == expected
    assert any(dictionary.unk() in row for row in stored)


def test_sentencepiece(corpus, tmp_path):
    import sentencepiece
    from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE, SentencepieceConfig

    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "sentencepiece.bpe"),
        vocab_size=200,
        minloglevel=2,
    )
    model = tmp_path / "sentencepiece.bpe.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    special = {"<unk>", "<s>", "</s>"}
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    write_dictionary(tmp_path, [piece for piece in pieces if piece not in special])
    fairseqs = SentencepieceBPE(SentencepieceConfig(sentencepiece_model=str(model)))
    assert_as_fairseq_stores("sentencepiece", tmp_path, fairseqs)


def test_fastbpe(corpus, tmp_path):
    from fairseq.data.encoders.fastbpe import fastBPE, fastBPEConfig

    pytest.importorskip("fastBPE")
    # Merges as its learner writes them: two sub-words and a count.
    (tmp_path / "bpecodes").write_text("t h 50\nth e</w> 40\nf i 30\nfi l 20\nfil m</w> 10\n")
    words = ["the", "film", "a", "f@@", "i@@", "l@@", "m", ",", ".", "g@@", "r@@", "p@@", "n@@"]
    write_dictionary(tmp_path, words)
    fairseqs = fastBPE(fastBPEConfig(bpe_codes=str(tmp_path / "bpecodes")))
    assert_as_fairseq_stores("fastbpe", tmp_path, fairseqs)


def test_wordpiece(tiny):
    import scl_fairseq  # noqa: F401 (registers --bpe wordpiece)
    from scl_fairseq.text.fairseq_bpe import WordPieceBPE, WordPieceConfig

    config = WordPieceConfig(wordpiece_vocab=str(tiny.encoder / "vocab.txt"))
    assert_as_fairseq_stores("wordpiece", tiny.encoder, WordPieceBPE(config))


def test_without_fastbpe_the_command_says_how_to_install_it(tmp_path, monkeypatch):
    import sys

    (tmp_path / "dict.txt").write_text("a 1\n")
    (tmp_path / "bpecodes").write_text("t h 50\n")
    monkeypatch.setitem(sys.modules, "fastBPE", None)
    with pytest.raises(ValueError, match=r"pip install --no-build-isolation fastBPE"):
        load_encoder("fastbpe", tmp_path)


def test_several_models_are_not_guessed_between(tmp_path):
    (tmp_path / "dict.txt").write_text("a 1\n")
    for name in ("one.model", "two.model"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"several \*\.model: one\.model, two\.model"):
        load_encoder("sentencepiece", tmp_path)


def test_a_dictionary_is_read_as_fairseq_reads_it(tmp_path):
    from fairseq.data import Dictionary

    path = tmp_path / "dict.txt"
    path.write_text("a 3\nb c 2\na 1 #fairseq:overwrite\né 1\n", encoding="utf-8")
    fairseqs, ours = Dictionary.load(str(path)), read_dictionary(path)
    assert ours.size == len(fairseqs)
    for symbol in ("a", "b c", "é", "<s>", "<pad>", "</s>", "<unk>"):
        assert ours.index[symbol] == fairseqs.index(symbol)
    copy = shutil.copy(path, tmp_path / "copy")
    (tmp_path / "copy").write_text(ours.text, encoding="utf-8")
    assert read_dictionary(tmp_path / "copy") == ours, copy
