"""fairseq's own way from sentences to binarised data, to compare with."""

import subprocess
import sys
from pathlib import Path

from tests import runs


def bpe_script() -> Path:
    """Where fairseq keeps its encoder script; stock 0.12.2 does not install it."""
    import fairseq

    top = Path(fairseq.__file__).parent
    name = Path("examples", "roberta", "multiprocessing_bpe_encoder.py")
    for folder in (top, top.parent):
        if (folder / name).exists():
            return folder / name
    return top / name


def encode(lines, bpe_dir, folder):
    """Lines of text as lines of GPT-2 ids, by fairseq's script where it is installed."""
    script = bpe_script()
    if not script.exists():
        from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

        encoder = get_encoder(str(bpe_dir / "encoder.json"), str(bpe_dir / "vocab.bpe"))
        return [" ".join(map(str, encoder.encode(line.strip()))) for line in lines]
    folder.mkdir(exist_ok=True)
    source, target = folder / "lines.txt", folder / "lines.bpe"
    source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    files = ["--inputs", source, "--outputs", target, "--workers", "2", "--keep-empty"]
    bpe = ["--encoder-json", bpe_dir / "encoder.json", "--vocab-bpe", bpe_dir / "vocab.bpe"]
    command = [sys.executable, script, *bpe, *files]
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
