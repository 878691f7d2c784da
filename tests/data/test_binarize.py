"""What is written equals, byte by byte, what fairseq's own pipeline writes."""

import subprocess
import sys
from pathlib import Path

import pytest

from scl_fairseq.data import binarize
from scl_fairseq.data.gpt2 import GPT2
from scl_fairseq.data.tasks import TASKS, read_rows
from scl_fairseq.data.wordpiece import WordPiece
from tests import runs

PREPROCESS = str(Path(sys.executable).parent / "fairseq-preprocess")


def preprocess(text_prefixes, dictionary, destination):
    prefs = [f"--{name}pref={path}" for name, path in text_prefixes.items()]
    subprocess.run(
        [PREPROCESS, "--only-source", *prefs, "--srcdict", dictionary, "--destdir", destination],
        check=True,
        capture_output=True,
        env=runs.ENVIRONMENT,
    )


def assert_same_files(ours, fairseqs, names):
    for name in names:
        assert (ours / name).read_bytes() == (fairseqs / name).read_bytes(), name


def test_equals_fairseq_preprocess(tiny, tmp_path):
    """One sentence a row, WordPiece; labels through the fixed dictionary."""
    encode = WordPiece(tiny.encoder / "vocab.txt").encode
    for name, split in binarize.SPLITS.items():
        rows = read_rows(TASKS["SST-2"], tiny.sample / f"{name}.tsv")
        text = "".join(encode(row.sentences[0]) + "\n" for row in rows)
        (tmp_path / f"{split}.input").write_text(text, encoding="utf-8")
        (tmp_path / f"{split}.label").write_text("".join(f"{row.label}\n" for row in rows))
    for kind, folder in (("input", "input0"), ("label", "label")):
        prefixes = {split: tmp_path / f"{split}.{kind}" for split in ("train", "valid", "test")}
        dictionary = tiny.data / folder / "dict.txt"
        preprocess(prefixes, dictionary, tmp_path / folder)
        names = [f"{split}.{end}" for split in prefixes for end in ("bin", "idx")]
        assert_same_files(tiny.data / folder, tmp_path / folder, names)


def test_pairs_and_large_vocabularies(tmp_path):
    """Two inputs, three-letter words, over 65,500 of them: ids no longer fit 16 bits."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO"
    words = [a + b + c for a in letters for b in letters for c in letters]
    assert len(words) > 65500
    (tmp_path / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    sample = tmp_path / "sample"
    sample.mkdir()
    rows = [f"{i}\tentailment\taaa {words[-1 - i]}\tbbb unknown" for i in range(5)]
    for name in binarize.SPLITS:
        text = "\n".join(["id\tlabel\tsentence1\tsentence2", *rows]) + "\n"
        (sample / f"{name}.tsv").write_text(text)
    out = tmp_path / "out"
    binarize.binarize_sample(TASKS["RTE"], sample, list, tmp_path / "dict.txt", out)
    for part in (0, 1):
        prefix = tmp_path / f"text{part}"
        prefix.write_text("".join(row.split("\t")[2 + part] + "\n" for row in rows))
        preprocess({"train": prefix}, tmp_path / "dict.txt", tmp_path / f"fairseq{part}")
        assert_same_files(
            out / f"input{part}", tmp_path / f"fairseq{part}", ["train.bin", "train.idx"]
        )
    labels = (out / "label" / "dict.txt").read_text().splitlines()
    assert labels == ["entailment 1", "not_entailment 1"]


def test_gpt2_equals_fairseqs_encoder(shared_data):
    from fairseq.data.encoders.gpt2_bpe import GPT2BPE, GPT2BPEConfig

    folder = shared_data / "gpt2_bpe"
    if not folder.exists():
        pytest.skip("GPT-2's BPE is not on this machine")
    files = folder / "encoder.json", folder / "vocab.bpe"
    rows = read_rows(TASKS["SST-2"], shared_data / "glue" / "SST-2" / "dev.tsv")
    lines = [row.sentences[0] for row in rows] + ["", "  naïve 😀\tcafé ", "don't you'LL 123"]
    fairseqs = GPT2BPE(GPT2BPEConfig(gpt2_encoder_json=str(files[0]), gpt2_vocab_bpe=str(files[1])))
    assert GPT2(*files).encode_lines(lines) == [fairseqs.encode(line) for line in lines]


def test_a_failed_run_leaves_the_old_folder(tiny, tmp_path):
    def encode(lines):
        raise ValueError("no such encoding")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    arguments = TASKS["SST-2"], tiny.sample, encode, tiny.encoder / "dict.txt", tmp_path / "out"
    with pytest.raises(ValueError, match="no such encoding"):
        binarize.binarize_sample(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("second", "message"),
    [("broken", "'broken', expected"), ("fine 3", "'fine' is in"), ("</s> 1", "'</s>' is in")],
)
def test_a_malformed_dictionary_is_named(tmp_path, second, message):
    (tmp_path / "dict.txt").write_text(f"fine 1\n{second}\n")
    with pytest.raises(ValueError, match=rf"dict.txt:2: {message}"):
        binarize.read_dictionary(tmp_path / "dict.txt")
