"""The same symbols as fairseq's own GPT-2 encoder, on every kind of text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq.data import encodings
from scl_fairseq.data.encodings import load_encoder
from scl_fairseq.data.gpt2 import GPT2
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS

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
    from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

    files = gpt2_files / "encoder.json", gpt2_files / "vocab.bpe"
    return GPT2(*files), get_encoder(*map(str, files))


@settings(max_examples=400, deadline=None)
@given(text=TEXT)
def test_equals_fairseqs_encoder(both, text):
    ours, fairseqs = both
    assert ours.split(text) == fairseqs.re.findall(fairseqs.pat, text)
    assert ours.encode_lines([text]) == [" ".join(map(str, fairseqs.encode(text)))]


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_plain_text_is_split_as_any_other(both, text):
    """Printable ASCII takes another way."""
    _, fairseqs = both
    assert GPT2.split(text) == fairseqs.re.findall(fairseqs.pat, text)


def test_equals_fairseqs_encoder_with_the_real_files(shared_data):
    from fairseq.data.encoders.gpt2_bpe import GPT2BPE, GPT2BPEConfig

    folder = shared_data / "gpt2_bpe"
    if not folder.exists():
        pytest.skip("GPT-2's BPE is not on this machine")
    files = folder / "encoder.json", folder / "vocab.bpe"
    rows = read_rows(TASKS["SST-2"], shared_data / "glue" / "SST-2" / "dev.tsv")
    lines = [row.sentences[0] for row in rows] + ["", "  naïve 😀\tcafé ", "don't you'LL 123"]
    fairseqs = GPT2BPE(GPT2BPEConfig(gpt2_encoder_json=str(files[0]), gpt2_vocab_bpe=str(files[1])))
    assert GPT2(*files).encode_lines(lines) == [fairseqs.encode(line) for line in lines]


def test_forgetting_pieces_changes_nothing(gpt2_files, monkeypatch):
    """Memory is bounded by starting over; what is encoded stays the same."""
    lines = [f"word{i} and word{i + 1} again" for i in range(60)]
    load_encoder.cache_clear()
    expected = load_encoder("gpt2", gpt2_files).encode(lines)
    monkeypatch.setattr(encodings, "YOUNG_PIECES", 20)
    load_encoder.cache_clear()
    encoder = load_encoder("gpt2", gpt2_files)
    assert [encoder.encode([line])[0] for line in lines] == expected
    load_encoder.cache_clear()
