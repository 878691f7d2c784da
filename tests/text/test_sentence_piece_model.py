"""The reader of SentencePiece models against the library that writes them."""

from pathlib import Path

import pytest
import sentencepiece

from scl_fairseq.checkpoints.export_tokenizer import build_tokenizer
from scl_fairseq.data import synthetic
from scl_fairseq.text.sentence_piece_model import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    read_sentence_piece,
)

LINES = [sentence for sentence, _ in synthetic.generate(300)]


def train(folder: Path, **options) -> Path:
    sentencepiece.SentencePieceTrainer.train(
        **{
            "sentence_iterator": iter(LINES),
            "model_prefix": str(folder / "spm"),
            "vocab_size": 200,
            "hard_vocab_limit": False,
            "minloglevel": 2,
            "num_threads": 1,
            **options,
        }
    )
    return folder / "spm.model"


def test_pieces_and_scores_are_the_librarys(tmp_path):
    path = train(tmp_path)
    processor = sentencepiece.SentencePieceProcessor(str(path))
    model = read_sentence_piece(path)
    assert len(model.pieces) == len(processor)
    for place, (spelling, score, kind) in enumerate(model.pieces):
        assert spelling == processor.id_to_piece(place)
        assert score == processor.get_score(place)
        assert (kind == UNKNOWN) == processor.is_unknown(place)
        assert (kind == CONTROL) == processor.is_control(place)
    assert model.is_unigram
    assert len(model.charsmap) > 100_000
    assert (model.adds_prefix, model.removes_spaces, model.escapes_spaces) == (True, True, True)
    assert not model.has_byte_fallback
    assert not model.marks_ends


def encode(path: Path, lines: list[str]) -> list[list[str]]:
    symbols = ["<s>", "<pad>", "</s>", "<unk>"]
    symbols += [
        spelling for spelling, _, kind in read_sentence_piece(path).pieces if kind == NORMAL
    ]
    tokenizer = build_tokenizer("sentencepiece", [path], [*symbols, "<mask>"], 2)
    return [tokenizer.encode(line, add_special_tokens=False).tokens for line in lines]


@pytest.mark.parametrize(
    "options",
    [
        {"normalization_rule_name": "identity"},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False},
        {"normalization_rule_name": "nmt_nfkc_cf"},
        {"split_by_whitespace": False},
    ],
    ids=str,
)
def test_models_of_other_settings_split_as_the_library_does(tmp_path, options):
    path = train(tmp_path, **options)
    processor = sentencepiece.SentencePieceProcessor(str(path))
    lines = [*LINES[:50], "", " ", "  two  spaces  ", "THE Film", "a ▁ b ▁"]
    assert encode(path, lines) == [processor.encode(line, out_type=str) for line in lines]


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe"},
        {"byte_fallback": True, "vocab_size": 400},
        {"treat_whitespace_as_suffix": True},
        {"user_defined_symbols": ["film"]},
    ],
    ids=str,
)
def test_models_that_would_split_otherwise_are_refused(tmp_path, options):
    path = train(tmp_path, **options)
    with pytest.raises(ValueError, match=r"spm\.model: "):
        encode(path, ["a film"])
