"""Fixtures that every part of the suite may use."""

import fcntl
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

# Before torch is imported: tests run side by side, and threads that wait do so busily.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from tests import runs

ROOT = Path(__file__).resolve().parent.parent

# A shell has what it runs in the background ignore Ctrl-C, and so would every process tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """Where encoders are converted to: not in the home of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SCL_FAIRSEQ_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; it may be absent, each test says what it does then."""
    return ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """A converted encoder of two small layers, and 64 binarised synthetic sentences to train on.

    Attributes: ``encoder`` (folder with model.pt), ``flags`` (its architecture), ``sample`` (text),
    ``data`` (binarised).
    """
    from transformers import BertConfig, BertModel

    from scl_fairseq.checkpoints.huggingface import convert
    from scl_fairseq.data import sampling, synthetic
    from scl_fairseq.data.encode import Settings
    from scl_fairseq.data.preprocess import preprocess
    from scl_fairseq.data.records import read_rows
    from scl_fairseq.data.tasks import TASKS

    folder = tmp_path_factory.mktemp("tiny")
    task = TASKS["SST-2"]
    synthetic.write_corpus(folder / "corpus", num_train=400, num_dev=80)
    rows = read_rows(task, folder / "corpus" / "train.tsv")
    words = sorted({word for row in rows for word in row.sentences[0].split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]

    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    huggingface = folder / "huggingface"
    # Wider than BERT's 0.02: in so small an encoder the sentences would hardly differ.
    BertModel(BertConfig(**sizes, initializer_range=0.2)).save_pretrained(huggingface)
    (huggingface / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    flags = convert(huggingface, folder / "encoder").flags

    written = sampling.write_samples(
        task, folder / "corpus", folder / "samples", sampling.Size(64), 1, seed=0
    )
    (sample,) = written.folders
    preprocess(task, sample, folder / "data", Settings("wordpiece", folder / "encoder"))
    return SimpleNamespace(
        encoder=folder / "encoder", flags=list(flags), sample=sample, data=folder / "data"
    )


@pytest.fixture(scope="session")
def lines(tiny, tmp_path_factory) -> SimpleNamespace:
    """The 64 sentences of ``tiny`` without labels: ``data``; ``triples`` of them, one shifted."""
    from scl_fairseq.data.encode import Settings
    from scl_fairseq.data.preprocess import preprocess
    from scl_fairseq.data.sources import open_lines

    folder = tmp_path_factory.mktemp("lines")
    rows = (tiny.sample / "train.tsv").read_text("utf-8").splitlines()[1:]
    sentences = [row.split("\t")[2] for row in rows]
    shifted = zip(sentences, sentences[1:] + sentences, sentences[7:] + sentences)  # noqa: B905
    texts = {"data": sentences, "triples": ["\t".join(triple) for triple in shifted]}
    for name, split in texts.items():
        source = folder / f"{name}-text"
        source.mkdir()
        (source / "train.txt").write_text("\n".join(split), "utf-8")
        (source / "valid.txt").write_text("\n".join(split[:12]), "utf-8")
        settings = Settings("wordpiece", tiny.encoder)
        preprocess(open_lines(source), source, folder / name, settings, workers=1)
    return SimpleNamespace(data=folder / "data", triples=folder / "triples")


@pytest.fixture(scope="session")
def gpt2_files(tmp_path_factory) -> Path:
    """A small byte-level BPE, in the files of GPT-2's: encoder.json, vocab.bpe and dict.txt."""
    from benchmarks.cases import train_bpe
    from scl_fairseq.data import synthetic

    folder = tmp_path_factory.mktemp("gpt2") / "bpe"
    train_bpe(folder, [sentence for sentence, _ in synthetic.generate(400)], vocabulary=400)
    return folder


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory) -> Path:
    """A folder with two small translation models, ``en-xx`` and ``xx-en``, trained once.

    Several processes of one test run share it: training takes most of a minute.
    """
    from examples.noise import toy_models

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, lock = base / "toy-models", base / "toy-models.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            toy_models.make(folder)
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def classifier(tiny, tmp_path_factory) -> Path:
    """A folder of checkpoints of a classifier; the data that it was trained on is gone."""
    folder = tmp_path_factory.mktemp("classifier")
    data = shutil.copytree(tiny.data, folder / "data")
    arguments = runs.command(tiny, folder / "run", "--max-epoch", 4, "--lr", "3e-3")
    arguments[1] = str(data)
    runs.train([*arguments, "--no-epoch-checkpoints"])
    shutil.rmtree(data)
    return folder / "run"


@pytest.fixture(scope="session")
def train(tiny):
    """``train(save_dir, *options)``: fairseq-train on ``tiny`` in a process of its own."""

    def run(save_dir, *options, **kwargs):
        return runs.train(runs.command(tiny, save_dir, *options), **kwargs)

    return run
