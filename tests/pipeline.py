"""fairseq's own way from sentences to binarised data, to compare with."""

import subprocess
import sys

from benchmarks.pipelines import fairseq_folder, find_encoder
from tests import runs


def encode(lines, bpe_dir, folder):
    """Lines of text as lines of GPT-2 ids, by fairseq's script."""
    folder.mkdir(exist_ok=True)
    source, target = folder / "lines.txt", folder / "lines.bpe"
    source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    files = ["--inputs", source, "--outputs", target, "--workers", "2", "--keep-empty"]
    bpe = ["--encoder-json", bpe_dir / "encoder.json", "--vocab-bpe", bpe_dir / "vocab.bpe"]
    command = [sys.executable, find_encoder(fairseq_folder()), *bpe, *files]
    subprocess.run(command, check=True, capture_output=True, env=runs.ENVIRONMENT)
    return target.read_text("utf-8").split("\n")[:-1]


def preprocess(texts, dictionary, destination):
    """``fairseq-preprocess`` on lines of symbols; ``texts`` maps train, valid, test to lines."""
    from fairseq import options
    from fairseq_cli.preprocess import main

    arguments = ["--only-source", "--srcdict", str(dictionary), "--destdir", str(destination)]
    destination.mkdir(parents=True)
    for split, lines in texts.items():
        path = destination / f"{split}.text"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
        arguments += [f"--{split}pref", str(path)]
    main(options.get_preprocessing_parser().parse_args(arguments))


def assert_same_files(ours, fairseqs, names):
    """Byte by byte."""
    for name in names:
        assert (ours / name).read_bytes() == (fairseqs / name).read_bytes(), name
