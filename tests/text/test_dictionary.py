"""A dictionary means what it means to fairseq, whose own reader is the oracle."""

import shutil
from pathlib import Path

import pytest
from fairseq.data import Dictionary as Fairseqs
from hypothesis import given
from hypothesis import strategies as st

from scl_fairseq.cli import convert, embed, evaluate, preprocess
from scl_fairseq.text.dictionary import label_names, read_dictionary

# The pieces of which lines are made: odd counts, spaces, flags, line ends and symbols.
PIECES = [
    *("a", "b", "<s>", "</s>", "<unk>", "<mask>", "madeupword0001", "é", "漢", "262", "##s", ""),
    *(" ", " ", " ", "  ", "\t", "\u00a0", "\u2028", "\x85", "\x1c", "\x0b", "\ufeff"),
    *("1", "-1", "+3", "0", "007", "1_000", "٣", "1.5", "1e3", "x"),
    *(" #fairseq:overwrite", "#fairseq:overwrite", " #other"),
    *("\n", "\n", "\n", "\r\n", "\r"),
]


def fairseqs(path):
    """Symbols and indices as fairseq reads them; None where it refuses the file."""
    try:
        found = Fairseqs.load(str(path))
    except Exception:  # it raises several kinds
        return None
    return found.symbols, found.indices, found.count[4:]


def assert_same(path):
    expected = fairseqs(path)
    if expected is None:
        with pytest.raises(ValueError, match=r"dict\.txt(:\d+: .*(expected|twice)|: not UTF-8)"):
            read_dictionary(path)
        return
    found = read_dictionary(path)
    assert (list(found.symbols), found.index, list(found.counts)) == expected
    # What this package writes means the same again.
    again = path.with_name("again.txt")
    again.write_text(found.text, "utf-8", newline="\n")
    symbols, indices, counts = fairseqs(again)
    assert (symbols, indices, counts) == expected


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_lines_of_every_kind(tmp_path_factory, pieces):
    path = tmp_path_factory.getbasetemp() / "dict.txt"
    path.write_bytes("".join(pieces).encode("utf-8"))
    assert_same(path)


LINES = st.tuples(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=8),
    st.sampled_from([" ", "  ", " \t", "\u00a0 "]),
    st.integers(-3, 10**12),
    st.sampled_from(["", " ", " #fairseq:overwrite", " #fairseq:overwrite \t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)


@given(st.lists(LINES, max_size=12))
def test_whole_lines_of_every_kind(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "dict.txt"
    path.write_bytes("".join("".join(map(str, line)) for line in lines).encode("utf-8"))
    assert_same(path)


@pytest.mark.parametrize("content", [b"a \xff1\n", b"\xff\xfea\x00", b"a 1\nb\x80 2\n"])
def test_not_utf8(content, tmp_path):
    (tmp_path / "dict.txt").write_bytes(content)
    assert_same(tmp_path / "dict.txt")


def test_label_names_are_those_of_fairseqs_outputs(tmp_path):
    path = tmp_path / "dict.txt"
    path.write_text("b 3\nnot\u2028a -1\na 1\nb 1 #fairseq:overwrite\nmadeupword0000 0\n", "utf-8")
    assert label_names(path) == ["b", "not\u2028a", "a", "b"]


@pytest.fixture
def odd(classifier, tiny, tmp_path):
    """Data and a checkpoint whose dictionaries say the same with odd counts and line ends."""
    folder = tmp_path / "odd"
    data = shutil.copytree(tiny.data, folder / "data")
    run = shutil.copytree(classifier, folder / "run")
    bpe = shutil.copytree(tiny.encoder, folder / "bpe")
    for path in folder.rglob("dict.txt"):
        symbols = [line.rsplit(" ", 1)[0] for line in path.read_text("utf-8").splitlines()]
        lines = [f"{symbol} {-place}\t \r\n" for place, symbol in enumerate(symbols)]
        path.write_bytes("".join(lines).encode())
    return folder, data, run, bpe


def test_every_command_reads_them(odd, tiny, tmp_path, capsys):
    folder, data, run, bpe = odd
    (folder / "text").write_text("a film\n")
    named = ["--task", "SST-2", "--data-dir", tiny.sample, "--bpe", "wordpiece", "--workers", 1]
    calls = [
        (preprocess.main, [*named, "--bpe-dir", bpe, "--destdir", folder / "bin"]),
        (embed.main, [run, "--input", folder / "text", "--output", folder / "v.npy"]),
        (evaluate.main, [run, "--data", data, "--bootstrap", 10]),
        (convert.main, ["--to", "huggingface", run, folder / "out"]),
    ]
    for main, arguments in calls:
        assert main(list(map(str, arguments))) == 0, capsys.readouterr().err
    for part in ("input0/train.bin", "label/train.bin"):
        assert (folder / "bin" / part).read_bytes() == (tiny.data / part).read_bytes()
    dictionary = Path(folder / "bin" / "input0" / "dict.txt")
    assert (
        Fairseqs.load(str(dictionary)).symbols[4:]
        == read_dictionary(tiny.encoder / "dict.txt").own_symbols
    )
