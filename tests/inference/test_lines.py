"""Sentences from a stream."""

import io

import pytest

from scl_fairseq.inference.lines import read_blocks


def read(data, num_inputs=None, size=2):
    return [block for block, _ in read_blocks(io.BytesIO(data), "text", num_inputs, size)]


def test_lines_in_blocks():
    data = "\ufeffone\r\n\n drei \u2028 vier\rfive\nlast".encode()
    assert read(data) == [[("one",), ("",)], [(" drei \u2028 vier\rfive",), ("last",)]]
    assert read(b"") == []
    assert read(b"a\tb\n\t\n") == [[("a", "b"), ("", "")]]
    counts = [count for _, count in read_blocks(io.BytesIO(data), "text", size=2)]
    assert sum(counts) == len(data)


@pytest.mark.parametrize(
    ("data", "num_inputs", "message"),
    [
        (b"a\nb\ncaf\xe9\n", None, r"text:3: not UTF-8 \(byte 0xe9\), expected UTF-8$"),
        (b"a\nb\0\n", None, r"text:2: a NUL byte"),
        (b"a\nb\tc\td\n", None, r"text:2: 3 fields, expected one sentence, or two with a tab"),
        (b"a\nb\nc\td\n", None, r"text:3: 2 sentences, expected 1, as in line 1$"),
        (b"a\tb\nc\n", None, r"text:2: 1 sentence, expected 2, as in line 1$"),
        (b"a\n", 2, r"text:1: 1 sentence, expected 2, as in training$"),
        (b"a\n\nb\tc\n", 1, r"text:3: 2 sentences, expected 1, as in training$"),
    ],
)
def test_bad_lines_are_named(data, num_inputs, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(data, num_inputs)
    assert len(str(caught.value).splitlines()) == 1
