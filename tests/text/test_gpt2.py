"""The same indices as fairseq's own GPT-2 encoder, on every kind of text."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.text import encodings
from scl_fairseq.text.encodings import load_encoder
from scl_fairseq.text.gpt2 import GPT2

# Letters, numbers and spaces of many kinds are where splittings differ.
TEXT = st.text(
    st.one_of(
        st.sampled_from(" \t\u00a0\u2028\u3000\x1c\x1f'\"sdtrevml09½²Ⅷ٣aAéßЖ漢😀\u0301\u200d"),
        st.characters(codec="utf-8"),
        st.characters(min_codepoint=32, max_codepoint=126),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def both(gpt2_files):
    """Our encoder, and fairseq's: text to the indices that its pipeline stores."""
    return load_encoder("gpt2", gpt2_files), fairseqs_encoder(gpt2_files)


def fairseqs_encoder(folder):
    from fairseq.data import Dictionary
    from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

    bpe = get_encoder(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
    dictionary = Dictionary.load(str(folder / "dict.txt"))

    def encode(text):
        line = " ".join(map(str, bpe.encode(text)))
        return dictionary.encode_line(line, add_if_not_exist=False).tolist()

    return SimpleNamespace(encode=encode, split=lambda text: bpe.re.findall(bpe.pat, text))


def encoded(encoder, texts):
    return [np.frombuffer(row, encoder.dictionary.dtype).tolist() for row in encoder.encode(texts)]


@settings(max_examples=400, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=4))
def test_equals_fairseqs_encoder(both, texts):
    ours, fairseqs = both
    assert [GPT2.split(text) for text in texts] == list(map(fairseqs.split, texts))
    assert encoded(ours, texts) == list(map(fairseqs.encode, texts))


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_plain_text_is_split_as_any_other(both, text):
    """Printable ASCII takes another way."""
    _, fairseqs = both
    assert GPT2.split(text) == fairseqs.split(text)


def test_equals_fairseqs_encoder_with_the_real_files(shared_data):
    folder = shared_data / "gpt2_bpe"
    if not folder.exists():
        pytest.skip("GPT-2's BPE is not on this machine")
    rows = read_rows(TASKS["SST-2"], shared_data / "glue" / "SST-2" / "dev.tsv")
    lines = [row.sentences[0] for row in rows] + ["", "  naïve 😀\tcafé ", "don't you'LL 123"]
    fairseqs = fairseqs_encoder(folder)
    assert encoded(load_encoder("gpt2", folder), lines) == list(map(fairseqs.encode, lines))


def test_forgetting_pieces_changes_nothing(gpt2_files, monkeypatch):
    """Memory is bounded by starting over; what is encoded stays the same."""
    lines = [f"word{i} and word{i + 1} again" for i in range(60)]
    encodings._load.cache_clear()
    expected = load_encoder("gpt2", gpt2_files).encode(lines)
    monkeypatch.setattr(encodings, "YOUNG_PIECES", 20)
    encodings._load.cache_clear()
    encoder = load_encoder("gpt2", gpt2_files)
    assert [encoder.encode([line])[0] for line in lines] == expected
    encodings._load.cache_clear()
