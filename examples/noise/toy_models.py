"""Two small translation models between English and a toy language, for the smoke runs and tests.

usage: python examples/noise/toy_models.py FOLDER

Writes FOLDER/en-xx (Moses and fastBPE, an ensemble of two) and FOLDER/xx-en (SentencePiece), laid
out as fairseq's archives are, and trains them on the project's synthetic sentences in a minute.
Three English words share a word of the toy language: one of them stands there often, one sometimes,
one rarely, so that the way back has something to choose from.
"""

from __future__ import annotations

import collections
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from scl_fairseq.data import synthetic
from scl_fairseq.utf8 import begin_command

FOREIGN = "xx"
NUM_SENTENCES = 4500
SHARES = (0.6, 0.3, 0.1)  # of the words that share one of the toy language
MERGES, PIECES = 1500, 1200
POSITIONS = 64
EPOCHS = 8
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo")
# Words of one list stand in the same places.
_LISTS = (
    *synthetic.ADJECTIVES,
    *synthetic.QUALITIES,
    synthetic.ASPECTS,
    synthetic.FILMS,
    synthetic.DEGREES,
)
_GROUPS = [words[at : at + 3] for words in _LISTS for at in range(0, len(words) - 2, 3)]
_GROUP_OF = {word: group for group in _GROUPS for word in group}


def respell(sentences: Iterable[str], seed: int = 0) -> list[str]:
    """The sentences with each word that has others beside it drawn anew, by ``SHARES``."""
    draw = random.Random(seed).random

    def word(old: str) -> str:
        group = _GROUP_OF.get(old)
        if group is None:
            return old
        number = draw()
        return group[0 if number < SHARES[0] else 1 if number < SHARES[0] + SHARES[1] else 2]

    return [" ".join(map(word, sentence.split())) for sentence in sentences]


def to_foreign(sentence: str) -> str:
    """A sentence in the toy language: word by word, one word for each group."""
    return " ".join(
        word
        if not word.isalpha() and "-" not in word
        else _foreign(_GROUP_OF.get(word, (word,))[0])
        for word in sentence.split()
    )


def _foreign(word: str) -> str:
    # zlib or a hash could meet itself; letters are enough.
    number = sum((ord(letter) * 31**at) for at, letter in enumerate(word))
    syllables = []
    for _ in range(4):
        number, rest = divmod(number, len(SYLLABLES))
        syllables.append(SYLLABLES[rest])
    return "".join(syllables)


def make(folder: Path) -> None:
    """Train both models and write their folders, whole or not at all."""
    english = respell(sentence for sentence, _ in synthetic.generate(NUM_SENTENCES, seed=1))
    foreign = list(map(to_foreign, english))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        work = Path(place)
        _make_forward(work, english, foreign)
        _make_backward(work, english, foreign)
        for name in (f"en-{FOREIGN}", f"{FOREIGN}-en"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (work / name).rename(folder / name)


def _make_forward(work: Path, english: Sequence[str], foreign: Sequence[str]) -> None:
    import fastBPE
    from sacremoses import MosesTokenizer
    from subword_nmt.learn_bpe import learn_bpe

    target = work / f"en-{FOREIGN}"
    target.mkdir()
    # As fairseq's moses tokenizer calls it.
    options = {"aggressive_dash_splits": True, "return_str": True, "escape": True}
    moses = MosesTokenizer("en")
    texts = [[moses.tokenize(text, **options) for text in part] for part in (english, foreign)]
    with (work / "tokens").open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for part in texts for line in part)
    with (
        (work / "tokens").open(encoding="utf-8") as source,
        (work / "merges").open("w", encoding="utf-8") as codes,
    ):
        learn_bpe(source, codes, MERGES)
    # fastBPE wants a count behind each merge, and no heading.
    merges = (work / "merges").read_text("utf-8").splitlines()[1:]
    codes = "".join(f"{merge} {len(merges) - at}\n" for at, merge in enumerate(merges))
    (target / "bpecodes").write_text(codes, encoding="utf-8")
    bpe = fastBPE.fastBPE(str(target / "bpecodes"))
    _train(work, target, "en", FOREIGN, *(bpe.apply(part) for part in texts))
    for number, epoch in enumerate((EPOCHS - 1, EPOCHS), start=1):
        (work / f"en-{FOREIGN}-run" / f"checkpoint{epoch}.pt").rename(target / f"model{number}.pt")


def _make_backward(work: Path, english: Sequence[str], foreign: Sequence[str]) -> None:
    import sentencepiece

    target = work / f"{FOREIGN}-en"
    target.mkdir()
    model = target / "sentencepiece.bpe.model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*english, *foreign]),
        model_prefix=str(model).removesuffix(".model"),
        model_type="bpe",
        vocab_size=PIECES,
        num_threads=1,
        minloglevel=2,
    )
    model.with_suffix(".vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    texts = (
        [" ".join(processor.encode(text, out_type=str)) for text in part]
        for part in (foreign, english)
    )
    _train(work, target, FOREIGN, "en", *texts)
    (work / f"{FOREIGN}-en-run" / f"checkpoint{EPOCHS}.pt").rename(target / "model.pt")


def _train(
    work: Path, target: Path, source: str, into: str, texts: Sequence[str], wanted: Sequence[str]
) -> None:
    """``fairseq-train`` in this process, from text that is left as it is."""
    import logging

    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq_cli import train

    data, run = work / f"{target.name}-data", work / f"{target.name}-run"
    data.mkdir()
    for language, part in ((source, texts), (into, wanted)):
        lines = "".join(f"{line}\n" for line in part)
        (data / f"train.{source}-{into}.{language}").write_text(lines, encoding="utf-8")
        counts = collections.Counter(word for line in part for word in line.split())
        words = "".join(f"{word} {count}\n" for word, count in sorted(counts.items()))
        for place in (data, target):
            (place / f"dict.{language}.txt").write_text(words, encoding="utf-8")
    arguments = [
        str(data), "--task", "translation", "--source-lang", source, "--target-lang", into,
        "--dataset-impl", "raw", "--save-dir", str(run), "--disable-validation", "--cpu",
        "--distributed-world-size", "1", "--no-progress-bar", "--num-workers", "0",
        "--arch", "transformer_tiny", "--encoder-layers", "1", "--decoder-layers", "1",
        "--encoder-embed-dim", "96", "--decoder-embed-dim", "96", "--dropout", "0",
        "--max-source-positions", str(POSITIONS), "--max-target-positions", str(POSITIONS),
        "--share-decoder-input-output-embed", "--criterion", "cross_entropy", "--optimizer", "adam",
        "--adam-betas", "(0.9,0.98)", "--lr", "4e-3", "--lr-scheduler", "inverse_sqrt",
        "--warmup-updates", "60", "--clip-norm", "1", "--max-tokens", "2000", "--seed", "1",
        "--max-epoch", str(EPOCHS), "--keep-last-epochs", "2", "--no-last-checkpoints",
        "--no-save-optimizer-state", "--log-format", "none", "--data-buffer-size", "0",
    ]  # fmt: skip
    level = logging.getLogger().manager.disable
    logging.disable(logging.INFO)  # fairseq's settings
    try:
        parser = options.get_training_parser()
        parsed = options.parse_args_and_arch(parser, input_args=arguments)
        train.main(convert_namespace_to_omegaconf(parsed))
    finally:
        logging.disable(level)


def main() -> None:
    """Make the models in the folder that the command line names."""
    begin_command()
    if len(sys.argv) != 2:
        sys.exit(__doc__.split("\n\n")[1])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    make(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
