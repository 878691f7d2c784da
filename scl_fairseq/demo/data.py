"""Encoder and samples of the demo, from packages and tables to what fairseq reads."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from scl_fairseq.checkpoints.embedded import convert_encoder
from scl_fairseq.checkpoints.huggingface import Conversion
from scl_fairseq.data import sampling, synthetic
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.records import Row, read_rows
from scl_fairseq.demo.settings import TASK, DemoSettings


def prepare_encoder(settings: DemoSettings) -> Conversion:
    """Convert the embedded encoder."""
    return convert_encoder(settings.encoder)


def prepare_data(settings: DemoSettings) -> None:
    """Draw the samples, and binarise them."""
    if settings.glue_dir:
        source = settings.glue_dir / "SST-2"
    else:
        source = settings.drawn / "corpus"
        synthetic.write_corpus(source, seed=settings.seed)
    sampling.write_samples(
        TASK,
        source,
        settings.drawn / "samples",
        sampling.Size(settings.num_examples),
        settings.num_samples,
        settings.seed,
    )
    wordpiece = Settings("wordpiece", settings.encoder)
    for index in range(settings.num_samples):
        name = f"sample{index}"
        preprocess(TASK, settings.sample(index), settings.drawn / "bin" / name, wordpiece)


def rows_of(settings: DemoSettings, index: int, split: str) -> list[Row]:
    """The examples of a sample."""
    return list(read_rows(TASK, settings.sample(index) / f"{split}.tsv"))


def words_alone(settings: DemoSettings) -> list[list[bool]]:
    """Which test sentences of each sample a regression on weighted word counts has right."""
    return [_words_alone(*(rows_of(settings, i, s) for s in ("train", "test")))
            for i in range(settings.num_samples)]  # fmt: skip


def _words_alone(train: Sequence[Row], test: Sequence[Row]) -> list[bool]:
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10))
    model.fit([row.sentences[0] for row in train], [row.label for row in train])
    found = model.predict([row.sentences[0] for row in test])
    return [label == row.label for label, row in zip(found, test, strict=True)]
